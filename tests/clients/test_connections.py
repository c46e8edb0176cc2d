"""Connections that are lost, refused, exhausted, shared, interrupted or in a transaction."""

from __future__ import annotations

import asyncio
import traceback
import uuid
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest
from psycopg.pq import TransactionStatus
from psycopg_pool import AsyncConnectionPool, ConnectionPool

from usersync import AsyncUserSync, UserSync
from usersync.errors import BusyError, ConnectionFailedError, DatabaseError, PrivilegeMissingError
from usersync.transports import psycopg as psycopg_transport
from waiting import until, wait_for_locks

pytestmark = pytest.mark.newest_server

UNKNOWN_USER = uuid.UUID(int=7)

WAITING = """
    select 1 from pg_stat_activity
    where datname = current_database() and application_name = 'waiting' and wait_event_type = 'Lock'
"""

COUNTING = "select 1 from pg_stat_activity where datname = current_database() and wait_event = 'advisory'"

#: A function of usersync that fails with personal data in its DETAIL, as an application's trigger may.
FAILING = """
    create or replace function public.user_sync_status() returns jsonb language plpgsql as $$ begin
    raise unique_violation using message = 'twice', detail = 'Key (email)=(ada@example.com)', hint = 'so';
    end $$
"""


def end_sessions(project, name: str) -> int:
    """End the sessions of this application name, and wait for their end."""
    with project.database.connect("supabase_admin") as superuser:
        return superuser.execute(
            "select count(pg_terminate_backend(pid, 5000)) from pg_stat_activity "
            "where application_name = %s and datname = current_database() and pid <> pg_backend_pid()",
            [name],
        ).fetchone()[0]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"password": "not-the-password"}, "password"),
        ({"user": "nobody_of_that_name"}, "percent-encode"),
        ({"dbname": "no_such_database"}, "name of the database"),
        ({"port": "1"}, "port"),
        ({"host": "no-such-host.invalid"}, "host name"),
        ({"host": "a" * 70 + ".invalid"}, ""),
        ({"sslmode": "require"}, "sslmode"),
        ({"sslmode": "bogus"}, "verify-full"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_each_connection_error_has_a_hint_and_shows_no_password(database, make_client, flavour, change, says):
    secret = "the-secret-word"  # noqa: S105
    parts = psycopg.conninfo.conninfo_to_dict(database.dsn()) | {"password": secret} | change
    if change.keys() & {"sslmode", "dbname"}:
        parts["password"] = database.passwords["postgres"]
    secret = parts["password"]
    client = make_client(flavour, "dsn", psycopg.conninfo.make_conninfo(**parts))
    with pytest.raises(ConnectionFailedError) as caught:
        client.user_exists(UNKNOWN_USER)
    error = caught.value
    assert says in error.hint
    assert error.hint
    shown = str(error) + repr(error) + error.hint + "".join(traceback.format_exception(error))
    assert secret not in shown


def test_status_does_not_block_other_users_of_the_client(project, make_client, insert_without_triggers):
    """With many users status() takes long, but a request waits at most two seconds for its user's row."""
    [user_id] = insert_without_triggers(1)
    with project.database.connect() as owner, ThreadPoolExecutor() as threads:
        owner.execute("select pg_advisory_lock(7)")
        owner.execute(
            "create or replace function public.user_sync_status() returns jsonb language plpgsql as "
            "'begin perform pg_advisory_lock(7); return null; end'"
        )
        client = make_client("sync", "dsn", project.database.dsn())
        counting = threads.submit(client.status)
        try:
            until(lambda: owner.execute(COUNTING).fetchone() or counting.done())
            assert not counting.done()
            assert threads.submit(client.ensure_user_exists, user_id).result(90) is True
        finally:
            owner.execute("select pg_advisory_unlock(7)")
        with pytest.raises(ConnectionFailedError):
            counting.result()


def test_a_lost_idle_connection_is_replaced_without_an_error(project, make_client, flavour):
    client = make_client(flavour, "dsn", project.database.dsn() + "?application_name=victim")
    assert client.user_exists(UNKNOWN_USER) is False
    assert end_sessions(project, "victim") == 1
    assert client.user_exists(UNKNOWN_USER) is False


def test_a_connection_lost_during_a_call_raises_once(project, make_client, flavour):
    client = make_client(flavour, "dsn", project.database.dsn() + "?application_name=victim")
    user = project.auth.sign_up_email("ada@example.com")
    project.owner.execute(
        f"create function kill() returns trigger language plpgsql as $$ begin "
        f"perform pg_terminate_backend(pg_backend_pid()); perform pg_sleep(5); return new; end $$;"
        f"create trigger kill before update or insert on {project.users} for each row execute function kill()"
    )
    with project.database.connect("supabase_admin") as superuser:
        superuser.execute("grant pg_signal_backend to postgres")
    project.owner.execute(f"alter table {project.users} disable trigger user")
    project.owner.execute(f"update {project.users} set {project.column('full_name')} = 'other'")
    project.owner.execute(f"alter table {project.users} enable trigger user")
    with pytest.raises(ConnectionFailedError) as caught:
        client.sync_auth_user(user)
    assert caught.value.hint
    project.owner.execute(f"drop trigger kill on {project.users}")
    assert client.sync_auth_user(user) is True


@pytest.mark.parametrize("transport", ["connection", "autocommit"])
def test_a_lost_connection_of_the_application_raises_in_each_call(project, make_client, flavour, transport):
    client = make_client(flavour, transport, project.database.dsn() + "?application_name=victim")
    assert client.user_exists(UNKNOWN_USER) is False
    end_sessions(project, "victim")
    for _ in range(2):
        with pytest.raises(ConnectionFailedError):
            client.user_exists(UNKNOWN_USER)


def test_a_pool_discards_lost_connections(project, make_client, flavour):
    client = make_client(flavour, "pool", project.database.dsn() + "?application_name=victim")
    assert client.user_exists(UNKNOWN_USER) is False
    lost = end_sessions(project, "victim")
    failures = 0
    for _ in range(lost + 1):
        try:
            assert client.user_exists(UNKNOWN_USER) is False
        except ConnectionFailedError:
            failures += 1
    assert failures <= lost
    assert client.user_exists(UNKNOWN_USER) is False


def test_an_exhausted_pool_raises(project):
    with ConnectionPool(project.database.dsn(), min_size=1, max_size=1, timeout=0.2, open=True) as pool:
        client = UserSync(pool)
        with pool.connection(), pytest.raises(ConnectionFailedError, match="no free connection") as caught:
            client.user_exists(UNKNOWN_USER)
        assert "larger" in caught.value.hint
        assert client.user_exists(UNKNOWN_USER) is False


def test_an_exhausted_pool_raises_with_asyncio(project):
    async def main():
        options = {"min_size": 1, "max_size": 1, "timeout": 0.2, "open": False}
        async with AsyncConnectionPool(project.database.dsn(), **options) as pool:
            client = AsyncUserSync(pool)
            async with pool.connection():
                with pytest.raises(ConnectionFailedError, match="no free connection"):
                    await client.user_exists(UNKNOWN_USER)
            assert await client.user_exists(UNKNOWN_USER) is False

    asyncio.run(main())


def test_a_closed_pool_raises(project):
    with ConnectionPool(project.database.dsn(), min_size=1, open=True) as pool:
        client = UserSync(pool)
    with pytest.raises(ConnectionFailedError, match="closed"):
        client.user_exists(UNKNOWN_USER)


def test_a_connection_in_autocommit_mode_is_idle_after_a_call(project, insert_without_triggers):
    insert_without_triggers(1)
    with psycopg.connect(project.database.dsn(), autocommit=True) as connection:
        assert UserSync(connection).sync_all_missing_users().synced == 1
        assert connection.autocommit is True
        assert connection.info.transaction_status == TransactionStatus.IDLE
        assert project.client.status().in_step, "each page commits by itself"


@pytest.mark.parametrize("autocommit", [True, False])
def test_a_call_in_the_applications_transaction_commits_nothing(project, autocommit, insert_without_triggers):
    (user,) = insert_without_triggers(1)
    with psycopg.connect(project.database.dsn(), autocommit=autocommit) as connection:
        client = UserSync(connection)
        connection.execute("begin" if autocommit else "select 1")
        assert client.ensure_user_exists(user) is True
        assert client.reconcile().run_id is not None
        assert project.row(user) is None
        connection.rollback()
        assert project.row(user) is None
        assert client.user_exists(user) is False
        assert client.ensure_user_exists(user) is True, "a result that was rolled back is not cached"
        connection.commit()
        assert project.row(user) is not None


def test_a_failed_call_leaves_the_applications_transaction_usable(project):
    project.owner.execute(FAILING)
    with psycopg.connect(project.database.dsn()) as connection:
        client = UserSync(connection)
        connection.execute("create temporary table mine (n integer) on commit drop")
        with pytest.raises(DatabaseError):
            client.status()
        connection.execute("insert into mine values (1)")
        assert connection.execute("select n from mine").fetchone() == (1,)
        assert client.failures() == []


def test_a_failed_call_leaves_the_applications_transaction_usable_with_asyncio(project):
    async def main():
        async with await psycopg.AsyncConnection.connect(project.database.dsn()) as connection:
            client = AsyncUserSync(connection)
            await connection.execute("create temporary table mine (n integer) on commit drop")
            with pytest.raises(DatabaseError):
                await client.status()
            await connection.execute("insert into mine values (1)")
            assert connection.info.transaction_status == TransactionStatus.INTRANS

    project.owner.execute(FAILING)
    asyncio.run(main())


def test_a_call_in_a_failed_transaction_raises(project):
    with psycopg.connect(project.database.dsn()) as connection:
        with pytest.raises(psycopg.errors.DivisionByZero):
            connection.execute("select 1/0")
        with pytest.raises(DatabaseError) as caught:
            UserSync(connection).user_exists(UNKNOWN_USER)
        assert caught.value.sqlstate == "25P02"


def test_a_role_without_privileges_raises_privilege_missing(project):
    with (
        pytest.raises(PrivilegeMissingError) as caught,
        UserSync(project.database.dsn("authenticated")) as client,
    ):
        client.ensure_user_exists(UNKNOWN_USER)
    assert caught.value.sqlstate == "42501"
    assert caught.value.hint


def test_service_role_can_call_the_functions_for_clients(project):
    user = project.auth.sign_up_email("ada@example.com")
    with UserSync(project.database.dsn("service_role")) as client:
        assert client.ensure_user_exists(user) is True
        assert client.status().in_step


def test_an_error_of_the_database_has_its_sqlstate_and_no_detail(project):
    project.owner.execute(FAILING)
    with pytest.raises(DatabaseError) as caught:
        project.client.status()
    error = caught.value
    assert (error.sqlstate, str(error), error.hint) == ("23505", "twice (SQLSTATE 23505)", "so")
    assert "ada" not in "".join(traceback.format_exception(error))


@pytest.mark.slow
def test_a_lock_timeout_raises_busy_error(project):
    dsn = project.database.dsn() + "?options=-c%20lock_timeout%3D50ms"
    with project.database.connect() as other, UserSync(dsn) as client:
        other.execute("begin; lock table usersync.sync_failures in access exclusive mode")
        with pytest.raises(BusyError) as caught:
            client.failures()
        assert caught.value.sqlstate == "55P03"


def test_one_client_serves_sixteen_threads(project, insert_without_triggers):
    users = insert_without_triggers(64)
    with UserSync(project.database.dsn()) as client, ThreadPoolExecutor(16) as threads:
        assert all(threads.map(client.ensure_user_exists, users * 2))
    assert project.client.status().in_step


def test_one_client_serves_a_hundred_tasks(project, insert_without_triggers):
    users = insert_without_triggers(100)

    async def main(source):
        async with AsyncUserSync(source) as client:
            return await asyncio.gather(*(client.ensure_user_exists(user) for user in users))

    assert all(asyncio.run(main(project.database.dsn())))
    assert project.client.status().in_step


def test_a_pool_serves_a_hundred_tasks(project, insert_without_triggers):
    users = insert_without_triggers(100)

    async def main():
        async with AsyncConnectionPool(project.database.dsn(), min_size=2, max_size=4, open=False) as pool:
            client = AsyncUserSync(pool)
            return await asyncio.gather(*(client.ensure_user_exists(user) for user in users))

    assert all(asyncio.run(main()))
    assert project.client.status().in_step


@pytest.mark.parametrize("transport", ["dsn", "pool", "connection"])
def test_a_cancelled_call_leaves_the_client_usable(project, transport):
    """The call is cancelled while it waits for a lock of another session."""
    dsn = project.database.dsn() + "?application_name=waiting"
    wait_for_locks(project.owner)

    async def waiting() -> None:
        with project.database.connect("supabase_admin") as superuser:
            async with asyncio.timeout(90):
                while not superuser.execute(WAITING).fetchone():  # noqa: ASYNC110 - no asyncio event exists
                    await asyncio.sleep(0.005)

    async def check(client, other):
        assert await client.failures() == []
        other.execute("begin; lock table usersync.sync_failures in access exclusive mode")
        call = asyncio.ensure_future(client.failures())
        await waiting()
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        other.execute("rollback")
        async with asyncio.timeout(90):
            assert await client.failures() == []

    async def check_with_transport():
        with project.database.connect() as other:
            if transport == "pool":
                async with AsyncConnectionPool(dsn, min_size=1, max_size=1, open=False) as pool:
                    await check(AsyncUserSync(pool), other)
            elif transport == "connection":
                async with await psycopg.AsyncConnection.connect(dsn, autocommit=True) as connection:
                    await check(AsyncUserSync(connection), other)
            else:
                async with AsyncUserSync(dsn) as client:
                    await check(client, other)

    asyncio.run(check_with_transport())


def test_a_closed_client_connects_again_on_the_next_call(project, make_client, flavour):
    client = make_client(flavour, "dsn", project.database.dsn())
    assert client.user_exists(UNKNOWN_USER) is False
    client.close()
    client.close()
    assert client.user_exists(UNKNOWN_USER) is False


def test_calls_work_on_a_connection_with_another_client_encoding(project):
    with UserSync(project.database.dsn() + "?client_encoding=latin1") as client:
        user = project.auth.sign_up_email("ada@example.com")
        assert client.sync_auth_user(user) is True


def test_ctrl_c_before_an_answer_ends_the_statement_and_the_connection(project, monkeypatch):
    """The next call opens a new session, and the statement of the first session ends."""
    monkeypatch.setattr(psycopg_transport, "_CANCEL_TIMEOUT_S", 60.0)
    sleeping = (
        "select 1 from pg_stat_activity where datname = current_database() "
        "and application_name = 'victim' and wait_event = 'PgSleep'"
    )
    with (
        UserSync(project.database.dsn() + "?application_name=victim") as client,
        project.database.connect("supabase_admin") as superuser,
    ):
        assert client.user_exists(UNKNOWN_USER) is False

        def interrupted():
            client._transport._own.pgconn.send_query(b"select pg_sleep(600)")
            # PostgreSQL ignores a request to cancel a statement that has not begun.
            until(lambda: superuser.execute(sleeping).fetchone())
            raise KeyboardInterrupt
            yield

        with pytest.raises(KeyboardInterrupt):
            client._transport.run(interrupted())
        assert client.user_exists(UNKNOWN_USER) is False
        # The server ends the statement when it receives the cancel request.
        until(lambda: superuser.execute(sleeping).fetchone() is None)
