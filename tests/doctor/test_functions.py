"""D006 to D008: the functions, their safety, and the privileges of their owner."""

from __future__ import annotations

import uuid

import pytest

from usersync.doctor import choose, examine
from usersync.transports.run import run


def test_d006_reports_a_missing_function(checked):
    checked.project.owner.execute("drop function usersync.handle_new_user() cascade")
    check = checked.is_fixed_by_pasting("D006")
    assert "usersync.handle_new_user() is missing" in check.detail
    assert checked.failing() == {}


def test_d006_reports_an_edited_function(checked):
    checked.project.owner.execute(
        "create or replace function usersync.handle_new_user() returns trigger language plpgsql "
        "as 'begin return null; end'"
    )
    found = checked.check_all()
    assert "it was edited in the database" in found["D006"].detail
    # CREATE OR REPLACE resets both silently.
    assert "SECURITY INVOKER, and is meant to be SECURITY DEFINER" in found["D007"].detail
    assert "search path" in found["D007"].detail
    checked.is_fixed_by_pasting("D006")
    assert checked.failing() == {}


@pytest.mark.newest_server
def test_d006_reports_a_function_of_an_older_release(checked):
    checked.project.owner.execute(
        "create function usersync.old() returns int language sql set search_path = pg_catalog, pg_temp "
        "as 'select 1'; comment on function usersync.old() is 'usersync: of an older release'"
    )
    assert "no longer used" in checked.is_fixed_by_pasting("D006").detail


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ("usersync.user_exists(uuid) security definer", "is SECURITY DEFINER"),
        ("public.ensure_user_exists(uuid) security invoker", "is SECURITY INVOKER"),
        ("usersync.handle_updated_user() reset search_path", "does not pin its search path"),
        ("usersync.handle_updated_user() set search_path = public", "does not pin its search path"),
    ],
)
@pytest.mark.newest_server
def test_d007_reports_an_unsafe_function(checked, change, text):
    checked.project.owner.execute(f"alter function {change}")
    assert text in checked.is_fixed_by_pasting("D007").detail


def test_d007_reports_a_function_of_another_owner(checked_as_superuser):
    checked_as_superuser.fix_connection.execute(
        "alter function usersync.handle_new_user() owner to supabase_admin"
    )
    check = checked_as_superuser.is_fixed_by_pasting("D007")
    assert "belongs to supabase_admin, and the schema usersync to postgres" in check.detail


@pytest.mark.newest_server
def test_d007_reports_a_third_party_function_with_usersyncs_comment(checked_as_superuser):
    checked_as_superuser.fix_connection.execute(
        "create function public.\"x; --\"() returns int language sql security definer as 'select 1';"
        "comment on function public.\"x; --\"() is 'usersync: fake'"
    )
    check = checked_as_superuser.check("D007")
    assert "is not its function. It belongs to supabase_admin" in check.detail
    assert check.fix == '-- If the application does not need it, drop it: drop function public."x; --"();'
    assert checked_as_superuser.check_all()["D009"].status == "ok"


def test_d008_reports_missing_privileges_of_the_owner_on_auth_users(checked_as_superuser):
    checked_as_superuser.fix_connection.execute("revoke all on table auth.users from postgres cascade")
    check = checked_as_superuser.is_fixed_by_pasting("D008")
    assert "postgres lacks UPDATE on table auth.users" in check.detail


@pytest.mark.newest_server
def test_d008_reports_each_missing_privilege_of_a_new_owner(checked_as_superuser):
    """A new role, because a role's attributes and memberships apply to the whole server."""
    role, fix_connection = f"owner_{uuid.uuid4().hex[:12]}", checked_as_superuser.fix_connection
    users = checked_as_superuser.settings.users_table
    fix_connection.execute(f"create role {role}")
    try:
        fix_connection.execute(f"alter schema usersync owner to {role}")
        check = run(examine(checked_as_superuser.settings, choose(["D008"])), fix_connection)[0]
        checked_as_superuser.fix_connection.execute(check.fix)
        after = run(examine(checked_as_superuser.settings, choose(["D008"])), fix_connection)[0]
    finally:
        fix_connection.execute(
            f"reassign owned by {role} to postgres; drop owned by {role}; drop role {role}"
        )
    without_quotes = check.detail.replace('"', "")
    assert f"{role} lacks USAGE on schema auth" in check.detail
    assert f"{role} lacks SELECT, UPDATE on table auth.users" in check.detail
    assert f"{role} lacks INSERT, SELECT, UPDATE on table {users.quoted}".replace('"', "") in without_quotes
    assert f"{role} lacks BYPASSRLS (row-level security on auth.users would hide rows)" in check.detail
    assert f"{role} lacks DELETE, INSERT, SELECT, UPDATE on table public.audit_logs" in check.detail
    assert after.status == "ok"
