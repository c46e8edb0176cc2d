"""One pass over both tables says that they agree, or leaves it to the pages to say what differs."""

from __future__ import annotations

import pytest
from psycopg import errors

from usersync.models import Counts

pytestmark = pytest.mark.newest_server

ONE = "{key} = (select {key} from {users} where {deleted_at} is null limit 1)"

#: What nobody saw, and a run is to find.
DIFFERENCES = {
    "a user without a row": "delete from {users} where " + ONE,
    "another address": "update {users} set {email} = 'x' where " + ONE,
    "an address that is gone": "update {users} set {email} = null where " + ONE,
    "two rows that were swapped": (
        "update {users} as one set {full_name} = other.{full_name} from {users} as other"
        " where one.{key} <> other.{key} and one.{deleted_at} is null and other.{deleted_at} is null"
    ),
    "each has another's address": (
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
def everybody(project):
    """Users of every sort: alive, soft-deleted with a row and without, deleted."""
    users = project.auth.import_users(6)
    project.auth.soft_delete(users[0])
    project.auth.hard_delete(users[1])
    with project.database.connect("supabase_admin") as superuser:
        superuser.execute("set session_replication_role = replica")
        superuser.execute("insert into auth.users (id, deleted_at) values (gen_random_uuid(), now())")
    return users


def compared(project):
    columns = "in_step, examined, auth_users, users, orphaned, deleted_upstream"
    return project.owner.execute(f"select {columns} from usersync.compare_tables()").fetchone()


def test_a_run_that_finds_nothing_goes_through_no_page(project, everybody, sql):
    assert compared(project) == (True, 7, 4, 6, 0, 0)
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
def test_whatever_differs_is_found(project, everybody, sql, difference):
    sql(difference)
    assert compared(project)[0] is False
    project.client.reconcile()
    assert compared(project)[0] is True


#: Rows of deleted users: one without a user, one that a soft deletion and one that a deletion has left.
LEFT_ALONE = {
    "a row without a user": ("insert into {users} ({key}, {email}) values (gen_random_uuid(), 'x')", (1, 0)),
    "tombstones that hold an address": (
        "update {users} set {email} = 'ada@example.com' where {deleted_at} is not null",
        (1, 1),
    ),
    "rows that look like those of living users": (
        "update {users} set {email} = 'ada@example.com', {deleted_at} = null where {deleted_at} is not null",
        (1, 1),
    ),
}


@pytest.mark.parametrize(("change", "counts"), LEFT_ALONE.values(), ids=LEFT_ALONE)
def test_rows_of_deleted_users_are_counted_in_the_same_pass(project, everybody, sql, change, counts):
    sql(change)
    in_step, _, auth_users, users, *left_alone = compared(project)
    assert (in_step, tuple(left_alone)) == (True, counts)
    by_pages = project.client.reconcile(dry_run=True).counts
    assert (by_pages.orphaned, by_pages.deleted_upstream) == counts
    sql("drop function usersync.reconcile_page")
    run, status = project.client.reconcile().counts, project.client.status()
    assert (run.orphaned, run.deleted_upstream) == counts == (status.orphaned, status.deleted_upstream)
    assert (status.auth_users, status.users, status.in_step) == (auth_users, users, False)


def by_the_pages(project):
    counts = project.client.reconcile(dry_run=True).counts
    in_step = not counts.differing and not project.client.failures()
    return in_step, counts.examined, counts.orphaned, counts.deleted_upstream


#: As the column is named with plain names, and with others.
EMAIL = {"email": "email", 'e"mail': "email"}

#: Whether a row itself says that a deletion has left it, or the auth server's table has to be asked.
POLICIES = {
    **{each: {"on_delete": each} for each in ("anonymize", "soft", "keep", "delete")},
    "delete and keep": {"on_delete": "delete", "on_soft_delete": "keep"},
    "delete and anonymize": {"on_delete": "delete", "on_soft_delete": "anonymize"},
    "keep and anonymize": {"on_delete": "keep", "on_soft_delete": "anonymize"},
    "no tombstone": {"columns": {**EMAIL, "full_name": "user_metadata.full_name"}},
    "a tombstone of the application's": {
        "columns": {**EMAIL, "deleted_at": {"from": "deleted_at", "owner": "app"}}
    },
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


@pytest.mark.parametrize("event", EVENTS)
@pytest.mark.usefixtures("policy", "everybody")
def test_whatever_becomes_of_rows_it_says_what_the_pages_say(project, sql, event):
    project.auth.sign_up_anonymous()
    with project.database.connect("supabase_admin") as superuser:
        superuser.execute("set session_replication_role = replica")
        sql(event, connection=superuser)
    (in_step, examined, _, _, *left_alone), expected = compared(project), by_the_pages(project)
    assert in_step == expected[0]
    assert (examined, *left_alone) == expected[1:] or not in_step


@pytest.mark.settings(
    columns={
        "money": {"from": "user_metadata.full_name", "type": "money"},
        "bits": {"from": "user_metadata.full_name", "type": "bit varying(5)"},
    }
)
def test_types_that_have_no_digest_are_left_to_the_pages(project):
    """They can be compared, and cannot be hashed."""
    user = project.auth.sign_up_email("ada@example.com", data={"full_name": "1"})
    assert compared(project)[0] is False
    assert project.client.status().in_step
    assert project.client.reconcile().counts == Counts(examined=1)
    assert project.row(user)["bits"] == "1"


@pytest.mark.settings(on_delete="keep")
def test_a_disk_too_small_for_a_join_is_no_error(project, superuser):
    project.auth.import_users(3_000)
    assert compared(project)[0] is True
    superuser.execute(f"alter database {project.database.name} set temp_file_limit = '1kB'")
    superuser.execute(f"alter database {project.database.name} set work_mem = '64kB'")
    with project.database.connect("postgres") as connection:
        assert connection.execute("select in_step from usersync.compare_tables()").fetchone() == (False,)
