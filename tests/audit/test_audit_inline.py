"""record_in() stores the event in the caller's transaction. A failure leaves the transaction usable."""

from __future__ import annotations

import asyncio
import re

import psycopg
import pytest
from psycopg_pool import ConnectionPool

from usersync.errors import DatabaseError

pytestmark = pytest.mark.newest_server


def rejected():
    """An actor function. It returns an actor type that the database rejects."""
    return {"actor_type": "robot"}


@pytest.fixture(autouse=True)
def _work(store):
    store.owner.execute("create table public.work (n integer)")


@pytest.fixture
def without_audit_function(store):
    store.owner.execute("alter function public.record_audit_events(jsonb) rename to gone")


def work_is_committed(store):
    return [row[0] for row in store.owner.execute("select n from public.work order by n").fetchall()]


def test_record_in_works_with_psycopg(store, offline):
    with psycopg.connect(store.dsn) as connection:
        # record_in() is the first statement: it begins the transaction and must not end it.
        first = offline.record_in(connection, "a.b", entity=("product", 42), after={"n": 1})
        connection.execute("insert into public.work values (1)")
        assert store.ids() == []
        connection.commit()
        offline.record_in(connection, "a.b")
        connection.execute("insert into public.work values (2)")
        connection.rollback()
    event = store.event()
    assert (event["id"], event["entity_id"], event["changes"]) == (first, "42", {"n": [None, 1]})
    assert work_is_committed(store) == [1]


def test_record_in_works_with_psycopg_in_autocommit_mode(store, offline):
    with psycopg.connect(store.dsn, autocommit=True) as connection:
        first = offline.record_in(connection, "a.b")
        with connection.transaction():
            second = offline.record_in(connection, "a.b")
        with connection.transaction(force_rollback=True):
            offline.record_in(connection, "a.b")
    assert sorted(store.ids()) == [first, second]


@pytest.mark.usefixtures("without_audit_function")
def test_a_failure_leaves_the_transaction_usable_and_is_counted(store, offline, caplog):
    with psycopg.connect(store.dsn) as connection:
        connection.execute("insert into public.work values (1)")
        assert offline.record_in(connection, "a.b") is None
        connection.execute("insert into public.work values (2)")
        with pytest.raises(DatabaseError) as raised:
            offline.record_in(connection, "a.b", required=True)
        assert raised.value.sqlstate == "42883"
        assert "LINE 1" not in str(raised.value)
        assert "usersync apply" in raised.value.hint
        connection.execute("insert into public.work values (3)")
    assert work_is_committed(store) == [1, 2, 3]
    stats = offline.stats()
    assert (stats.dropped, stats.waiting) == (1, 0)
    assert "record_in" in caplog.text


def test_record_in_does_not_change_a_failed_transaction(store, offline):
    with psycopg.connect(store.dsn) as connection:
        with pytest.raises(psycopg.Error):
            connection.execute("select 1/0")
        assert offline.record_in(connection, "a.b") is None
        assert connection.info.transaction_status == psycopg.pq.TransactionStatus.INERROR
        connection.rollback()


def test_record_in_returns_none_or_raises_for_a_rejected_event(store, offline):
    with psycopg.connect(store.dsn) as connection:
        assert offline.record_in(connection, "a.b", actor_id=rejected) is None
        with pytest.raises(DatabaseError, match=r"a\.b .*is_user_service_system_or_anonymous") as raised:
            offline.record_in(connection, "a.b", actor_id=rejected, required=True)
        assert "Correct the event" in raised.value.hint


def test_record_in_raises_if_its_argument_is_not_a_connection(store, offline, url):
    sqlalchemy = pytest.importorskip("sqlalchemy")
    from sqlalchemy.ext.asyncio import create_async_engine  # noqa: PLC0415

    with psycopg.connect(store.dsn) as connection, ConnectionPool(store.dsn, open=False) as pool:
        wrong = [
            *(None, 5, object(), store.dsn, connection.cursor(), pool),
            *(sqlalchemy.create_engine(url), create_async_engine(url), sqlalchemy.orm.sessionmaker()),
        ]
        prepared = offline.prepare("a.b")
        for each in wrong:
            name = re.escape(f"does not take {type(each).__module__}.{type(each).__qualname__}")
            for required in (False, True):
                with pytest.raises(TypeError, match=name):
                    offline.record_in(each, "a.b", required=required)
            with pytest.raises(TypeError, match=name):
                offline.record_prepared_in(each, [prepared])
    assert offline.stats().dropped == 0


def test_without_strict_an_argument_that_is_not_a_connection_drops_the_event(make_log):
    log = make_log(None, strict=False)
    assert log.record_in(None, "a.b") is None
    with pytest.raises(DatabaseError, match=r"does not take builtins\.int"):
        log.record_in(5, "a.b", required=True)
    assert log.stats().dropped == 1


def test_record_in_works_with_asyncio_connections_of_psycopg(store, offline):
    async def main():
        async with await psycopg.AsyncConnection.connect(store.dsn) as connection:
            with offline.context(actor_id="ada"):
                recording = offline.record_in(connection, "a.b")
            first = await recording
            await connection.execute("insert into public.work values (1)")
            await connection.commit()
            await offline.record_in(connection, "a.b")
            await connection.rollback()
            store.owner.execute("alter function public.record_audit_events(jsonb) rename to gone")
            await connection.execute("insert into public.work values (2)")
            assert await offline.record_in(connection, "a.b") is None
            await connection.commit()
            return first

    first = asyncio.run(main())
    event = store.event()
    assert (event["id"], event["actor_id"]) == (first, "ada")
    assert work_is_committed(store) == [1, 2]


@pytest.fixture
def url(store):
    return store.dsn.replace("postgresql://", "postgresql+psycopg://")


def test_record_in_works_with_sqlalchemy(store, offline, url):
    sqlalchemy = pytest.importorskip("sqlalchemy")
    from sqlalchemy.orm import Session  # noqa: PLC0415

    engine = sqlalchemy.create_engine(url, poolclass=sqlalchemy.NullPool)
    insert = sqlalchemy.text("insert into public.work values (:n)")
    with engine.connect() as connection:
        first = offline.record_in(connection, "a.b")
        connection.execute(insert, {"n": 1})
        connection.commit()
        offline.record_in(connection, "a.b")
        connection.rollback()
    with Session(engine) as session:
        second = offline.record_in(session, "a.b")
        session.execute(insert, {"n": 2})
        session.commit()
        offline.record_in(session, "a.b")
        session.rollback()
    store.owner.execute("alter function public.record_audit_events(jsonb) rename to gone")
    with Session(engine) as session, session.begin():
        session.execute(insert, {"n": 3})
        assert offline.record_in(session, "a.b") is None
        session.execute(insert, {"n": 4})
    assert sorted(store.ids()) == [first, second]
    assert work_is_committed(store) == [1, 2, 3, 4]


def test_record_in_works_with_sqlalchemys_asyncio_extension(store, offline, url):
    pytest.importorskip("sqlalchemy")
    pytest.importorskip("greenlet")
    from sqlalchemy import NullPool, text  # noqa: PLC0415
    from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine  # noqa: PLC0415

    async def main():
        engine = create_async_engine(url, poolclass=NullPool)
        async with engine.connect() as connection:
            first = await offline.record_in(connection, "a.b")
            await connection.commit()
        async with AsyncSession(engine) as session:
            second = await offline.record_in(session, "a.b")
            await session.commit()
            await offline.record_in(session, "a.b")
            await session.rollback()
            store.owner.execute("alter function public.record_audit_events(jsonb) rename to gone")
            assert await offline.record_in(session, "a.b") is None
            await session.execute(text("insert into public.work values (1)"))
            await session.commit()
        await engine.dispose()
        return [first, second]

    assert asyncio.run(main()) == sorted(store.ids())
    assert work_is_committed(store) == [1]


def test_record_in_works_with_django(store, offline):
    django = pytest.importorskip("django")
    from django.conf import settings  # noqa: PLC0415
    from psycopg.conninfo import conninfo_to_dict  # noqa: PLC0415

    if not settings.configured:
        settings.configure(USE_TZ=True)
    django.setup()
    from django.db import connections, transaction  # noqa: PLC0415

    parts = conninfo_to_dict(store.dsn)
    database = {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": parts["dbname"],
        "USER": parts["user"],
        "PASSWORD": parts["password"],
        "HOST": parts["host"],
        "PORT": parts["port"],
    }
    connections.databases["audit"] = connections.configure_settings({"default": {}, "audit": database})[
        "audit"
    ]
    connection = connections["audit"]
    try:
        with transaction.atomic(using="audit"), connection.cursor() as cursor:
            first = offline.record_in(connection, "a.b")
            cursor.execute("insert into public.work values (1)")
        with transaction.atomic(using="audit"):
            offline.record_in(connection, "a.b")
            transaction.set_rollback(True, using="audit")
        store.owner.execute("alter function public.record_audit_events(jsonb) rename to gone")
        with transaction.atomic(using="audit"), connection.cursor() as cursor:
            assert offline.record_in(connection, "a.b") is None
            cursor.execute("insert into public.work values (2)")
    finally:
        connection.close()
        del connections["audit"]
    assert store.ids() == [first]
    assert work_is_committed(store) == [1, 2]


def test_prepared_events_keep_the_values_of_their_preparation(store, log):
    product = {"name": "Bolt"}
    with log.context(actor_id="ada", request_id="r"):
        event = log.prepare("product.created", entity=("product", 1), after=product)
    product["name"] = "Nut"
    assert store.ids() == []
    assert log.record_prepared(event) == log.record_prepared(event) == event.id
    assert log.flush()
    found = store.event()
    assert (found["id"], found["actor_id"], found["request_id"]) == (event.id, "ada", "r")
    assert found["changes"] == {"name": [None, "Bolt"]}


def test_prepared_events_are_stored_in_the_transaction(store, offline):
    events = [offline.prepare("a.b", metadata={"n": n}) for n in range(3)]
    spoilt = offline.prepare("a.b", actor_id=rejected)
    with psycopg.connect(store.dsn) as connection:
        assert offline.record_prepared_in(connection, [*events, spoilt]) == 3
        with pytest.raises(DatabaseError, match="actor_type: "):
            offline.record_prepared_in(connection, [spoilt], required=True)
    store.owner.execute("alter function public.record_audit_events(jsonb) rename to gone")
    with psycopg.connect(store.dsn) as connection:
        assert offline.record_prepared_in(connection, events) == 0
    assert store.ids() == sorted(event.id for event in events)
    assert offline.stats().dropped == 1 + 3
