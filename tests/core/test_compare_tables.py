"""``usersync.compare_tables`` compares both tables in one pass. If they differ, a run reads them by pages."""

from __future__ import annotations

import pytest
from psycopg import errors

from usersync import UserSync
from usersync.models import Counts

pytestmark = pytest.mark.newest_server

ONE = "{key} = (select {key} from {users} where {deleted_at} is null limit 1)"

#: Changes that a run must find.
DIFFERENCES = {
    "a user without a row": "delete from {users} where " + ONE,
    "another e-mail": "update {users} set {email} = 'x' where " + ONE,
    "a missing e-mail": "update {users} set {email} = null where " + ONE,
    "full names swapped between two rows": (
        "update {users} as one set {full_name} = other.{full_name} from {users} as other"
        " where one.{key} <> other.{key} and one.{deleted_at} is null and other.{deleted_at} is null"
    ),
    "each row with the e-mail of the next one": (
        "update {users} as one set {email} = other.email from ("
        " select {key} as id, coalesce(lead({email}) over ids, first_value({email}) over ids) as email"
        " from {users} where {deleted_at} is null window ids as (order by {key})"
        ") as other where one.{key} = other.id"
    ),
    "a row in the failures table": (
        "insert into usersync.sync_failures (user_id, outcome, sqlstate, message)"
        " select {key}, 'degraded', '23505', 'x' from {users} limit 1"
    ),
}


@pytest.fixture
def users_in_each_state(project):
    """Users who are alive, soft-deleted with and without a row, and deleted."""
    users = project.auth.import_users(6)
    project.auth.soft_delete(users[0])
    project.auth.hard_delete(users[1])
    with project.database.connect("supabase_admin") as superuser:
        superuser.execute("set session_replication_role = replica")
        superuser.execute("insert into auth.users (id, deleted_at) values (gen_random_uuid(), now())")
    return users


def compared(connection):
    columns = "in_step, examined, auth_users, users, orphaned, deleted_upstream"
    return connection.execute(f"select {columns} from usersync.compare_tables()").fetchone()


def test_a_run_without_differences_reads_no_page(project, users_in_each_state, sql):
    assert compared(project.owner) == (True, 7, 4, 6, 0, 0)
    sql("drop function usersync.reconcile_page")
    assert project.client.reconcile().counts == Counts(examined=7)
    assert sql("select state, next_id, examined from usersync.sync_runs") == [("finished", None, 7)]
    status = project.client.status()
    assert (status.auth_users, status.users, status.in_step) == (4, 6, True)
    done = sql("select public.sync_existing_auth_users()")[0][0]
    assert done == {
        "synced": 0, "errors": 0, "examined": 7, "orphaned": 0, "deleted_upstream": 0, "next_id": None
    }  # fmt: skip
    sql("delete from {users} where {deleted_at} is null")
    with pytest.raises(errors.UndefinedFunction):
        project.owner.execute("select public.user_sync_status()")


@pytest.mark.parametrize("difference", DIFFERENCES.values(), ids=DIFFERENCES)
def test_each_kind_of_difference_is_found_and_synced(project, users_in_each_state, sql, difference):
    sql(difference)
    assert compared(project.owner)[0] is False
    project.client.reconcile()
    assert compared(project.owner)[0] is True


#: Changes to rows of deleted users, with the expected counts of orphaned and of deleted_upstream rows.
LEFT_ALONE = {
    "a row without a user": ("insert into {users} ({key}, {email}) values (gen_random_uuid(), 'x')", (1, 0)),
    "tombstones with an e-mail": (
        "update {users} set {email} = 'ada@example.com' where {deleted_at} is not null",
        (1, 1),
    ),
    "rows that look like those of living users": (
        "update {users} set {email} = 'ada@example.com', {deleted_at} = null where {deleted_at} is not null",
        (1, 1),
    ),
}


@pytest.mark.parametrize(("change", "counts"), LEFT_ALONE.values(), ids=LEFT_ALONE)
def test_rows_of_deleted_users_are_counted_in_the_same_pass(
    project, users_in_each_state, sql, change, counts
):
    sql(change)
    in_step, _, auth_users, users, *left_alone = compared(project.owner)
    assert (in_step, tuple(left_alone)) == (True, counts)
    by_pages = project.client.reconcile(dry_run=True).counts
    assert (by_pages.orphaned, by_pages.deleted_upstream) == counts
    sql("drop function usersync.reconcile_page")
    run, status = project.client.reconcile().counts, project.client.status()
    assert (run.orphaned, run.deleted_upstream) == counts == (status.orphaned, status.deleted_upstream)
    assert (status.auth_users, status.users, status.in_step) == (auth_users, users, False)


def compared_by_pages(connection):
    client = UserSync(connection)
    counts = client.reconcile(dry_run=True).counts
    in_step = not counts.differing and not client.failures()
    return in_step, counts.examined, counts.orphaned, counts.deleted_upstream


#: The e-mail column under its plain name, and under one that requires quotes.
EMAIL = {"email": "email", 'e"mail': "email"}

#: Settings that decide whether a row shows that its user was deleted, or only auth.users does.
POLICIES = {
    **{each: {"on_delete": each} for each in ("anonymize", "soft", "keep", "delete")},
    "delete and keep": {"on_delete": "delete", "on_soft_delete": "keep"},
    "delete and anonymize": {"on_delete": "delete", "on_soft_delete": "anonymize"},
    "keep and anonymize": {"on_delete": "keep", "on_soft_delete": "anonymize"},
    "no tombstone": {"columns": {**EMAIL, "full_name": "user_metadata.full_name"}},
    "an app-owned tombstone": {"columns": {**EMAIL, "deleted_at": {"from": "deleted_at", "owner": "app"}}},
}


LIVING = "(select id from auth.users where deleted_at is null limit 1)"

EVENTS = [
    "select 1",
    "delete from {users} where {key} = " + LIVING,
    "update {users} set {email} = 'x' where {key} = " + LIVING,
    "update {users} set {email} = null where {key} = " + LIVING,
    "insert into {users} ({key}, {email}) values (gen_random_uuid(), 'x')",
    "insert into {users} ({key}) values (gen_random_uuid())",
    "update {users} as one set {email} = two.{email} from {users} as two where one.{email} <> two.{email}",
    "update {users} set {key} = gen_random_uuid() where {key} = " + LIVING,
    "update auth.users set deleted_at = now() where id = " + LIVING,
    "delete from auth.users where id = " + LIVING,
    "delete from auth.users",
    "delete from {users}",
]


@pytest.fixture(
    params=[pytest.param(name, marks=pytest.mark.settings(**each)) for name, each in POLICIES.items()]
)
def policy(request):
    return request.param


@pytest.mark.usefixtures("policy", "users_in_each_state")
def test_one_pass_gives_the_same_result_as_pages(project, sql):
    project.auth.sign_up_anonymous()
    with project.database.connect("supabase_admin") as superuser:
        for event in EVENTS:
            with superuser.transaction(force_rollback=True):
                superuser.execute("set local session_replication_role = replica")
                sql(event, connection=superuser)
                superuser.execute("set local session_replication_role = default")
                (in_step, examined, _, _, *left_alone), expected = (
                    compared(superuser),
                    compared_by_pages(superuser),
                )
            assert in_step == expected[0], event
            assert (examined, *left_alone) == expected[1:] or not in_step, event


@pytest.mark.settings(
    columns={
        "money": {"from": "user_metadata.full_name", "type": "money"},
        "bits": {"from": "user_metadata.full_name", "type": "bit varying(5)"},
    }
)
def test_types_that_cannot_be_hashed_are_compared_by_pages(project):
    """PostgreSQL can compare values of these types, but not hash them."""
    user = project.auth.sign_up_email("ada@example.com", data={"full_name": "1"})
    assert compared(project.owner)[0] is False
    assert project.client.status().in_step
    assert project.client.reconcile().counts == Counts(examined=1)
    assert project.row(user)["bits"] == "1"


@pytest.mark.settings(on_delete="keep")
def test_exceeding_temp_file_limit_is_not_an_error(project, superuser):
    project.auth.import_users(3_000)
    assert compared(project.owner)[0] is True
    superuser.execute(f"alter database {project.database.name} set temp_file_limit = '1kB'")
    superuser.execute(f"alter database {project.database.name} set work_mem = '64kB'")
    with project.database.connect("postgres") as connection:
        assert connection.execute("select in_step from usersync.compare_tables()").fetchone() == (False,)


def test_rows_without_an_auth_user_id_are_not_counted(installed):
    auth, client = installed(
        """
        create table public.members (
            id bigserial primary key, auth_id uuid unique, email text, deleted_at timestamptz
        );
        insert into public.members (email) select n from generate_series(1, 100) as n
        """,
        users_table="public.members",
        key="auth_id",
        columns={"email": "email", "deleted_at": "deleted_at"},
    )
    auth.sign_up_email()
    assert client.reconcile().counts.examined == 1
