"""D009 to D011: who reaches what over the Data API."""

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


@pytest.mark.parametrize(("grant", "said"), GRANTS)
@pytest.mark.newest_server
def test_d009_a_grant_that_should_not_be(clinic, grant, said):
    clinic.project.owner.execute(grant)
    assert said in clinic.cures("D009").detail


def test_d009_everything_at_once(clinic):
    clinic.project.owner.execute("; ".join(grant for grant, _ in GRANTS))
    clinic.cures("D009")


def test_d010_no_row_security(clinic):
    users = clinic.project.users
    clinic.project.owner.execute(f"alter table {users} disable row level security")
    check = clinic.check("D010")
    if clinic.settings.users_table.schema != "public":
        # A schema of its own, which nobody was granted: no way in, no problem.
        assert check.status == "ok"
        clinic.project.owner.execute(f"grant usage on schema {_schema(clinic)} to authenticated")
    assert "authenticated" in clinic.cures("D010").detail


def test_d011_anonymous_readers(clinic):
    owner, users = clinic.project.owner, clinic.project.users
    owner.execute(f"grant usage on schema {_schema(clinic)} to anon")
    owner.execute(f"grant select ({clinic.project.column('email')}) on table {users} to anon")
    clinic.cures("D011", "warning")
    owner.execute(f"grant select on table {users} to public")
    clinic.cures("D011", "warning")
    owner.execute(f"alter table {users} disable row level security")
    owner.execute(f"grant select on table {users} to anon")
    clinic.cures("D011", "problem")


def _schema(clinic):
    return '"' + clinic.settings.users_table.schema.replace('"', '""') + '"'
