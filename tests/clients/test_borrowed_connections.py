"""Clients on a connection of the application: its transactions, and how threads, tasks and loops share it."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest
from psycopg.pq import TransactionStatus
from psycopg_pool import AsyncConnectionPool

from usersync import AsyncUserSync, AuditLog, UserSync
from usersync.errors import ConnectionFailedError, DatabaseError, UsersyncError
from waiting import until

pytestmark = pytest.mark.newest_server

#: The foreign key of a child is checked at COMMIT.
FAMILY = """
    create table public.parent (id int primary key);
    create table public.child (parent_id int references public.parent deferrable initially deferred);
    -- Checked at once, unless the application defers it.
    create table public.pet (parent_id int references public.parent deferrable)
"""

#: Settings that a call could change for the rest of the transaction.
SESSION = (
    "select current_setting('lock_timeout'), current_setting('search_path'), current_setting('timezone'), "
    "current_setting('usersync.has_waited', true) = 'yes', "
    "current_setting('usersync.transaction', true) = 'own'"
)


@pytest.fixture
def family(project):
    project.owner.execute(FAMILY)


@pytest.fixture
def log(tmp_path):
    with AuditLog.recording_only(spool_dir=tmp_path) as log:
        yield log


def insert_child_before_parent(connection):
    connection.execute("insert into public.child values (1)")
    connection.execute("insert into public.parent values (1)")
    connection.commit()


CALLS = {
    "ensure_user_exists, in SQL": lambda connection, user, _: connection.execute(
        "select public.ensure_user_exists(%s)", [user]
    ),
    "sync_existing_auth_users, in SQL": lambda connection, *_: connection.execute(
        "select public.sync_existing_auth_users()"
    ),
    "record_audit_events, in SQL": lambda connection, user, _: connection.execute(
        "select public.record_audit_events(jsonb_build_array(jsonb_build_object("
        "'action', 'a.b', 'user_id', %s::text)))",
        [user],
    ),
    "record_in": lambda connection, user, log: log.record_in(connection, "a.b", user_id=user, required=True),
    "UserSync": lambda connection, user, _: UserSync(connection).ensure_user_exists(user),
    "reconcile": lambda connection, *_: UserSync(connection).reconcile(),
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
@pytest.mark.usefixtures("family")
def test_a_call_leaves_deferred_constraints_to_the_applications_commit(
    project, insert_without_triggers, log, call
):
    (user,) = insert_without_triggers(1)
    with psycopg.connect(project.database.dsn()) as connection:
        call(connection, user, log)
        insert_child_before_parent(connection)
    assert project.client.user_exists(user)
    assert project.client.failures() == []


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
@pytest.mark.usefixtures("family")
def test_a_call_changes_no_constraint_mode_and_no_session_setting(
    project, insert_without_triggers, log, call
):
    (user,) = insert_without_triggers(1)
    with psycopg.connect(project.database.dsn()) as connection:
        before = connection.execute(SESSION).fetchone()
        connection.execute("set constraints pet_parent_id_fkey deferred")
        connection.execute("insert into public.pet values (1)")
        call(connection, user, log)
        assert connection.execute(SESSION).fetchone()[:3] == before[:3]
        assert not any(connection.execute(SESSION).fetchone()[3:])
        connection.execute("insert into public.pet values (1)")
        insert_child_before_parent(connection)
    assert project.client.user_exists(user)
    assert project.client.failures() == []


def test_a_call_that_waited_for_a_lock_leaves_no_setting(project, insert_without_triggers):
    (user,) = insert_without_triggers(1)
    with psycopg.connect(project.database.dsn()) as connection, project.database.connect() as other:
        other.execute(f"begin; lock table {project.users} in share row exclusive mode")
        assert UserSync(connection).ensure_user_exists(user) is False
        assert not any(connection.execute(SESSION).fetchone()[3:])
        assert connection.execute(SESSION).fetchone()[0] == "0"


@pytest.mark.usefixtures("family")
def test_in_usersyncs_own_transaction_a_deferred_violation_is_a_sync_failure(
    project, insert_without_triggers
):
    """The trigger violates a deferred constraint for one user. The other user gets a row."""
    users = insert_without_triggers(2)
    project.owner.execute(f"""
        create function public.bear() returns trigger language plpgsql as $$ begin
        if new.{project.settings.key} = '{users[0]}' then insert into public.child values (7); end if;
        return new; end $$;
        create trigger bear after insert on {project.users} for each row execute function public.bear()
    """)
    assert project.client.reconcile().synced == 1
    assert [(each.user_id, each.sqlstate) for each in project.client.failures()] == [(users[0], "23503")]


def test_a_call_on_an_idle_connection_without_autocommit_begins_a_transaction(
    project, insert_without_triggers
):
    (user,) = insert_without_triggers(1)
    with psycopg.connect(project.database.dsn()) as connection:
        client = UserSync(connection)
        assert client.ensure_user_exists(user) is True
        assert connection.info.transaction_status == TransactionStatus.INTRANS
        assert connection.autocommit is False
        assert project.row(user) is None
        connection.rollback()
        assert client.user_exists(user) is False
        connection.rollback()
        assert client.ensure_user_exists(user) is True, "a result that was rolled back is not cached"
    assert project.row(user) is not None


def create_user_to_erase(project):
    user = project.auth.sign_up_email("ada@example.com")
    project.owner.execute(
        "select public.record_audit_events(jsonb_build_array(jsonb_build_object('action', 'a.b', "
        "'user_id', %s::text, 'metadata', '{\"email\": \"ada@example.com\"}'::jsonb)))",
        [user],
    )
    project.auth.hard_delete(user)
    return user


def test_erase_raises_in_a_transaction_of_the_application(project):
    user = create_user_to_erase(project)
    with psycopg.connect(project.database.dsn()) as connection:
        with pytest.raises(UsersyncError, match="transaction of its own") as caught:
            UserSync(connection).erase(user)
        assert "autocommit" in caught.value.hint
        assert connection.execute("select 1").fetchone() == (1,)


@pytest.mark.parametrize("autocommit", [True, False])
def test_four_threads_can_share_one_connection(project, insert_without_triggers, log, autocommit):
    users = insert_without_triggers(100)
    with psycopg.connect(project.database.dsn(), autocommit=autocommit) as connection:
        clients = [UserSync(connection) for _ in range(4)]

        def work(number):
            user = users[number % 100]
            done = clients[number % 4].ensure_user_exists(user)
            assert log.record_in(connection, "a.b", user_id=user, required=True)
            # A statement of the application.
            return done and connection.execute("select 1").fetchone() == (1,)

        with ThreadPoolExecutor(4) as threads:
            assert all(threads.map(work, range(200)))
        assert connection.autocommit is autocommit
        expected = TransactionStatus.IDLE if autocommit else TransactionStatus.INTRANS
        assert connection.info.transaction_status == expected
    assert project.client.status().in_step
    assert count_events(project) == 200


@pytest.mark.parametrize("autocommit", [True, False])
def test_eight_tasks_can_share_one_connection(project, insert_without_triggers, log, autocommit):
    users = insert_without_triggers(100)

    async def main():
        dsn = project.database.dsn()
        async with await psycopg.AsyncConnection.connect(dsn, autocommit=autocommit) as connection:
            clients = [AsyncUserSync(connection) for _ in range(4)]

            async def work(first):
                for number in range(first, 200, 8):
                    user = users[number % 100]
                    assert await clients[number % 4].ensure_user_exists(user)
                    assert await log.record_in(connection, "a.b", user_id=user, required=True)
                    assert await (await connection.execute("select 1")).fetchone() == (1,)

            await asyncio.gather(*(work(first) for first in range(8)))
            assert connection.autocommit is autocommit
            expected = TransactionStatus.IDLE if autocommit else TransactionStatus.INTRANS
            assert connection.info.transaction_status == expected

    asyncio.run(main())
    assert project.client.status().in_step
    assert count_events(project) == 200


def count_events(project):
    statement = f"select count(*) from {project.settings.audit_table.quoted} where user_id is not null"
    return project.owner.execute(statement).fetchone()[0]


def test_another_threads_statements_are_not_part_of_the_transaction_of_erase(project, log):
    """erase() begins and commits a transaction on a connection in autocommit mode."""
    user = create_user_to_erase(project)
    with psycopg.connect(project.database.dsn(), autocommit=True) as connection:
        stop, seen = threading.Event(), []

        def use():
            while not stop.is_set():
                connection.execute("select 1")
                seen.append(log.record_in(connection, "c.d", required=True))

        thread = threading.Thread(target=use)
        thread.start()
        try:
            UserSync(connection).erase(user)
        finally:
            stop.set()
            thread.join()
        assert all(seen)
        assert connection.info.transaction_status == TransactionStatus.IDLE
        statement = f"select count(*) from {project.settings.audit_table.quoted} where action = 'c.d'"
        assert connection.execute(statement).fetchone()[0] == len(seen)


@pytest.mark.parametrize("autocommit", [True, False])
def test_calls_work_in_a_pipeline(project, insert_without_triggers, autocommit):
    first, second = insert_without_triggers(2)
    with psycopg.connect(project.database.dsn(), autocommit=autocommit) as connection:
        client = UserSync(connection)
        with connection.pipeline():
            pending = connection.execute("select 7")
            assert client.ensure_user_exists(first) is True
            assert client.failures() == []
            assert pending.fetchone() == (7,)
            assert client.ensure_user_exists(second) is True
        connection.commit()
    assert project.client.status().in_step


def test_calls_work_in_a_pipeline_with_asyncio(project, insert_without_triggers):
    (user,) = insert_without_triggers(1)

    async def main():
        dsn = project.database.dsn()
        async with await psycopg.AsyncConnection.connect(dsn) as connection, connection.pipeline():
            pending = await connection.execute("select 7")
            assert await AsyncUserSync(connection).ensure_user_exists(user) is True
            assert await pending.fetchone() == (7,)

    asyncio.run(main())
    assert project.client.status().in_step


def test_a_failure_in_a_pipeline_leaves_the_transaction_usable(project):
    project.owner.execute("alter function public.usersync(text, jsonb) rename to gone")
    with psycopg.connect(project.database.dsn()) as connection, connection.pipeline():
        connection.execute("create temporary table mine (n integer)")
        with pytest.raises(UsersyncError):
            UserSync(connection).failures()
        connection.execute("insert into mine values (1)")
        assert connection.execute("select n from mine").fetchone() == (1,)


def test_a_call_in_a_failed_transaction_raises(project):
    with psycopg.connect(project.database.dsn()) as connection:
        with pytest.raises(psycopg.errors.DivisionByZero):
            connection.execute("select 1/0")
        with pytest.raises(DatabaseError, match="has failed already") as caught:
            UserSync(connection).failures()
        assert caught.value.sqlstate == "25P02"
        assert "back" in caught.value.hint
        connection.rollback()
        assert UserSync(connection).failures() == []


def test_a_call_on_a_closed_connection_raises(project):
    connection = psycopg.connect(project.database.dsn())
    connection.close()
    with pytest.raises(ConnectionFailedError, match="closed"):
        UserSync(connection).failures()


def test_clients_work_in_one_event_loop_after_another(project):
    """The connection of the first event loop is idle, so the second event loop can use it."""
    dsn = project.database.dsn()
    runner = asyncio.Runner()
    connection = runner.run(psycopg.AsyncConnection.connect(dsn))
    by_dsn = AsyncUserSync(dsn)

    async def main():
        assert await AsyncUserSync(connection).failures() == []
        calls = [by_dsn.failures() for _ in range(5)]
        assert await asyncio.gather(*calls) == [[]] * 5

    runner.run(main())
    runner.close()

    async def second():
        await main()
        await connection.close()
        await by_dsn.close()

    asyncio.run(second())


def test_only_a_client_with_a_dsn_serves_two_event_loops_at_once(project):
    """With a connection or a pool, a client raises in the second event loop."""
    dsn = project.database.dsn()
    by_dsn = AsyncUserSync(dsn)

    async def in_another(client):
        try:
            return await client.failures()
        finally:
            if client is by_dsn:
                await client.close()

    async def main():
        async with (
            await psycopg.AsyncConnection.connect(dsn) as connection,
            AsyncConnectionPool(dsn, min_size=1, open=False) as pool,
            by_dsn,
        ):
            for client in (AsyncUserSync(connection), AsyncUserSync(pool)):
                assert await client.failures() == []
                with pytest.raises(ConnectionFailedError, match="another event loop") as caught:
                    await asyncio.to_thread(asyncio.run, in_another(client))
                assert "event loop" in caught.value.hint
                assert await client.failures() == []
            assert await by_dsn.failures() == []
            both = asyncio.to_thread(asyncio.run, in_another(by_dsn)), by_dsn.failures()
            assert await asyncio.gather(*both) == [[], []]

    asyncio.run(main())


def test_ctrl_c_during_a_call_does_not_end_the_transaction(project, insert_without_triggers):
    """The signal arrives while the main thread waits for a lock."""
    import signal  # noqa: PLC0415

    insert_without_triggers(1)
    dsn = project.database.dsn() + "?application_name=waiting"
    waiting = (
        "select 1 from pg_stat_activity where application_name = 'waiting' and wait_event_type = 'Lock' "
        "and datname = current_database()"
    )
    with (
        psycopg.connect(dsn) as connection,
        project.database.connect() as other,
        project.database.connect("supabase_admin") as superuser,
    ):
        # Long enough for the signal on a slow machine.
        other.execute("alter function public.usersync(text, jsonb) set lock_timeout = '10min'")
        connection.execute("create temporary table mine (n integer)")
        other.execute("begin; lock table usersync.sync_failures in access exclusive mode")

        def interrupt():
            until(lambda: superuser.execute(waiting).fetchone())
            signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)

        thread = threading.Thread(target=interrupt)
        thread.start()
        with pytest.raises(KeyboardInterrupt):
            UserSync(connection).failures()
        thread.join()
        other.execute("rollback")
        assert connection.info.transaction_status == TransactionStatus.INTRANS
        connection.execute("insert into mine values (1)")
        assert UserSync(connection).failures() == []
