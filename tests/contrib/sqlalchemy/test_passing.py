"""pass_context(): row tracking records the actor, and no setting is left on the connection."""

from __future__ import annotations

import asyncio
import logging

import pytest
from sqlalchemy import NullPool, bindparam, func, insert, literal_column, select, text, union
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from audit_settings import with_audit_log
from fixtures_pooler import pgbouncer
from fixtures_project import clone_installed
from usersync.contrib.sqlalchemy import pass_context, passing
from usersync.errors import ArgumentTypeError, ArgumentValueError
from usersync.testing import GoTrue

pytestmark = pytest.mark.newest_server

LEFT = text("select current_setting('usersync.actor_id', true)")
ADD = text("insert into products (name) values (:name)")


class Base(DeclarativeBase):
    pass


class Product(Base):
    __tablename__ = "products"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    stock: Mapped[int] = mapped_column(server_default="0")


PRODUCTS = Product.__table__


@pytest.fixture
def engine(make_engine):
    engine = make_engine(pool_size=1, max_overflow=0)
    pass_context(engine)
    return engine


def times_sent(sent):
    return sum("set_config" in statement for statement in sent)


def test_the_database_knows_who_is_acting_and_in_which_request(shop, engine, audit):
    with GoTrue(shop.database.dsn("supabase_auth_admin")) as auth:
        user_id = auth.sign_up_email("ada@example.com")
    fields = {"request_id": "r", "ip": "203.0.113.9:5555", "user_agent": "Ünï\x00 agent"}
    with audit.context(actor_id=user_id, **fields), engine.begin() as connection:
        connection.execute(ADD, {"name": "Bolt"})
    assert shop.events("actor_id, actor_type, user_id, request_id, host(ip), user_agent") == [
        (str(user_id), "user", user_id, "r", "203.0.113.9", "Ünï␀ agent")
    ]
    assert shop.events("metadata ->> 'actor_source'") == ["setting"]


def test_the_result_of_an_actor_function_is_passed(shop, engine, audit):
    with (
        audit.context(actor_id=lambda: {"actor_id": "cron", "actor_type": "service"}),
        Session(engine) as session,
    ):
        session.add(Product(name="Bolt"))
        session.commit()
    assert shop.events("actor_id, actor_type") == [("cron", "service")]


def test_without_a_context_nothing_is_sent(shop, engine, statements):
    sent = statements(engine)
    with engine.begin() as connection:
        connection.execute(ADD, {"name": "Bolt"})
    assert times_sent(sent) == 0
    assert shop.events("metadata ->> 'actor_source'") == ["role"]


def test_it_is_sent_once_a_transaction_before_the_first_write(engine, audit, statements):
    sent = statements(engine)
    with audit.context(actor_id="ada"), Session(engine) as session:
        session.scalars(select(Product)).all()
        session.scalar(select(func.count()).select_from(Product))
        assert times_sent(sent) == 0
        session.add_all([Product(name="Bolt"), Product(name="Nut")])
        session.flush()
        session.execute(insert(Product), [{"name": "a"}, {"name": "b"}])
        session.execute(ADD, {"name": "c"})
        assert times_sent(sent) == 1
        session.commit()
        session.execute(ADD, {"name": "d"})
        assert times_sent(sent) == 2


READS = {
    "columns": select(PRODUCTS.c.id).where(PRODUCTS.c.name == "x"),
    "aggregates": select(func.sum(PRODUCTS.c.stock), func.now(), func.coalesce(PRODUCTS.c.stock, 0)),
    "a union": union(select(PRODUCTS.c.id), select(PRODUCTS.c.stock)),
    "a lock": select(PRODUCTS).with_for_update(),
}
CHANGES = {
    "a function": select(func.my_function(PRODUCTS.c.id)),
    "a function in a condition": select(PRODUCTS.c.id).where(func.my_function() == 1),
    "a function as a table": select(literal_column("1")).select_from(func.my_function().table_valued("n")),
    "a part as text": select(PRODUCTS.c.id).where(text("my_function() = 1")),
    "a change in a query": select(
        PRODUCTS.insert().values(name="Bolt").returning(PRODUCTS.c.id).cte("made").c.id
    ),
    "text": text("select my_function()"),
    "an update": PRODUCTS.update().values(stock=bindparam("stock")),
}


@pytest.mark.parametrize("what", [*READS, *CHANGES])
def test_statements_that_cannot_write_are_recognized(what):
    statement = READS.get(what, CHANGES.get(what))
    assert passing._only_reads(statement) == (what in READS)


def test_no_setting_is_left_on_the_connection(engine, audit):
    with engine.connect() as connection:
        with audit.context(actor_id="ada"):
            connection.execute(ADD, {"name": "Bolt"})
        connection.commit()
        assert not connection.scalar(LEFT)
        with audit.context(actor_id="ada"):
            connection.execute(ADD, {"name": "Bolt"})
        connection.rollback()
        assert not connection.scalar(LEFT)
    with audit.context(actor_id="ada"), engine.connect() as connection:
        connection.execute(ADD, {"name": "Bolt"})
    with engine.connect() as connection:
        assert not connection.scalar(LEFT)


def test_a_context_that_changes_within_a_transaction_changes_the_actor(shop, engine, audit):
    with engine.begin() as connection:
        with audit.context(actor_id="ada"):
            connection.execute(ADD, {"name": "a"})
            with audit.context(actor_id="bea"):
                connection.execute(ADD, {"name": "b"})
            connection.execute(ADD, {"name": "c"})
        connection.execute(ADD, {"name": "d"})
    assert shop.actors() == [("a", "ada"), ("b", "bea"), ("c", "ada"), ("d", "postgres")]


def test_a_rollback_to_a_savepoint_reverts_the_settings(shop, engine, audit):
    with engine.begin() as connection:
        with audit.context(actor_id="ada"):
            nested = connection.begin_nested()
            connection.execute(ADD, {"name": "lost"})
            nested.rollback()
            connection.execute(ADD, {"name": "a"})
            with audit.context(actor_id="bea"):
                outer = connection.begin_nested()
                connection.execute(ADD, {"name": "lost too"})
                inner = connection.begin_nested()
                with audit.context(actor_id="cora"):
                    connection.execute(ADD, {"name": "lost as well"})
                inner.commit()
                outer.rollback()
                connection.execute(ADD, {"name": "b"})
        connection.execute(ADD, {"name": "c"})
    assert shop.actors() == [("a", "ada"), ("b", "bea"), ("c", "postgres")]


@pytest.mark.parametrize("how", ["driver", "text"])
def test_a_rollback_to_a_savepoint_of_the_application_reverts_them_too(shop, engine, audit, how):
    with audit.context(actor_id="ada"), engine.begin() as connection:

        def run(statement):
            connection.exec_driver_sql(statement) if how == "driver" else connection.execute(text(statement))

        run("savepoint mine")
        connection.execute(ADD, {"name": "lost"})
        run("rollback to savepoint mine")
        connection.execute(ADD, {"name": "a"})
    assert shop.actors() == [("a", "ada")]


def test_a_statement_that_fails_in_a_savepoint_leaves_the_transaction_usable(shop, engine, audit):
    with audit.context(actor_id="ada"), Session(engine) as session, session.begin():
        for name in ("a", None, "b"):
            try:
                with session.begin_nested():
                    session.execute(ADD, {"name": name})
            except IntegrityError:
                assert name is None
    assert shop.actors() == [("a", "ada"), ("b", "ada")]


def test_a_failed_transaction_keeps_its_own_error(engine, audit):
    with audit.context(actor_id="ada"), engine.connect() as connection:
        with pytest.raises(IntegrityError):
            connection.execute(ADD, {"name": None})
        connection.rollback()
        connection.execute(ADD, {"name": "a"})
        connection.rollback()


def test_each_of_two_databases_gets_the_settings(shop, cluster, engine, make_engine, audit):
    other = clone_installed(cluster, with_audit_log())
    try:
        with other.connect() as owner:
            owner.execute("create table products (id int generated always as identity, name text)")
        second = make_engine(shop.url(dsn=other.dsn()), poolclass=NullPool)
        pass_context(second)
        third = make_engine(poolclass=NullPool)
        with audit.context(actor_id="ada"), engine.begin() as one, second.begin() as two, third.begin() as no:
            one.execute(ADD, {"name": "Bolt"})
            assert (one.scalar(LEFT), two.scalar(LEFT) or "", no.scalar(LEFT) or "") == ("ada", "ada", "")
    finally:
        cluster.drop(other)


def test_calling_it_twice_sends_once(engine, audit, statements):
    pass_context(engine)
    sent = statements(engine)
    with audit.context(actor_id="ada"), engine.begin() as connection:
        connection.execute(ADD, {"name": "Bolt"})
    assert times_sent(sent) == 1


def test_a_connection_in_autocommit_is_warned_about_and_works(shop, make_engine, audit, caplog, monkeypatch):
    monkeypatch.setattr(passing, "_warned", False)
    engine = make_engine(isolation_level="AUTOCOMMIT", poolclass=NullPool)
    pass_context(engine)
    with caplog.at_level(logging.WARNING, "usersync.sqlalchemy"):
        for _ in range(2):
            with audit.context(actor_id="ada"), engine.connect() as connection:
                connection.execute(ADD, {"name": "Bolt"})
    assert shop.actors() == [("Bolt", "postgres")] * 2
    assert len(caplog.records) == 1


def test_a_two_phase_transaction_gets_the_settings(engine, audit):
    with (
        audit.context(actor_id="ada"),
        engine.connect() as connection,
        connection.begin_twophase() as transaction,
    ):
        connection.execute(ADD, {"name": "Bolt"})
        assert connection.scalar(LEFT) == "ada"
        transaction.rollback()
    with engine.connect() as connection:
        assert not connection.scalar(LEFT)


@pytest.mark.parametrize("what", [None, "postgresql://localhost", object()])
def test_only_engines_are_accepted(what):
    with pytest.raises(ArgumentTypeError, match="expected an Engine"):
        pass_context(what)


def test_another_database_is_refused(make_engine):
    with pytest.raises(ArgumentValueError, match="PostgreSQL, and this is for sqlite"):
        pass_context(make_engine("sqlite://"))


@pytest.mark.parametrize("driver", ["psycopg", "asyncpg"])
def test_the_actor_is_passed_by_asyncio_engines(shop, audit, driver):
    async def work(engine, name):
        with audit.context(actor_id=name):
            async with AsyncSession(engine) as session:
                session.add(Product(name=name))
                await session.flush()
                await asyncio.sleep(0)
                async with session.begin_nested() as nested:
                    session.add(Product(name="lost"))
                    await session.flush()
                    await nested.rollback()
                await session.execute(ADD, {"name": name})
                await session.commit()
        async with engine.connect() as connection:
            return await connection.scalar(LEFT)

    async def main():
        engine = create_async_engine(shop.url(driver), pool_size=3)
        pass_context(engine)
        left = await asyncio.gather(*(work(engine, f"task{n}") for n in range(12)))
        await engine.dispose()
        return left

    assert not any(asyncio.run(main()))
    actors = shop.actors()
    assert len(actors) == 24
    assert all(name == actor for name, actor in actors)


@pytest.mark.parametrize("driver", ["psycopg", "asyncpg"])
def test_behind_a_transaction_pooler(shop, audit, driver):
    """Many transactions share few server connections: each has its own actor."""
    options = {"psycopg": {"prepare_threshold": None}, "asyncpg": {"statement_cache_size": 0}}

    async def work(engine, n):
        async with engine.begin() as connection:
            if n % 3 == 0:
                await connection.execute(ADD, {"name": "postgres"})
                return
            with audit.context(actor_id=f"task{n}"):
                await connection.execute(ADD, {"name": f"task{n}"})

    async def main(dsn):
        connect = options[driver]
        if driver == "asyncpg":
            connect["prepared_statement_name_func"] = lambda: ""
        engine = create_async_engine(shop.url(driver, dsn), poolclass=NullPool, connect_args=connect)
        pass_context(engine)
        await asyncio.gather(*(work(engine, n) for n in range(30)))
        await engine.dispose()

    with pgbouncer(shop.database) as dsn:
        asyncio.run(main(dsn))
    actors = shop.actors()
    assert len(actors) == 30
    assert all(name == actor for name, actor in actors)


def test_record_in_uses_the_same_settings(shop, engine, audit):
    with audit.context(actor_id="ada"), Session(engine) as session:
        session.add(Product(name="Bolt"))
        session.flush()
        assert audit.record_in(session, "product.created")
        session.commit()
    assert shop.events("action, actor_id, source") == [
        ("products.inserted", "ada", "trigger"),
        ("product.created", "ada", "app"),
    ]
