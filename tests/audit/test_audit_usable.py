"""record_in() leaves the application's transaction usable in every mode of the connection."""

from __future__ import annotations

import asyncio

import psycopg
import pytest

from usersync import AsyncUserSync
from usersync.errors import DatabaseError
from waiting import wait_for_locks

pytestmark = pytest.mark.newest_server


@pytest.fixture(autouse=True)
def _work(store):
    store.owner.execute("create table public.work (n integer primary key)")


@pytest.fixture
def without_audit_function(store):
    store.owner.execute("alter function public.record_audit_events(jsonb) rename to gone")


def work_is_committed(store):
    return [row[0] for row in store.owner.execute("select n from public.work order by n").fetchall()]


@pytest.mark.usefixtures("without_audit_function")
@pytest.mark.parametrize("autocommit", [False, True])
def test_a_failure_in_pipeline_mode_leaves_the_transaction_usable(store, offline, autocommit):
    with (
        psycopg.connect(store.dsn, autocommit=autocommit) as connection,
        connection.pipeline(),
    ):
        connection.execute("insert into public.work values (1)")
        assert offline.record_in(connection, "a.b") is None
        connection.execute("insert into public.work values (2)")
        with pytest.raises(DatabaseError):
            offline.record_in(connection, "a.b", required=True)
        connection.execute("insert into public.work values (3)")
    assert work_is_committed(store) == [1, 2, 3]


def test_record_in_works_in_pipeline_mode(store, offline):
    with psycopg.connect(store.dsn) as connection:
        with connection.pipeline():
            connection.execute("insert into public.work values (1)")
            first = offline.record_in(connection, "a.b")
            connection.execute("insert into public.work values (2)")
        connection.commit()
        with connection.pipeline():
            offline.record_in(connection, "a.b")
        connection.rollback()
    assert store.ids() == [first]
    assert work_is_committed(store) == [1, 2]


def test_in_pipeline_mode_an_error_of_the_application_is_raised(store, offline):
    store.owner.execute("insert into public.work values (1)")
    with psycopg.connect(store.dsn) as connection, connection.pipeline():
        connection.execute("insert into public.work values (1)")
        with pytest.raises(psycopg.errors.UniqueViolation):
            offline.record_in(connection, "a.b")
    assert offline.stats().dropped == 0


@pytest.mark.usefixtures("without_audit_function")
def test_a_failure_in_asyncio_pipeline_mode_leaves_the_transaction_usable(store, offline):
    async def main():
        async with await psycopg.AsyncConnection.connect(store.dsn) as connection, connection.pipeline():
            await connection.execute("insert into public.work values (1)")
            assert await offline.record_in(connection, "a.b") is None
            await connection.execute("insert into public.work values (2)")

    asyncio.run(main())
    assert work_is_committed(store) == [1, 2]


def test_a_cancelled_record_in_leaves_the_transaction_usable(store, offline, eventually):
    wait_for_locks(store.owner)

    async def main():
        async with await psycopg.AsyncConnection.connect(store.dsn) as connection:
            await connection.execute("insert into public.work values (1)")
            with psycopg.connect(store.dsn) as other:
                other.execute("lock table public.audit_logs in access exclusive mode")
                task = asyncio.ensure_future(offline.record_in(connection, "a.b"))
                waiting = "select count(*) from pg_stat_activity where wait_event_type = 'Lock' and pid = %s"
                pid = connection.info.backend_pid
                await asyncio.to_thread(eventually, lambda: store.owner.execute(waiting, [pid]).fetchone()[0])
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task
                assert connection.info.transaction_status == psycopg.pq.TransactionStatus.INTRANS
            await connection.execute("insert into public.work values (2)")
            assert await offline.record_in(connection, "a.c")
            await connection.commit()

    asyncio.run(asyncio.wait_for(main(), 110))
    assert work_is_committed(store) == [1, 2]
    assert [event["action"] for event in store.events()] == ["a.c"]


def test_record_in_a_failed_transaction_leaves_its_error_unchanged(store, offline):
    with psycopg.connect(store.dsn) as connection:
        with pytest.raises(psycopg.errors.DivisionByZero):
            connection.execute("select 1/0")
        assert offline.record_in(connection, "a.b") is None
        with pytest.raises(DatabaseError, match="has failed already") as caught:
            offline.record_in(connection, "a.b", required=True)
        assert "Roll back the transaction" in caught.value.hint
        connection.rollback()
        assert offline.record_in(connection, "a.b")


def test_record_in_a_failed_asyncio_transaction_leaves_its_error_unchanged(store, offline):
    async def main():
        async with await psycopg.AsyncConnection.connect(store.dsn) as connection:
            with pytest.raises(psycopg.errors.DivisionByZero):
                await connection.execute("select 1/0")
            assert await offline.record_in(connection, "a.b") is None
            with pytest.raises(DatabaseError, match="has failed already") as caught:
                await offline.record_in(connection, "a.b", required=True)
            assert "Roll back the transaction" in caught.value.hint
            with pytest.raises(DatabaseError, match="has failed already") as caught:
                await AsyncUserSync(connection).failures()
            assert "Roll back the transaction" in caught.value.hint
            await connection.rollback()
            assert await offline.record_in(connection, "a.b")

    asyncio.run(main())
    assert len(store.ids()) == 1


def test_record_in_from_a_second_event_loop_leaves_the_connection_usable(store, offline):
    """The first loop waits for a statement on the connection, or the connection is idle."""

    async def in_another(connection):
        assert await offline.record_in(connection, "a.b") is None
        with pytest.raises(DatabaseError, match="another event loop") as caught:
            await offline.record_in(connection, "a.b", required=True)
        assert "event loop" in caught.value.hint

    async def main():
        async with await psycopg.AsyncConnection.connect(store.dsn, autocommit=True) as connection:
            first = await offline.record_in(connection, "a.b", required=True)
            await connection.execute("select pg_advisory_lock(7)")
            async with await psycopg.AsyncConnection.connect(store.dsn, autocommit=True) as waiting:
                assert await offline.record_in(waiting, "a.c", required=True)
                statement = asyncio.ensure_future(waiting.execute("select pg_advisory_lock(7)"))
                await asyncio.sleep(0)
                await asyncio.to_thread(asyncio.run, in_another(waiting))
                await connection.execute("select pg_advisory_unlock(7)")
                await statement
            await asyncio.to_thread(asyncio.run, in_another(connection))
            return [first, await offline.record_in(connection, "a.d", required=True)]

    first, last = asyncio.run(asyncio.wait_for(main(), 60))
    assert {first, last} < set(store.ids())
    assert len(store.ids()) == 3


@pytest.mark.parametrize("encoding", ["latin1", "sql_ascii", "utf8"])
def test_characters_outside_the_client_encoding_are_stored(store, offline, encoding):
    text = "漢字 😀 \\u0041 é"
    with psycopg.connect(store.dsn) as connection:
        connection.execute(f"set client_encoding = '{encoding}'")
        assert offline.record_in(connection, "a.b", metadata={"x": text, text: 1})
    assert store.event()["metadata"] == {"x": text, text: 1}


class Unbuildable:
    """Like an EventBuilder that has run out of memory."""

    def build(self, given):
        raise MemoryError(given.action)


def test_an_event_that_cannot_be_built_leaves_the_transaction_usable(store, offline, monkeypatch):
    monkeypatch.setattr(offline, "_builder", Unbuildable())
    with psycopg.connect(store.dsn) as connection:
        connection.execute("insert into public.work values (1)")
        assert offline.record_in(connection, "a.b") is None
        with pytest.raises(DatabaseError, match=r"a\.b"):
            offline.record_in(connection, "a.b", required=True)

    async def main():
        async with await psycopg.AsyncConnection.connect(store.dsn) as connection:
            return await offline.record_in(connection, "a.b")

    assert asyncio.run(main()) is None
    assert work_is_committed(store) == [1]
    assert offline.stats().dropped == 2
