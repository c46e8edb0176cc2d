"""Sign-ups succeed after migrations of the application that create triggers again."""

from __future__ import annotations

import pytest

from usersync.config.settings import parse_settings
from usersync.doctor import choose, examine
from usersync.errors import ConflictError
from usersync.schema import installation
from usersync.sql.script import install_script
from usersync.transports.run import run

pytestmark = pytest.mark.newest_server

SETTINGS = parse_settings(
    {"users_table": "public.profiles", "columns": {"full_name": "user_metadata.full_name"}}
)

PROFILES = """
    create table public.profiles (
        id uuid primary key references auth.users on delete cascade, full_name text
    );
"""
INSERT = "insert into public.profiles (id, full_name) values (new.id, new.raw_user_meta_data ->> 'full_name')"


def function(body, name="make"):
    return (
        f"create or replace function public.{name}() returns trigger language plpgsql security definer "
        f"set search_path = '' as $$ begin {body}; return new; end $$"
    )


def trigger(name="on_auth_user_created", runs="make", how="create or replace"):
    return f"{how} trigger {name} after insert on auth.users for each row execute function public.{runs}()"


#: A second hand-written trigger that needs the row of the first one.
DEPENDENT_TRIGGERS = {
    "a foreign key, the next name": (
        "create table public.settings (user_id uuid primary key references public.profiles)",
        "on_auth_user_created_settings",
        "insert into public.settings values (new.id)",
    ),
    "a SELECT, the next name": (
        "create table public.settings (user_id uuid primary key, full_name text)",
        "on_auth_user_created_settings",
        "insert into public.settings select id, full_name from public.profiles where id = new.id",
    ),
}


def run_sql(installer, *scripts):
    for script in scripts:
        installer.connection.execute(script)


def apply(installer, *, adopt=False, settings=SETTINGS):
    return run(installation.apply(settings, adopt=adopt), installer.connection)


def own_triggers(installer):
    rows = installer.connection.execute(
        "select tgfoid::regproc::text, tgname from pg_trigger where tgrelid = 'auth.users'::regclass "
        "and tgfoid::regproc::text like 'usersync.%' order by 1"
    ).fetchall()
    return {function.removeprefix("usersync.handle_"): name for function, name in rows}


def profiles(installer):
    return dict(installer.connection.execute("select id, full_name from public.profiles").fetchall())


def sign_ups(auth):
    """Six kinds of sign-up. Raises if one is refused."""
    return {
        auth.sign_up_email(data={"full_name": "Ada"}),
        auth.sign_up_phone(),
        auth.sign_up_anonymous(),
        auth.sign_up_oauth("github"),
        auth.admin_create("by.admin@example.com"),
        auth.invite("invited@example.com"),
    }


@pytest.mark.parametrize(("table", "name", "body"), DEPENDENT_TRIGGERS.values(), ids=DEPENDENT_TRIGGERS)
def test_a_second_trigger_that_needs_the_row_works_as_before(installer, auth, table, name, body):
    run_sql(installer, PROFILES, table, function(INSERT), trigger(), function(body, "more"))
    run_sql(installer, trigger(name, "more"))
    apply(installer, adopt=True)
    assert own_triggers(installer)["new_user"] == "on_auth_user_created"
    users = sign_ups(auth)
    assert set(profiles(installer)) == users
    assert installer.connection.execute("select count(*) from public.settings").fetchone() == (6,)


@pytest.mark.slow
def test_an_adopted_trigger_is_replaced_under_its_own_name(installer, catalog, auth):
    """A trigger that fires after the adopted one then also fires after usersync's."""
    run_sql(
        installer,
        PROFILES,
        "create table public.credits (user_id uuid primary key references public.profiles)",
        function(INSERT),
        trigger("a_profile"),
        function("insert into public.credits values (new.id)", "give"),
        trigger("create_credits", "give"),
    )
    before = catalog()
    apply(installer, adopt=True)
    assert own_triggers(installer) == {
        "new_user": "a_profile",
        "updated_user": "on_auth_user_zz_updated",
        "deleted_user": "on_auth_user_zz_deleted",
    }
    assert sign_ups(auth) == set(profiles(installer))
    assert installer.plan(SETTINGS).changes == ()
    assert faults(installer) == []
    installer.rollback(SETTINGS)
    assert catalog() == before


def faults(installer, settings=SETTINGS):
    checks = run(examine(settings, choose(["D004", "D005"])), installer.connection)
    return [finding.message for check in checks for finding in check.findings]


#: Changes that a migration may make to a trigger that was adopted or stayed.
LATER_MIGRATIONS = {
    "create or replace": [trigger()],
    "the function, too": [function(INSERT), trigger()],
    "the function alone": [function(INSERT)],
}


@pytest.mark.parametrize("migration", LATER_MIGRATIONS.values(), ids=LATER_MIGRATIONS)
def test_an_adopted_trigger_that_is_created_again_is_adopted_again(installer, auth, catalog, migration):
    """The new trigger replaces usersync's. doctor reports this, and apply adopts the trigger again."""
    run_sql(installer, PROFILES, function(INSERT), trigger())
    before = catalog()
    apply(installer, adopt=True)
    run_sql(installer, *migration)
    assert sign_ups(auth) == set(profiles(installer))
    replaced = trigger() in migration
    assert bool(faults(installer)) == replaced
    if replaced:
        assert "created again by the application" in faults(installer)[0]
        apply(installer)
    assert own_triggers(installer)["new_user"] == "on_auth_user_created"
    assert faults(installer) == []
    installer.rollback(SETTINGS)
    assert catalog() == before


def test_an_adopted_trigger_that_was_dropped_and_created_is_adopted_again(installer, auth, superuser):
    run_sql(installer, PROFILES, function(INSERT), trigger())
    apply(installer, adopt=True)
    # On Supabase, postgres may drop triggers of this table.
    superuser.execute("drop trigger if exists on_auth_user_created on auth.users")
    run_sql(installer, trigger(how="create"))
    assert sign_ups(auth) == set(profiles(installer))
    apply(installer)
    assert own_triggers(installer)["new_user"] == "on_auth_user_created"


@pytest.mark.slow
def test_an_adopted_trigger_that_is_created_again_with_other_effects_stays(installer, auth, catalog):
    run_sql(installer, PROFILES, "create table public.credits (user_id uuid primary key)")
    run_sql(installer, function(INSERT), trigger())
    apply(installer, adopt=True)
    run_sql(installer, function(f"{INSERT}; insert into public.credits values (new.id)"), trigger())
    hand_written = catalog()[("trigger", "on_auth_user_created on auth.users")]
    assert faults(installer)
    apply(installer)
    assert own_triggers(installer)["new_user"] == "on_auth_user_zz_created"
    users = sign_ups(auth)
    assert set(profiles(installer)) == users
    assert installer.connection.execute("select count(*) from public.credits").fetchone() == (6,)
    assert faults(installer) == []
    installer.rollback(SETTINGS)
    assert catalog()[("trigger", "on_auth_user_created on auth.users")] == hand_written


STAYS = f"{INSERT}; insert into public.credits values (new.id)"


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("on_auth_user_created", "on_auth_user_zz_created"),
        ("on_auth_user_profile", "on_auth_user_zz_created"),
        ("on_created", "zz_on_auth_user_created"),
        ("trigger_new_user", "zz_on_auth_user_created"),
        ("a_first", "on_auth_user_created"),
    ],
)
@pytest.mark.parametrize(
    "again", [[], [function(STAYS)], [function(STAYS), trigger("{}")]], ids=["no", "function", "trigger"]
)
def test_a_trigger_that_stays_keeps_its_name_and_fires_first(  # noqa: PLR0917 - fixtures
    installer, catalog, auth, name, expected, again
):
    """The trigger fires once for each sign-up, also after it was created again."""
    run_sql(installer, PROFILES, "create table public.credits (user_id uuid primary key)")
    run_sql(installer, function(STAYS), trigger(name))
    before = catalog()
    apply(installer, adopt=True)
    assert catalog()[("trigger", f"{name} on auth.users")] == before[("trigger", f"{name} on auth.users")]
    assert own_triggers(installer)["new_user"] == expected
    run_sql(installer, *(script.format(name) if "{}" in script else script for script in again))
    users = sign_ups(auth)
    assert set(profiles(installer)) == users
    assert installer.connection.execute("select count(*) from public.credits").fetchone() == (6,)
    assert installer.plan(SETTINGS).changes == ()
    installer.rollback(SETTINGS)
    assert catalog() == before


def test_usersyncs_trigger_moves_behind_a_later_trigger_that_inserts_the_row(installer, auth):
    """A migration of the application creates the trigger after the installation."""
    run_sql(installer, PROFILES)
    apply(installer)
    run_sql(installer, function(f"{INSERT} on conflict do nothing"), trigger("on_auth_user_profile"))
    assert sign_ups(auth) == set(profiles(installer))
    assert faults(installer)
    apply(installer)
    assert own_triggers(installer)["new_user"] == "on_auth_user_zz_created"
    assert faults(installer) == []


def test_a_trigger_that_fires_last_and_inserts_the_row_is_a_conflict(installer, catalog):
    run_sql(installer, PROFILES, function(STAYS), trigger("zz_profile"))
    before = catalog()
    with pytest.raises(ConflictError):
        apply(installer, adopt=True)
    assert catalog() == before


def test_the_script_keeps_the_names_of_the_triggers(installer, auth):
    run_sql(installer, PROFILES, "create table public.credits (user_id uuid primary key)")
    run_sql(installer, function(STAYS), trigger())
    apply(installer)
    names = own_triggers(installer)
    installer.connection.execute("\n".join(install_script(SETTINGS)))
    assert own_triggers(installer) == names
    assert sign_ups(auth) == set(profiles(installer))


@pytest.mark.parametrize(
    "how", ["create or replace", "drop trigger if exists on_auth_user_updated on auth.users; create"]
)
def test_a_later_trigger_for_updates_does_not_replace_usersyncs(installer, superuser, auth, how):
    run_sql(installer, PROFILES, function(INSERT), trigger())
    apply(installer, adopt=True)
    assert own_triggers(installer) == {
        "new_user": "on_auth_user_created",
        "updated_user": "on_auth_user_zz_updated",
        "deleted_user": "on_auth_user_zz_deleted",
    }
    run_sql(installer, function("null", "note"))
    superuser.execute(
        f"{how} trigger on_auth_user_updated after update on auth.users "
        "for each row execute function public.note()"
    )
    user = auth.sign_up_email(data={"full_name": "Ada"})
    auth.update_user_metadata(user, full_name="Ada L.")
    assert installer.connection.execute("select full_name from public.profiles").fetchall() == [("Ada L.",)]
