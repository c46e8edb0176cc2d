"""Two sessions work on the same users at the same time. Each test sets their order with locks."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest

from waiting import wait_for_locks

DEADLINE_S = 90


@pytest.fixture
def in_thread(project):
    """Run something in another thread. No lock timeout ends its wait while a test arranges the next step."""
    wait_for_locks(project.owner)
    with ThreadPoolExecutor(4) as pool:
        yield pool.submit


@contextmanager
def session(project, role="postgres"):
    """A session with an open transaction, committed at the end."""
    with project.database.connect(role, autocommit=False) as connection:
        yield connection
        connection.commit()


def until_blocked(project, *futures, sessions=1):
    """Wait until this number of sessions of this database wait for a lock."""
    waiting = (
        "select count(*) from pg_stat_activity"
        " where datname = current_database() and wait_event_type = 'Lock'"
    )
    end = time.monotonic() + DEADLINE_S
    while project.owner.execute(waiting).fetchone()[0] < sessions:
        assert time.monotonic() < end, "no session waits for a lock"
        for future in futures:
            assert not future.done(), future.result()
        time.sleep(0.005)


def sync(project, *users):
    with project.database.connect("postgres") as connection:
        connection.execute("select usersync.sync_users(%s, null, true)", [list(users)])


@pytest.fixture
def user(project):
    return project.auth.sign_up_email("old@example.com")


@pytest.fixture(params=["update {users} set {email} = 'x'", "delete from {users}"], ids=["stale", "missing"])
def out_of_sync(request, sql, user):
    """A user whose row is stale or missing."""
    sql(request.param)
    return user


CHANGE = "update auth.users set email = 'new@example.com' where id = %s"


def test_a_sync_that_waits_for_a_change_copies_the_new_value(project, out_of_sync, in_thread, sync_failures):
    with session(project, "supabase_auth_admin") as auth:
        auth.execute(CHANGE, [out_of_sync])
        reconciling = in_thread(sync, project, out_of_sync)
        until_blocked(project, reconciling)
    reconciling.result(DEADLINE_S)
    assert project.row(out_of_sync)["email"] == "new@example.com"
    assert sync_failures() == {}


def test_a_trigger_that_waits_for_a_sync_writes_the_new_value(project, out_of_sync, in_thread, sync_failures):
    with session(project) as reconciler:
        reconciler.execute("select usersync.sync_users(%s, null, true)", [[out_of_sync]])
        changing = in_thread(project.auth.connection.execute, CHANGE, [out_of_sync])
        until_blocked(project, changing)
    changing.result(DEADLINE_S)
    assert project.row(out_of_sync)["email"] == "new@example.com"
    assert sync_failures() == {}


def test_a_sync_with_an_older_snapshot_does_not_restore_the_old_value(project, user):
    with session(project) as reconciler:
        reconciler.execute("set transaction isolation level repeatable read")
        reconciler.execute("select from auth.users")
        project.auth.connection.execute(CHANGE, [user])
        reconciler.execute("select usersync.sync_users(%s, null, true)", [[user]])
    assert project.row(user)["email"] == "new@example.com"
    project.client.reconcile()
    assert project.client.status().in_step


@pytest.mark.newest_server
@pytest.mark.settings(on_delete="delete")
def test_a_row_newer_than_the_snapshot_of_the_deletion_stays_as_an_orphan(project, sql, user, sync_failures):
    """PostgreSQL hides the row from the transaction and from its triggers: docs/lifecycle.md."""
    sql("delete from {users}")
    with session(project, "supabase_auth_admin") as deleting:
        deleting.execute("set transaction isolation level repeatable read")
        deleting.execute("select from auth.users")
        assert project.client.ensure_user_exists(user)
        deleting.execute("delete from auth.users where id = %s", [user])
    assert project.row(user) is not None
    assert sync_failures() == {}
    assert project.client.status().orphaned == 1
    assert project.client.remove_orphans(limit=1).removed == 1
    assert project.row(user) is None


def test_a_user_deleted_during_a_sync_gets_no_row(project, sql, user, in_thread, sync_failures):
    sql("delete from {users}")
    with session(project, "supabase_auth_admin") as auth:
        auth.execute("delete from auth.users where id = %s", [user])
        reconciling = in_thread(sync, project, user)
        until_blocked(project, reconciling)
    reconciling.result(DEADLINE_S)
    assert project.row(user) is None
    assert sync_failures() == {}


def test_a_deletion_that_waits_for_a_sync_anonymizes_the_new_row(
    project, sql, user, in_thread, sync_failures
):
    sql("delete from {users}")
    with session(project) as reconciler:
        reconciler.execute("select usersync.sync_users(%s, null, true)", [[user]])
        deleting = in_thread(project.auth.hard_delete, user)
        until_blocked(project, deleting)
    deleting.result(DEADLINE_S)
    assert project.row(user)["email"] is None
    assert project.row(user)["deleted_at"]
    assert sync_failures() == {}


def test_two_syncs_of_the_same_users_at_once_both_succeed(project, sql, in_thread, sync_failures):
    users = project.auth.import_users(30)
    sql("update {users} set {email} = 'x'")
    with session(project) as holder:
        # Both syncs wait for the same row.
        holder.execute(
            f'select from {project.users} where "{project.settings.key}" = %s for update', [users[9]]
        )
        running = [in_thread(sync, project, *users) for _ in range(2)]
        until_blocked(project, *running, sessions=2)
    for each in running:
        each.result(DEADLINE_S)
    assert sync_failures() == {}
    assert project.client.status().in_step


def test_a_sign_up_does_not_wait_for_an_open_sync_transaction(project, sql, in_thread, sync_failures):
    project.auth.import_users(30)
    sql("delete from {users}")
    with session(project) as reconciler:
        reconciler.execute("select public.sync_existing_auth_users()")
        new = project.auth.sign_up_email("new@example.com")
        assert project.row(new)["email"] == "new@example.com"
    assert sync_failures() == {}
    assert project.client.status().in_step


@pytest.mark.slow
def test_a_deadlock_is_resolved_and_the_change_in_auth_users_is_kept(project, user, in_thread, healed):
    """The application locks public.users and needs auth.users; the auth server locks them in reverse."""
    with session(project) as application:
        application.execute(f"update {project.users} set {project.column('full_name')} = 'x'")
        changing = in_thread(
            project.auth.connection.execute, "update auth.users set phone = '15550000' where id = %s", [user]
        )
        until_blocked(project, changing)
        application.execute("select usersync.sync_users(%s, null, true)", [[user]])
    changing.result(DEADLINE_S)
    assert project.auth.user(user)["phone"] == "15550000"
    project.client.reconcile()
    healed()
    assert project.row(user)["phone"] == "15550000"


@pytest.mark.settings(lock_timeout_ms=50)
def test_one_locked_row_does_not_stop_the_other_rows_of_a_page(project, sql, sync_failures, healed):
    users = project.auth.import_users(30)
    sql("update {users} set {email} = 'x'")
    with session(project) as holder:
        key = project.settings.key
        holder.execute(f'select from {project.users} where "{key}" = %s for update', [users[9]])
        project.client.reconcile()
        assert {user: each.sqlstate for user, each in sync_failures().items()} == {users[9]: "55P03"}
        assert project.client.status().stale == 1
    healed()


@pytest.mark.slow
@pytest.mark.newest_server
@pytest.mark.parametrize("locked", ["public.users", "usersync.sync_failures", "public.audit_logs"])
@pytest.mark.parametrize(
    "work",
    [
        "update auth.users set banned_until = now()",
        """
        do $$ begin
            for number in 1..40 loop
                insert into auth.users (id, email) values (gen_random_uuid(), number || '@example.com');
            end loop;
        end $$
        """,
    ],
    ids=["update", "insert"],
)
def test_a_transaction_waits_for_a_lock_once(installed, database, locked, work):
    auth, client = installed(lock_timeout_ms=500, audit={"enabled": True, "user_events": True})
    users = auth.import_users(40)
    with database.connect("postgres", autocommit=False) as other:
        other.execute(f"lock table {locked} in access exclusive mode")
        # Forty users at half a second each would take twenty seconds.
        auth.connection.execute("set statement_timeout = '10s'")
        auth.connection.execute(work)
        other.rollback()
    status = client.status()
    assert status.auth_users == (len(users) if work.startswith("update") else 80)
    recorded = {each.user_id for each in client.failures()}
    missed = status.missing + status.stale
    assert missed == (40 if locked == "public.users" else 0)
    assert len(recorded) == (0 if locked == "usersync.sync_failures" else 40)
