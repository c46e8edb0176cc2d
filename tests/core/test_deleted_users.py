"""Rows of deleted users: a deletion that a trigger sees is applied. All other rows are counted and kept."""

from __future__ import annotations

import psycopg
import pytest

from usersync.config.settings import parse_settings
from usersync.errors import RemovalLimitError, SettingsError
from usersync.models import Counts
from usersync.schema import installation
from usersync.sql.render import render_bundle
from usersync.transports.run import run as run_plan

ALL = ("anonymize", "soft", "keep", "delete")


@pytest.fixture
def content(sql):
    """Every row of the users table, with the transaction that wrote it."""
    return lambda: sql("select xmin::text, u::text from {users} as u order by 2")


@pytest.fixture
def people(project, unmirrored):
    """A living user, a deleted one and a soft-deleted one. No trigger saw the deletions."""
    alive, gone, soft = (project.auth.sign_up_email(f"{name}@example.com") for name in "abc")
    unmirrored("delete from auth.users where id = %s", gone)
    unmirrored("update auth.users set deleted_at = now(), email = 'hash' where id = %s", soft)
    return alive, gone, soft


#: Each call that compares or syncs without a request to remove rows.
RUNS = {
    "a run": lambda project, _: project.client.reconcile(),
    "small pages": lambda project, _: project.client.reconcile(page_size=1),
    "several workers": lambda project, _: project.client.reconcile(workers=2),
    "retry": lambda project, _: project.client.retry(),
    "one user": lambda project, ids: [project.client.sync_auth_user(each) for each in ids],
    "just in time": lambda project, ids: [project.client.ensure_user_exists(each) for each in ids],
    "from SQL": lambda project, _: project.owner.execute("select public.sync_existing_auth_users()"),
    "from SQL by pages": lambda project, _: project.owner.execute(
        "select public.sync_existing_auth_users(null, 1)"
    ),
}


@pytest.mark.newest_server
@pytest.mark.parametrize(
    "policy",
    [pytest.param(each, marks=pytest.mark.settings(on_delete=each)) for each in ("anonymize", "delete")],
)
@pytest.mark.parametrize("run", RUNS.values(), ids=RUNS)
def test_no_run_removes_or_empties_a_row(project, people, content, run, policy):
    before = content()
    run(project, people)
    assert content() == before
    status = project.client.status()
    assert (status.orphaned, status.deleted_upstream, status.failures) == (1, 1, 0), policy
    assert not status.in_step


def test_no_row_is_removed_without_a_request_if_auth_users_is_empty(project, unmirrored, content):
    """As after a partial restore: auth.users is empty, and the users table has 200 rows."""
    project.auth.import_users(200)
    unmirrored("delete from auth.users")
    before = content()
    assert project.client.reconcile().counts == Counts(examined=200, orphaned=200)
    assert project.client.reconcile(dry_run=True).counts.orphaned == 200
    with pytest.raises(RemovalLimitError, match="there are 200 rows"):
        project.client.remove_orphans(limit=199)
    assert content() == before
    assert project.client.remove_orphans(limit=200).removed == 200


def test_remove_orphans_removes_orphaned_rows_only(project, people):
    alive, gone, soft = people
    removal = project.client.remove_orphans(limit=1)
    assert (removal.kind, removal.found, removal.removed, removal.failed) == ("orphaned", 1, 1, 0)
    assert project.row(gone)["email"] is None
    assert project.row(gone)["deleted_at"] is not None
    assert project.row(soft)["email"] == "c@example.com"
    assert project.row(alive)["email"] == "a@example.com"
    # An anonymized row is no orphan.
    assert project.client.remove_orphans(limit=0).found == 0
    assert project.client.status().orphaned == 0


def test_apply_deletions_changes_rows_of_soft_deleted_users_only(project, people):
    _, gone, soft = people
    removal = project.client.apply_deletions(limit=1)
    assert (removal.kind, removal.removed) == ("deleted_upstream", 1)
    assert project.row(soft)["email"] is None
    assert project.row(gone)["email"] == "b@example.com"
    assert project.client.apply_deletions(limit=0).found == 0


@pytest.mark.settings(on_delete="keep", on_soft_delete="anonymize")
def test_remove_orphans_raises_if_on_delete_is_keep(project, people):
    assert project.client.status().orphaned == 0
    with pytest.raises(SettingsError, match='on_delete is "keep"'):
        project.client.remove_orphans(limit=10)
    assert project.client.apply_deletions(limit=10).removed == 1


@pytest.mark.parametrize("soft", ALL)
@pytest.mark.parametrize("hard", ALL)
@pytest.mark.newest_server
def test_each_kind_of_deletion_has_its_own_setting(project, hard, soft, sql):
    """A trigger sees both deletions, so they are applied at once."""

    described = project.settings.describe() | {"on_delete": hard, "on_soft_delete": soft}
    run_plan(installation.apply(parse_settings(described)), project.owner)
    deleted, soft_deleted = (project.auth.sign_up_email(f"{name}@example.com") for name in "ab")
    project.auth.hard_delete(deleted)
    project.auth.soft_delete(soft_deleted)
    assert state(project, deleted) == hard
    assert state(project, soft_deleted) == soft
    status = project.client.status()
    assert status.in_step, status
    assert project.client.reconcile().counts.differing == 0


def state(project, user) -> str:
    """The policy that the user's row shows."""
    row = project.row(user)
    if row is None:
        return "delete"
    if row["deleted_at"] is None:
        return "keep"
    return "soft" if row["email"] else "anonymize"


@pytest.mark.settings(on_delete="delete", on_soft_delete="keep")
def test_a_soft_deletion_with_policy_keep_leaves_the_row_unchanged(project):
    user = project.auth.sign_up_email("ada@example.com", data={"name": "Ada"})
    before = project.row(user)
    project.auth.soft_delete(user)
    assert project.row(user) == before
    assert project.client.status().in_step
    assert project.client.reconcile().counts == Counts(examined=1)


def test_an_update_of_a_soft_deleted_user_does_not_apply_the_deletion(project, people, sql):
    """No trigger saw the deletion. A later UPDATE of the same user is not a deletion."""
    *_, soft = people
    with project.database.connect("supabase_auth_admin") as auth:
        auth.execute("update auth.users set phone = '1', email = 'other' where id = %s", [soft])
    assert project.row(soft)["email"] == "c@example.com"
    assert project.client.failures() == []


def test_a_soft_deletion_frees_the_unique_email(project, sql):
    sql("alter table {users} add constraint one unique ({email})")
    first = project.auth.sign_up_email("ada@example.com")
    project.auth.soft_delete(first)
    again = project.auth.sign_up_again("ada@example.com")
    assert project.row(again)["email"] == "ada@example.com"
    assert project.client.failures() == []


HOLDS = """
    create table public.orders (user_id uuid references {users} ({key}));
    insert into public.orders select {key} from {users}
"""


@pytest.mark.settings(on_delete="delete")
def test_a_failed_deletion_is_a_failure_of_kind_removal(project, sql):
    """The failure is counted in ``removal_failed``, and not as a user without a row."""
    user = project.auth.sign_up_email("ada@example.com")
    sql(HOLDS)
    project.auth.hard_delete(user)
    (failure,) = project.client.failures()
    assert (failure.kind, failure.outcome, failure.sqlstate) == ("removal", "failed", "23503")
    status = project.client.status()
    assert (status.removal_failed, status.failed, status.degraded, status.orphaned) == (1, 0, 0, 1)
    counts = project.client.reconcile().counts
    assert (counts.failed, counts.orphaned) == (0, 1)
    assert project.client.failures() == [failure]
    assert project.client.retry().errors == 1
    sql("drop table public.orders")
    # A run leaves the row alone. Only retry tries the deletion again.
    project.client.reconcile()
    assert project.row(user)
    assert project.client.retry().errors == 0
    assert project.row(user) is None
    assert project.client.status().in_step


@pytest.mark.settings(on_delete="delete")
def test_retry_does_not_delete_the_row_of_a_restored_user(project, sql, unmirrored):
    user = project.auth.sign_up_email("ada@example.com")
    sql(HOLDS)
    project.auth.hard_delete(user)
    sql("drop table public.orders")
    unmirrored("insert into auth.users (id, email) values (%s, 'ada@example.com')", user)
    assert project.client.retry().errors == 0
    assert project.row(user)["email"] == "ada@example.com"
    assert project.client.failures() == []


@pytest.mark.slow
def test_an_orphan_in_a_locked_table_is_not_a_failed_removal(project, people, sql):
    """Otherwise retry would remove the row without a request."""
    with psycopg.connect(project.database.dsn()) as holder:
        holder.execute(f"lock table {project.users} in access exclusive mode")
        for user in people:
            sql("select usersync.sync_users(array[%s]::uuid[], 'PAGE', true)", user)
    assert sql("select user_id, kind from usersync.sync_failures") == [(people[0], "row")]


@pytest.mark.settings(on_delete="delete")
def test_an_orphan_that_cannot_be_removed_is_a_sync_failure(project, people, sql):
    _, gone, _ = people
    sql(HOLDS)
    removal = project.client.remove_orphans(limit=5)
    assert (removal.found, removal.removed, removal.failed) == (1, 0, 1)
    (failure,) = project.client.failures()
    assert (failure.user_id, failure.kind) == (gone, "removal")


def test_the_migration_sets_the_kind_of_existing_failures(project, people, sql):

    alive, gone, soft = people
    sql("alter table usersync.sync_failures drop column kind")
    sql("insert into usersync.sync_failures (user_id, outcome, sqlstate, message)"
        " select unnest(%s::uuid[]), 'failed', '23503', 'x'", list(people))  # fmt: skip
    migration = next(each for each in render_bundle(project.settings).migrations if each.name == "deletions")
    project.owner.execute(migration.up)
    kinds = dict(sql("select user_id, kind from usersync.sync_failures"))
    assert kinds == {alive: "row", gone: "removal", soft: "removal"}


def test_apply_creates_a_dropped_failures_table_again(project, sql):

    sql("drop table usersync.sync_failures")
    run_plan(installation.apply(project.settings), project.owner)
    assert project.client.failures() == []
    assert run_plan(installation.plan(project.settings), project.owner).changes == ()


REMOVALS = """
    select action, actor_id, metadata, db_role from public.audit_logs
    where source = 'sync' order by recorded_at
"""


@pytest.mark.newest_server
@pytest.mark.settings(audit={"enabled": True})
def test_a_removal_is_in_the_audit_log_with_actor_and_counts(project, people, sql):
    assert project.client.remove_orphans(limit=5).recorded
    assert project.client.apply_deletions(limit=5).recorded
    # No rows were found, so no event is recorded.
    assert not project.client.remove_orphans(limit=5).recorded
    first, second = sql(REMOVALS)
    assert first[:2] == ("usersync.orphans_removed", "postgres")
    counts = {name: first[2][name] for name in ("found", "removed", "failed", "policy")}
    assert counts == {"found": 1, "removed": 1, "failed": 0, "policy": "anonymize"}
    assert first[3] == "postgres"
    assert second[0] == "usersync.deletions_applied"


@pytest.mark.newest_server
def test_orphans_are_removed_without_an_audit_log(project, people):
    removal = project.client.remove_orphans(limit=5)
    assert (removal.removed, removal.recorded) == (1, False)


def warnings_of(project) -> list[str]:
    return [each.message for each in run_plan(installation.plan(project.settings), project.owner).findings]


@pytest.mark.settings(on_delete="anonymize", on_soft_delete="keep")
def test_plan_warns_if_a_soft_deletion_does_not_free_a_unique_email(project, sql):
    """The test also checks that the warning is true."""
    assert not any("UNIQUE" in each for each in warnings_of(project))
    sql("alter table {users} add constraint one unique ({email})")
    (warning,) = [each for each in warnings_of(project) if "UNIQUE" in each]
    assert "on_soft_delete = 'keep' leaves it in the row of a soft-deleted user" in warning
    assert "gets a row without it" in warning
    first = project.auth.sign_up_email("ada@example.com")
    project.auth.soft_delete(first)
    again = project.auth.sign_up_again("ada@example.com")
    assert project.row(again)["email"] is None
    assert project.row(first)["email"] == "ada@example.com"
    project.auth.hard_delete(first)
    project.client.retry()
    assert project.row(again)["email"] == "ada@example.com"
