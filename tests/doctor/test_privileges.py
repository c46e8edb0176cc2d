"""D009 to D011: what the roles of the Data API may access."""

from __future__ import annotations

import pytest

GRANTS = [
    ("grant execute on function public.ensure_user_exists(uuid) to public", "anon, authenticated, public"),
    (
        "grant execute on function public.user_sync_status() to anon",
        "anon may call function public.user_sync_status()",
    ),
    ("grant execute on function usersync.user_exists(uuid) to authenticated", "may call"),
    ("grant usage on schema usersync to authenticated", "authenticated may use schema usersync"),
    ("grant create on schema usersync to anon", "anon may use schema usersync"),
    ("grant select on table usersync.sync_failures to service_role", "service_role may use table"),
    ("grant update (message) on table usersync.sync_failures to anon", "anon may use table"),
    ("grant truncate on table usersync.settings to public", "public"),
    ("revoke execute on function public.ensure_user_exists(uuid) from service_role", "service_role may not"),
]


@pytest.mark.parametrize(("grant", "text"), GRANTS)
@pytest.mark.newest_server
def test_d009_reports_a_wrong_privilege(checked, grant, text):
    checked.project.owner.execute(grant)
    assert text in checked.is_fixed_by_pasting("D009").detail


def test_d009_fixes_all_wrong_privileges_at_once(checked):
    checked.project.owner.execute("; ".join(grant for grant, _ in GRANTS))
    checked.is_fixed_by_pasting("D009")


def test_d010_reports_a_users_table_without_row_security(checked):
    users = checked.project.users
    checked.project.owner.execute(f"alter table {users} disable row level security")
    check = checked.check("D010")
    if checked.settings.users_table.schema != "public":
        # No role has USAGE on the schema.
        assert check.status == "ok"
        checked.project.owner.execute(f"grant usage on schema {_schema(checked)} to authenticated")
    assert "authenticated" in checked.is_fixed_by_pasting("D010").detail


def test_d011_reports_that_anon_can_read_the_users_table(checked):
    owner, users = checked.project.owner, checked.project.users
    owner.execute(f"grant usage on schema {_schema(checked)} to anon")
    owner.execute(f"grant select ({checked.project.column('email')}) on table {users} to anon")
    checked.is_fixed_by_pasting("D011", "warning")
    owner.execute(f"grant select on table {users} to public")
    checked.is_fixed_by_pasting("D011", "warning")
    owner.execute(f"alter table {users} disable row level security")
    owner.execute(f"grant select on table {users} to anon")
    checked.is_fixed_by_pasting("D011", "problem")


def _schema(checked):
    return '"' + checked.settings.users_table.schema.replace('"', '""') + '"'
