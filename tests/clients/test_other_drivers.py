"""AsyncUserSync and record_in() over asyncpg, SQLAlchemy with both drivers, and an AsyncSqlExecutor."""

from __future__ import annotations

import asyncio
import json
import sqlite3
import uuid
from contextlib import asynccontextmanager, closing
from dataclasses import replace

import asyncpg
import peewee
import psycopg
import psycopg2
import pytest
from sqlalchemy import NullPool, create_engine, text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession, create_async_engine

from usersync import AsyncUserSync, AuditLog, UserSync
from usersync.errors import (
    ConnectionFailedError,
    DatabaseError,
    NeedsDatabaseError,
    NotInstalledError,
    PrivilegeMissingError,
    SettingsError,
    UserNotFoundError,
    UsersyncError,
)

pytestmark = pytest.mark.newest_server

UNKNOWN_USER = uuid.UUID(int=7)


class Executor:
    """An AsyncSqlExecutor of an application, for any driver."""

    def __init__(self, run):
        self._run = run

    async def execute(self, sql, params):
        return await self._run(sql, params)


async def _codecs(connection):
    # As many applications do. usersync must not convert JSON twice.
    for name in ("json", "jsonb"):
        await connection.set_type_codec(name, encoder=json.dumps, decoder=json.loads, schema="pg_catalog")


@asynccontextmanager
async def asyncpg_connection(dsn):
    connection = await asyncpg.connect(dsn)
    await _codecs(connection)
    try:
        yield connection, connection.execute, None
    finally:
        await connection.close()


@asynccontextmanager
async def asyncpg_transaction(dsn):
    async with asyncpg_connection(dsn) as (connection, run, _):
        # Begun with SQL: asyncpg's transaction() does not nest in such a transaction.
        await run("begin")
        yield connection, run, lambda: run("commit")


@asynccontextmanager
async def asyncpg_pool(dsn):
    async with asyncpg.create_pool(dsn, min_size=1, max_size=3, statement_cache_size=0) as pool:
        yield pool, pool.execute, None


@asynccontextmanager
async def asyncpg_acquired(dsn):
    async with asyncpg.create_pool(dsn, min_size=1, max_size=1) as pool, pool.acquire() as connection:
        yield connection, connection.execute, None


@asynccontextmanager
async def _sqlalchemy(dsn, driver, kind, **options):
    engine = create_async_engine(
        dsn.replace("postgresql://", f"postgresql+{driver}://"), poolclass=NullPool, **options
    )
    async with kind(engine) if kind is AsyncSession else engine.connect() as connection:
        yield connection, lambda sql: connection.execute(text(sql)), connection.commit
    await engine.dispose()


def sqlalchemy_asyncpg(dsn):
    return _sqlalchemy(dsn, "asyncpg", AsyncConnection)


def sqlalchemy_asyncpg_autocommit(dsn):
    return _sqlalchemy(dsn, "asyncpg", AsyncConnection, isolation_level="AUTOCOMMIT")


def sqlalchemy_asyncpg_session(dsn):
    return _sqlalchemy(dsn, "asyncpg", AsyncSession)


def sqlalchemy_psycopg(dsn):
    return _sqlalchemy(dsn, "psycopg", AsyncConnection)


def sqlalchemy_psycopg_autocommit(dsn):
    return _sqlalchemy(dsn, "psycopg", AsyncSession, isolation_level="AUTOCOMMIT")


def sqlalchemy_psycopg_session(dsn):
    return _sqlalchemy(dsn, "psycopg", AsyncSession)


@asynccontextmanager
async def executor(dsn):
    async with asyncpg_connection(dsn) as (connection, run, _):

        async def execute(sql, params):
            return await connection.fetch(sql, *params)

        yield Executor(execute), run, None


SOURCES = [
    *(asyncpg_connection, asyncpg_transaction, asyncpg_pool, asyncpg_acquired),
    *(sqlalchemy_asyncpg, sqlalchemy_asyncpg_autocommit, sqlalchemy_asyncpg_session),
    *(sqlalchemy_psycopg, sqlalchemy_psycopg_session, executor),
]


@pytest.fixture
def log(project, tmp_path):
    with AuditLog.recording_only(spool_dir=tmp_path, exit_timeout=0) as log:
        yield log


@pytest.mark.parametrize("opened", SOURCES)
def test_all_client_methods_and_events_work_with_each_source(
    project, insert_without_triggers, delete_without_triggers, log, opened
):
    gone = project.auth.sign_up_email("gone@example.com")
    delete_without_triggers(gone)
    first, second, third = insert_without_triggers(3)

    async def main():
        async with opened(project.database.dsn()) as (source, run, commit), AsyncUserSync(source) as client:
            assert type(source).__name__ in repr(client)
            assert await client.user_exists(first) is False
            assert await client.ensure_user_exists(first) is True
            assert await client.sync_auth_user(second) is True
            with pytest.raises(UserNotFoundError, match=str(UNKNOWN_USER)):
                await client.sync_auth_user(UNKNOWN_USER)
            assert (await client.status()).missing == 1
            found = (await client.reconcile(dry_run=True)).differences
            assert {each.user_id for each in found} == {third, gone}
            assert (await client.reconcile(page_size=1)).synced == 1
            assert await client.remove_user(gone) is True
            assert await client.failures() == []
            assert (await client.retry()).counts.examined == 0
            with log.context(actor_id="ada"):
                recording = log.arecord_in(source, "first.done", entity=("product", 42))
            one = await recording
            two = await log.record_in(source, "second.done", metadata={"ü": "\U0001f600"}, required=True)
            if commit is not None:
                await commit()
            if opened is not asyncpg_pool and not opened.__name__.endswith("autocommit"):
                begins = commit is None or opened is asyncpg_transaction
                await run("begin" if begins else "select 1")
                assert await log.arecord_in(source, "gone.done")
                await run("rollback")
            return [("first.done", one, "42", {}), ("second.done", two, None, {"ü": "\U0001f600"})]

    recorded = asyncio.run(main())
    assert project.client.status().in_step
    assert all(project.client.user_exists(each) for each in (first, second, third))
    stored = project.owner.execute(
        f"select action, id::text, entity_id, metadata from {project.settings.audit_table.quoted}"
        " where action like '%.done' order by action"
    ).fetchall()
    assert stored == recorded
    assert log.stats().dropped == 0


@pytest.mark.parametrize(
    "opened",
    [asyncpg_connection, asyncpg_pool, sqlalchemy_asyncpg_autocommit, sqlalchemy_psycopg_autocommit],
)
def test_erase_works_with_sources_that_commit(project, delete_without_triggers, log, opened):
    gone = project.auth.sign_up_email("gone@example.com")
    log.record_in(project.owner, "first.done", user_id=gone, metadata={"note": "50% for gone@example.com"})
    delete_without_triggers(gone)
    expected = project.client.erase(gone, dry_run=True)
    assert (expected.row, expected.events) == (True, 1)

    async def main():
        async with opened(project.database.dsn()) as (source, _, _), AsyncUserSync(source) as client:
            assert await client.erase(gone, dry_run=True) == expected
            done = await client.erase(gone)
            assert done == replace(expected, dry_run=False, recorded=True)
            with pytest.raises(UserNotFoundError):
                await client.erase(UNKNOWN_USER)
            assert await client.user_exists(UNKNOWN_USER) is False

    asyncio.run(main())
    stored = project.owner.execute(
        f"select metadata ->> 'note' from {project.settings.audit_table.quoted} where action = 'first.done'"
    ).fetchone()
    assert "gone@example.com" not in stored[0]


@pytest.mark.parametrize(
    ("opened", "error", "words"),
    [
        (asyncpg_transaction, UsersyncError, "requires a transaction of its own"),
        (sqlalchemy_asyncpg, UsersyncError, "requires a transaction of its own"),
        (sqlalchemy_psycopg_session, UsersyncError, "requires a transaction of its own"),
        (executor, NeedsDatabaseError, "does not work over an AsyncSqlExecutor"),
    ],
)
def test_erase_raises_for_other_sources(project, opened, error, words):
    async def main():
        async with opened(project.database.dsn()) as (source, run, _):
            with pytest.raises(error, match=words):
                await AsyncUserSync(source).erase(UNKNOWN_USER)
            # The transaction of the application is still usable.
            await run("select 1")

    asyncio.run(main())


@pytest.mark.parametrize("opened", [asyncpg_connection, sqlalchemy_asyncpg, executor])
def test_a_failed_call_leaves_the_transaction_usable(project, opened):
    async def main():
        async with opened(project.database.dsn()) as (source, run, commit):
            if commit is None:
                await run("begin")
            await run("create table public.work (n integer)")
            client = AsyncUserSync(source)
            await run("set local role anon")
            with pytest.raises(PrivilegeMissingError):
                await client.user_exists(UNKNOWN_USER)
            await run("reset role")
            assert await client.user_exists(UNKNOWN_USER) is False
            await run("insert into public.work values (1)")
            await (commit() if commit else run("commit"))

    asyncio.run(main())
    assert project.owner.execute("select n from public.work").fetchall() == [(1,)]


def test_a_result_that_a_rollback_could_undo_is_not_cached(project, insert_without_triggers):
    (user,) = insert_without_triggers(1)

    async def main():
        async with asyncpg_connection(project.database.dsn()) as (connection, run, _):
            client = AsyncUserSync(connection)
            await run("begin")
            assert await client.ensure_user_exists(user) is True
            await run("rollback")
            assert await client.user_exists(user) is False
            assert await client.ensure_user_exists(user) is True

    asyncio.run(main())
    assert project.client.user_exists(user)


def test_tasks_can_share_an_asyncpg_connection_after_a_cancelled_call(project, insert_without_triggers):
    users = insert_without_triggers(5)

    async def main():
        async with asyncpg_transaction(project.database.dsn()) as (connection, _, commit):
            client = AsyncUserSync(connection)
            project.owner.execute(f"begin; lock table {project.users}")
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(client.status(), 0.3)
            project.owner.execute("rollback")
            assert all(await asyncio.gather(*map(client.ensure_user_exists, users)))
            await commit()
        with pytest.raises(ConnectionFailedError, match="closed"):
            await client.user_exists(users[0])

    asyncio.run(main())
    assert project.client.status().in_step


def test_several_workers_use_the_connections_of_a_pool(project, insert_without_triggers):
    insert_without_triggers(6)

    async def main():
        async with asyncpg_pool(project.database.dsn()) as (pool, _, _):
            assert (await AsyncUserSync(pool).reconcile(workers=8, page_size=1)).synced == 6
        async with asyncpg_connection(project.database.dsn()) as (connection, _, _):
            with pytest.raises(SettingsError, match="several workers require"):
                await AsyncUserSync(connection).reconcile(workers=2)

    asyncio.run(main())


def test_a_call_without_usersync_raises_not_installed(database):
    async def main():
        async with asyncpg_connection(database.dsn()) as (connection, _, _):
            with pytest.raises(NotInstalledError, match="usersync is not installed"):
                await AsyncUserSync(connection).user_exists(UNKNOWN_USER)

    asyncio.run(main())


def test_an_unsupported_source_raises_at_once(project):
    engine = create_engine(project.database.dsn().replace("postgresql://", "postgresql+psycopg://"))
    with psycopg.connect(project.database.dsn()) as connection:
        for wrong in (None, 5, engine, connection, connection.cursor(), asyncpg):
            with pytest.raises(TypeError, match="AsyncUserSync takes a connection string"):
                AsyncUserSync(wrong)
        for wrong in (None, 5, engine, connection.cursor(), Executor(None)):
            with pytest.raises(TypeError, match="UserSync takes a connection string"):
                UserSync(wrong)


@pytest.mark.parametrize("opened", [asyncpg_connection, sqlalchemy_asyncpg, executor])
def test_an_event_that_cannot_be_stored_leaves_the_transaction_usable(project, log, opened):
    project.owner.execute("alter function public.record_audit_events(jsonb) rename to gone")

    async def main():
        async with opened(project.database.dsn()) as (connection, run, commit):
            if commit is None:
                await run("begin")
            await run("create table public.work (n integer)")
            assert await log.arecord_in(connection, "a.b") is None
            with pytest.raises(DatabaseError, match="record_audit_events") as raised:
                await log.arecord_in(connection, "a.b", required=True)
            assert raised.value.sqlstate == "42883"
            assert "usersync apply" in raised.value.hint
            await run("insert into public.work values (1)")
            await (commit() if commit else run("commit"))

    asyncio.run(main())
    assert project.owner.execute("select n from public.work").fetchall() == [(1,)]
    assert log.stats().dropped == 1


def test_an_unsupported_driver_raises_and_names_the_supported_ones(project, log):
    with closing(psycopg2.connect(project.database.dsn())) as connection:
        database = peewee.PostgresqlDatabase(project.database.dsn())
        for wrong, name in (
            (connection, "psycopg2"),
            (connection.cursor(), "psycopg2"),
            (database, "peewee"),
        ):
            with pytest.raises(TypeError, match=rf"record_in\(\) does not take {name}\.") as raised:
                log.record_in(wrong, "a.b")
            assert f"For {name}, write a SqlExecutor" in raised.value.hint
    with pytest.raises(TypeError, match=r"does not take sqlite3\.Connection") as raised:
        log.record_in(sqlite3.connect(":memory:"), "a.b")
    assert "connections of psycopg, asyncpg, SQLAlchemy" in raised.value.hint


def test_record_in_and_arecord_in_name_each_other_for_the_wrong_connection(project, log):
    engine = create_async_engine(project.database.dsn().replace("postgresql://", "postgresql+asyncpg://"))
    cursor = psycopg.connect(project.database.dsn()).cursor()

    async def main():
        async with asyncpg_connection(project.database.dsn()) as (connection, _, _):
            with pytest.raises(TypeError, match=r"record_prepared_in\(\) does not take asyncpg") as raised:
                log.record_prepared_in(connection, [log.prepare("a.b")])
            assert "arecord_in()" in raised.value.hint
            with pytest.raises(TypeError, match="entitty"):
                await log.arecord_in(connection, "a.b", entitty=1)
        with pytest.raises(TypeError, match=r"arecord_in\(\) does not take psycopg\.Connection") as raised:
            await log.arecord_in(cursor.connection, "a.b")
        assert "record_in()" in raised.value.hint
        for wrong in (None, project.database.dsn(), cursor, engine, AsyncSession, object()):
            with pytest.raises(TypeError, match=r"arecord_in\(\) does not take"):
                await log.arecord_in(wrong, "a.b")

    asyncio.run(main())
    cursor.connection.close()
