"""D017 to D020: differences, sync failures, runs and settings."""

from __future__ import annotations

import dataclasses

import pytest

from usersync.testing import broken_users_table


def test_d017_reports_missing_and_stale_rows(checked, root):
    auth, users = checked.project.auth, checked.project.users
    stale = auth.sign_up_email("stale@example.com")
    root.execute("set session_replication_role = replica")
    root.execute("insert into auth.users (id, email) values (gen_random_uuid(), 'missing@example.com')")
    key, email = _key(checked), checked.project.column("email")
    root.execute(f"update {users} set {email} = 'other@example.com' where {key} = %s", [stale])
    check = checked.check("D017")
    assert "of 2 users: 1 missing, 1 stale" in check.detail
    assert check.fix.splitlines()[0] == "usersync sync --dry-run"
    checked.apply(check)
    kept = f"select {email} from {users} where {key} = %s"
    assert root.execute(kept, [stale]).fetchone() == ("other@example.com",), "a pasted fix overwrites nothing"
    checked.project.client.reconcile()
    root.execute(f"delete from {users} where {key} = %s", [stale])
    assert checked.is_fixed_by_pasting("D017").fix == "usersync sync"
    assert checked.failing() == {}


@pytest.mark.newest_server
def test_d017_rows_of_deleted_users_survive_the_fix(checked, root):
    """As after a partial restore, auth.users has none of the 200 users. The pasted fix changes no row."""
    checked.project.auth.import_users(200)
    root.execute("set session_replication_role = replica")
    root.execute(
        "update auth.users set deleted_at = now() where id = (select min(id::text)::uuid from auth.users)"
    )
    root.execute("delete from auth.users where deleted_at is null")
    users = checked.project.users
    rows = f"select count(*), sum(hashtextextended(u::text || u.xmin::text, 0)) from {users} as u"
    before = root.execute(rows).fetchone()
    check = checked.check("D017")
    assert check.status == "warning"
    assert "199 rows of users whom the auth server does not have" in check.detail
    assert "1 row of users whom the auth server has soft-deleted" in check.detail
    assert [line for line in check.fix.splitlines() if not line.startswith("--")] == [
        "usersync sync --dry-run"
    ] * 2
    checked.apply(check)
    assert root.execute(rows).fetchone() == before


def test_d018_reports_sync_failures_by_cause(checked):
    table, column = checked.settings.users_table, checked.project.columns["email"]
    sign_up, dsn = checked.project.auth.sign_up_email, checked.project.database.dsn()
    with broken_users_table(dsn, "check", table=table, column=column):
        for name in ("ada", "bob"):
            sign_up(f"{name}@example.com")
    with broken_users_table(dsn, "not_null", table=table, column=column):
        sign_up("eve@example.com")
    assert "3 users cannot be synced before the cause of the failure is fixed" in checked.check("D017").detail
    check = checked.is_fixed_by_pasting("D018")
    oldest, first, second = check.detail.splitlines()
    assert "oldest failure" in oldest
    assert first.startswith("2 users (2 without a row): SQLSTATE 23514, constraint usersync_breakage")
    assert second.startswith("1 user (1 without a row): SQLSTATE 23502")
    assert "example.com" not in check.detail
    assert checked.failing() == {}


UNFINISHED = """
    insert into usersync.sync_runs
        (run_id, part, part_count, state, next_id, last_id, page_size, examined, started_at, updated_at)
    values (
        gen_random_uuid(), 1, 1, %s, '00000000-0000-0000-0000-000000000000',
        'ffffffff-ffff-ffff-ffff-ffffffffffff', 100, 7,
        now() - interval '1 day', now() - %s::interval
    )
"""


@pytest.mark.parametrize(("state", "how"), [("running", "was killed"), ("interrupted", "was interrupted")])
def test_d019_reports_an_unfinished_run(checked, state, how):
    checked.project.owner.execute(UNFINISHED, [state, "11 minutes"])
    check = checked.is_fixed_by_pasting("D019", "warning")
    assert f"{how} after 7 users" in check.detail
    assert check.fix == "usersync sync --resume"


@pytest.mark.newest_server
def test_d019_is_ok_during_a_run_and_after_a_later_one(checked):
    checked.project.owner.execute(UNFINISHED, ["running", "9 minutes"])
    assert checked.check("D019").status == "ok"
    checked.project.owner.execute(UNFINISHED, ["interrupted", "11 minutes"])
    assert checked.check("D019").status == "warning"
    checked.project.client.reconcile()
    assert checked.check("D019").status == "ok"


@pytest.mark.parametrize(
    "changed",
    [{"on_delete": "keep"}, {"lock_timeout_ms": 300}],
    ids=str,
)
def test_d020_reports_settings_that_were_not_applied(checked, changed):
    checked.settings = dataclasses.replace(checked.settings, **changed)
    check = checked.is_fixed_by_pasting("D020")
    assert f"{next(iter(changed))} is " in check.detail
    assert checked.failing() == {}


@pytest.mark.newest_server
def test_d020_reports_a_column_that_is_no_longer_mapped(checked):
    *kept, _ = checked.settings.columns
    gone = checked.settings.columns[-1].name
    checked.settings = dataclasses.replace(checked.settings, columns=tuple(kept))
    assert f"columns.{gone} is " in checked.is_fixed_by_pasting("D020").detail


def _key(checked):
    return '"' + checked.settings.key.replace('"', '""') + '"'
