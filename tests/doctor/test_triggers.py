"""D004 and D005: usersync's and third-party triggers on the auth server's table."""

from __future__ import annotations

import pytest
from psycopg import sql

NAMES = ("on_auth_user_created", "on_auth_user_updated", "on_auth_user_deleted")


@pytest.mark.parametrize("name", NAMES)
def test_d004_reports_a_missing_trigger(checked_as_superuser, name):
    checked_as_superuser.fix_connection.execute(
        sql.SQL("drop trigger {} on auth.users").format(sql.Identifier(name))
    )
    check = checked_as_superuser.is_fixed_by_pasting("D004")
    assert f"{name} is missing" in check.detail
    assert check.fix == "usersync apply"


@pytest.mark.parametrize("how", ["disable", "enable replica", "enable always"])
def test_d004_reports_a_trigger_with_another_firing_mode(checked_as_superuser, how):
    checked_as_superuser.fix_connection.execute(f"alter table auth.users {how} trigger on_auth_user_created")
    check = checked_as_superuser.is_fixed_by_pasting("D004")
    assert check.fix == "usersync apply"


CHANGED = {
    "another level": "after insert on auth.users for each row execute function usersync.handle_new_user()",
    "a condition": "after update on auth.users for each row when (old.email is distinct from new.email) "
    "execute function usersync.handle_updated_user()",
    "a column list": "after update of email on auth.users for each row "
    "execute function usersync.handle_updated_user()",
    "another timing": "before update on auth.users for each row "
    "execute function usersync.handle_updated_user()",
    "another function of usersync": "after insert on auth.users for each statement "
    "execute function usersync.handle_deleted_user()",
    "a function of the application": "after insert on auth.users for each row "
    "execute function public.of_the_app()",
}


@pytest.mark.parametrize("change", CHANGED)
@pytest.mark.newest_server
def test_d004_reports_a_changed_trigger(checked_as_superuser, change):
    checked_as_superuser.fix_connection.execute(
        "create function public.of_the_app() returns trigger language plpgsql as 'begin return new; end'"
    )
    name = "on_auth_user_updated" if "update" in CHANGED[change] else "on_auth_user_created"
    checked_as_superuser.fix_connection.execute(f"create or replace trigger {name} {CHANGED[change]}")
    check = checked_as_superuser.is_fixed_by_pasting("D004")
    if change == "a function of the application":
        assert "on_auth_user_zz_created is missing" in check.detail
    else:
        assert f"{name} is not as installed" in check.detail


def test_d005_reports_a_second_trigger_on_a_function_of_usersync(checked_as_superuser):
    checked_as_superuser.fix_connection.execute(
        'create trigger "A second; one" after insert on auth.users '
        "referencing new table as new_users for each statement execute function usersync.handle_new_user()"
    )
    check = checked_as_superuser.is_fixed_by_pasting("D005")
    assert "A second; one" in check.detail
    assert check.fix == "usersync apply"


@pytest.mark.newest_server
def test_d005_lists_third_party_triggers_in_firing_order(checked_as_superuser):
    checked_as_superuser.fix_connection.execute(
        """
        create function public.other() returns trigger language plpgsql as 'begin return new; end';
        create trigger z_before before insert on auth.users for each row execute function public.other();
        create trigger a_after after insert on auth.users for each statement execute function public.other();
        create trigger y_after after insert on auth.users for each row execute function public.other();
        create trigger on_update after update on auth.users for each row execute function public.other();
        """
    )
    check = checked_as_superuser.check("D005")
    assert check.status == "ok"
    assert check.detail.endswith(
        "order of firing on a sign-up: z_before, on_auth_user_created, y_after, a_after"
    )
    assert "on_update (public.other)" in check.detail


@pytest.mark.newest_server
def test_d005_reports_a_trigger_that_needs_the_row_and_fires_too_early(checked):
    """A later migration of the application adds the trigger, and each sign-up fails with 23503."""
    checked.project.owner.execute(
        f"""
        create table public.credits (user_id uuid references {checked.project.users});
        create function public.give_credits() returns trigger language plpgsql security definer as
            'begin insert into public.credits values (new.id); return new; end';
        create trigger a_credits after insert on auth.users
            for each row execute function public.give_credits();
        """
    )
    with pytest.raises(Exception, match="saving new user"):
        checked.project.auth.sign_up_email("ada@example.com")
    check = checked.check("D005")
    assert check.status == "warning"
    assert "the trigger a_credits fires before on_auth_user" in check.detail
    assert "uses credits" in check.detail
    checked.project.owner.execute(
        "create trigger z_credits after insert on auth.users "
        "for each row execute function public.give_credits();"
    )
    with checked.project.database.connect("supabase_admin") as root:
        root.execute("drop trigger a_credits on auth.users")
    assert checked.check("D005").status == "ok"
    checked.project.auth.sign_up_email("ada@example.com")
