"""D006 to D008: the functions, how safe they are, and what their owner may do."""

from __future__ import annotations

import uuid

import pytest

from usersync.doctor import choose, examine
from usersync.transports.run import run


def test_d006_a_missing_function(clinic):
    clinic.project.owner.execute("drop function usersync.handle_new_user() cascade")
    check = clinic.cures("D006")
    assert "usersync.handle_new_user() is missing" in check.detail
    assert clinic.sick() == {}


def test_d006_an_edited_function(clinic):
    clinic.project.owner.execute(
        "create or replace function usersync.handle_new_user() returns trigger language plpgsql "
        "as 'begin return null; end'"
    )
    found = clinic.check_all()
    assert "somebody edited it" in found["D006"].detail
    # CREATE OR REPLACE takes both away without a word.
    assert "SECURITY INVOKER, and is meant to be SECURITY DEFINER" in found["D007"].detail
    assert "search path" in found["D007"].detail
    clinic.cures("D006")
    assert clinic.sick() == {}


@pytest.mark.newest_server
def test_d006_a_function_that_no_release_has_any_more(clinic):
    clinic.project.owner.execute(
        "create function usersync.old() returns int language sql set search_path = pg_catalog, pg_temp "
        "as 'select 1'; comment on function usersync.old() is 'usersync: of an older release'"
    )
    assert "no longer used" in clinic.cures("D006").detail


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("usersync.user_exists(uuid) security definer", "is SECURITY DEFINER"),
        ("public.ensure_user_exists(uuid) security invoker", "is SECURITY INVOKER"),
        ("usersync.handle_updated_user() reset search_path", "does not pin its search path"),
        ("usersync.handle_updated_user() set search_path = public", "does not pin its search path"),
    ],
)
@pytest.mark.newest_server
def test_d007_a_function_that_is_not_safe(clinic, change, said):
    clinic.project.owner.execute(f"alter function {change}")
    assert said in clinic.cures("D007").detail


def test_d007_a_function_of_another_owner(theatre):
    theatre.surgeon.execute("alter function usersync.handle_new_user() owner to supabase_admin")
    check = theatre.cures("D007")
    assert "belongs to supabase_admin, and the schema usersync to postgres" in check.detail


@pytest.mark.newest_server
def test_nobody_takes_over_or_hands_on_a_strangers_function_that_is_commented_as_ours(theatre):
    theatre.surgeon.execute(
        "create function public.\"x; --\"() returns int language sql security definer as 'select 1';"
        "comment on function public.\"x; --\"() is 'usersync: fake'"
    )
    check = theatre.check("D007")
    assert "belongs to supabase_admin, and is none of ours" in check.detail
    assert check.fix == '-- Unless somebody needs it, drop it: drop function public."x; --"();'
    assert theatre.check_all()["D009"].status == "ok"


def test_d008_an_owner_without_rights_on_the_auth_servers_table(theatre):
    theatre.surgeon.execute("revoke all on table auth.users from postgres cascade")
    check = theatre.cures("D008")
    assert "postgres lacks UPDATE on table auth.users" in check.detail


@pytest.mark.newest_server
def test_d008_an_owner_who_may_nothing(theatre):
    """A role of the test's own: the attributes and memberships of a role are the whole server's."""
    role, surgeon = f"owner_{uuid.uuid4().hex[:12]}", theatre.surgeon
    users = theatre.settings.users_table
    surgeon.execute(f"create role {role}")
    try:
        surgeon.execute(f"alter schema usersync owner to {role}")
        said = run(examine(theatre.settings, choose(["D008"])), surgeon)[0]
        theatre.surgeon.execute(said.fix)
        after = run(examine(theatre.settings, choose(["D008"])), surgeon)[0]
    finally:
        surgeon.execute(f"reassign owned by {role} to postgres; drop owned by {role}; drop role {role}")
    without_quotes = said.detail.replace('"', "")
    assert f"{role} lacks USAGE on schema auth" in said.detail
    assert f"{role} lacks SELECT, UPDATE on table auth.users" in said.detail
    assert f"{role} lacks INSERT, SELECT, UPDATE on table {users.quoted}".replace('"', "") in without_quotes
    assert f"{role} lacks BYPASSRLS (row-level security on auth.users would hide rows)" in said.detail
    assert f"{role} lacks DELETE, INSERT, SELECT, UPDATE on table public.audit_logs" in said.detail
    assert after.status == "ok"
