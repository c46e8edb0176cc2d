"""The trial of ``usersync apply``: flows before and after, and consent to differences."""

from __future__ import annotations

import pytest
from terminal import Terminal

from usersync.testing import GoTrueError

pytestmark = pytest.mark.newest_server

USERS = "create table public.users (id uuid primary key, email text);"
SETTINGS = '[columns]\nemail = "email"\n'

#: A row trigger on auth.users.
TRIGGER = """
    create function public.{name}() returns trigger language plpgsql security definer
        set search_path = '' as $$ begin {body} return new; end $$;
    create trigger {name} {when} on auth.users for each row execute function public.{name}();
"""

#: A trigger with a plain INSERT when the e-mail is confirmed. With usersync, the row already exists.
CONFIRMED = USERS + TRIGGER.format(
    name="when_confirmed",
    when="after update",
    body="if old.email_confirmed_at is null and new.email_confirmed_at is not null then "
    "insert into public.users values (new.id, new.email); end if;",
)


@pytest.fixture
def project(database, monkeypatch, directory, postgres):
    monkeypatch.setenv("SUPABASE_DB_URL", database.dsn())

    def make(sql, settings=SETTINGS):
        postgres.execute(sql)
        (directory / "usersync.toml").write_text(settings)

    return make


def words(text):
    return " ".join(text.split())


@pytest.mark.slow
def test_apply_installs_if_no_flow_differs(usersync, project):
    project(USERS)
    done = usersync("apply", "--yes")
    assert done.code == 0, done.out + done.err
    assert "Unchanged: 31 flows of the auth server, tried as postgres and rolled back." in words(done.out)


@pytest.mark.slow
def test_an_up_to_date_database_is_not_tried(usersync, project):
    project(USERS)
    usersync("apply", "--yes", "--no-trial")
    done = usersync("apply", "--yes")
    assert "Trying" not in done.err
    assert usersync("apply", "--yes", "--json").json["trial"] is None


@pytest.mark.slow
def test_a_flow_that_would_fail_is_shown_and_nothing_is_installed(usersync, project, catalog, auth):
    project(CONFIRMED)
    before = catalog()
    done = usersync("apply", "--yes")
    assert done.code == 1
    said = words(done.out)
    assert "confirmation" in said
    assert "accepted today, refused with usersync: SQLSTATE 23505, constraint users_pkey" in said
    assert "raised in public.when_confirmed() (trigger when_confirmed on auth.users)" in said
    assert "the user has no row today, and one with usersync" in said
    assert "Nothing was installed: " in said
    assert said.endswith("To install anyway: usersync apply --accept-changes")
    assert catalog() == before
    auth.sign_up_email("ada@example.com")


@pytest.mark.slow
def test_objects_from_before_the_installation_are_not_undone(usersync, project, catalog):
    """`drop schema usersync cascade` leaves the log without its partitions, and the functions in `public`."""
    project(USERS, SETTINGS + "[audit]\nenabled = true\n")
    assert usersync("apply", "--yes", "--no-trial").code == 0
    project("drop schema usersync cascade;" + CONFIRMED.removeprefix(USERS), SETTINGS)
    before = catalog()
    assert usersync("apply", "--yes").code == 1
    assert ("table", "public.audit_logs") in before
    assert catalog() == before


@pytest.mark.slow
def test_a_damaged_installation_is_tried_before_anything_is_changed(usersync, project, postgres, catalog):
    project(USERS)
    assert usersync("apply", "--yes", "--no-trial").code == 0
    postgres.execute("drop table usersync.settings; drop function usersync.handle_new_user() cascade;")
    postgres.execute(CONFIRMED.removeprefix(USERS))
    before = catalog()
    assert usersync("apply", "--yes").code == 1
    assert catalog() == before


@pytest.mark.slow
def test_accept_changes_installs_despite_differences(usersync, project, auth):
    project(CONFIRMED)
    done = usersync("apply", "--yes", "--accept-changes", "--json")
    assert done.code == 0
    effects = {each["effect"] for each in done.json["trial"]["differences"]}
    assert effects == {"refused", "different"}
    with pytest.raises(GoTrueError, match="500"):
        auth.sign_up_email("ada@example.com")


@pytest.mark.slow
def test_apply_explains_exit_code_1_if_a_user_could_not_be_synced(usersync, project, auth):
    project("create table public.users (id uuid primary key, email text not null);")
    auth.sign_up_phone("15550001")
    said = "Exit code 1: 1 user could not be synced, see: usersync failures"
    for state in "Installed", "Up to date":
        done = usersync("apply", "--yes", "--no-trial")
        assert done.code == 1
        assert f"{state}. {said}" in words(done.out)


@pytest.mark.slow
def test_on_a_terminal_apply_asks_about_differences(project, catalog):
    project(CONFIRMED)
    before = catalog()
    with Terminal("apply") as terminal:
        terminal.wait_for("changes in", seconds=90)
        terminal.type("y\n")
        terminal.wait_for("Install anyway?", seconds=90)
        terminal.type("n\n")
        assert terminal.end(seconds=90) == 1
    assert catalog() == before


@pytest.mark.slow
def test_flows_that_already_fail_are_printed_first(usersync, project, database):
    project(USERS + "create table public.old (id uuid);" + TRIGGER.format(
        name="left_over", when="after insert", body="insert into public.old values (new.id);"
    ) + "drop table public.old;")  # fmt: skip
    planned = words(usersync("plan").out)
    assert (
        "writes to public.old, which does not exist: a sign-up that reaches this statement fails" in planned
    )
    done = usersync("apply", "--yes")
    said = words(done.out)
    assert said.startswith("Fails today, before usersync ✗ every kind of sign-up: SQLSTATE 42P01")
    assert "No sign-up succeeded in the trial" in said
    assert said.index("Fails today") < said.index("trigger on_auth_user_created")
    assert done.code == 0


@pytest.mark.slow
def test_a_flow_that_adoption_fixes_is_printed(usersync, project):
    """The second sign-up with the same address by single sign-on fails.

    With usersync, its row has no address.
    """
    project("create table public.users (id uuid primary key, email text unique);" + TRIGGER.format(
        name="on_auth_user_created",
        when="after insert",
        body="insert into public.users (id, email) values (new.id, new.email);",
    ))  # fmt: skip
    done = usersync("apply", "--yes", "--adopt")
    said = words(done.out)
    flows = "sign-up by SSO with an address that another user has, sign-up again after a soft deletion"
    assert f"Fails today, before usersync ✗ {flows}" in said
    assert "refused today (SQLSTATE 23505, constraint users_email_key" in said
    assert "accepted with usersync" in said


@pytest.mark.slow
def test_an_upgrade_is_tried_before_anything_is_changed(usersync, project, postgres, directory, catalog):
    project(USERS + "alter table public.users add full_name text; alter table public.users add plan text")
    usersync("apply", "--yes", "--no-trial")
    before = catalog()
    (directory / "usersync.toml").write_text(SETTINGS + 'full_name = "user_metadata.full_name"\n')
    done = usersync("apply", "--yes")
    assert done.code == 1
    assert "public.users.full_name: null today, the user's user_metadata.full_name with usersync" in words(
        done.out
    )
    assert catalog() == before
    assert usersync("apply", "--yes", "--accept-changes").code == 0


def test_a_trigger_that_calls_another_server_is_not_run_without_consent(usersync, project):
    project(USERS + """
        create schema if not exists extensions;
        create table public.asked (url text);
        create function extensions.http_get(url text) returns int language plpgsql as
            'begin insert into public.asked values (url); return 200; end';
    """ + TRIGGER.format(
        name="tell", when="after insert", body="perform extensions.http_get('https://example.com');"
    ))  # fmt: skip
    done = usersync("apply", "--yes")
    said = words(done.out)
    assert "Not tried ! every kind of sign-up" in said
    assert (
        "the trigger tell on auth.users, in extensions.http_get(text), sends a request to another server"
        in said
    )
    assert "a rollback does not undo that" in said
    assert done.code == 0


def test_a_database_without_the_privileges_for_a_trial_requires_consent(usersync, project, superuser):
    superuser.execute("revoke insert on auth.users from postgres")
    project(USERS)
    done = usersync("apply", "--yes")
    assert "The trial did not run: postgres may not insert in" in words(done.out)
    assert done.code == 0


#: Rules that refuse unknown users when a hand-written trigger inserts their row.
RULES = {
    "raises": "if not exists (select from public.invited where email = new.email) then"
    " raise exception 'no invitation'; end if;",
    "foreign key": "insert into public.members values (new.email);",
}


@pytest.mark.parametrize("rule", RULES)
def test_a_rule_that_refuses_sign_ups_requires_a_decision(usersync, project, catalog, rule):
    project(
        USERS
        + "create table public.invited (email text primary key);"
        + "create table public.members (email text references public.invited);"
        + TRIGGER.format(
            name="on_auth_user_created",
            when="after insert",
            body="insert into public.users (id, email) values (new.id, new.email);",
        )
        + f"""create function public.only_invited() returns trigger language plpgsql as
            $$ begin {RULES[rule]} return new; end $$;
            create trigger only_invited after insert on public.users
            for each row execute function public.only_invited();"""
    )
    before = catalog()
    done = usersync("apply", "--yes", "--adopt")
    assert done.code == 1, done.out
    assert "refused today (SQLSTATE" in words(done.out)
    assert "accepted with usersync" in words(done.out)
    assert "Nothing was installed: " in words(done.out)
    assert words(done.out).endswith("To install anyway: usersync apply --adopt --accept-changes")
    assert catalog() == before


@pytest.mark.slow
def test_failures_from_before_the_adoption_are_separate_from_new_ones(usersync, project):
    """The adopted trigger refuses a user without a name, and so does a trigger that stays."""
    project(
        "create table public.users (id uuid primary key, name text not null, updated_at timestamptz);"
        + TRIGGER.format(
            name="on_auth_user_created",
            when="after insert",
            body="insert into public.users (id, name) values (new.id, new.raw_user_meta_data ->> 'name');",
        )
        + TRIGGER.format(
            name="on_auth_user_updated",
            when="after update",
            body="update public.users set name = new.raw_user_meta_data ->> 'name', updated_at = now()"
            " where id = new.id;",
        ),
        '[columns]\nname = { from = "user_metadata.name", default = "" }\n',
    )
    assert usersync("apply", "--yes", "--adopt", "--accept-changes").code == 0
    (check,) = usersync("doctor", "--canary", "--json", "--only", "D033").json["checks"]
    assert check["status"] == "warning", check
    assert "sign-up by wallet (Web3), soft deletion: refused with SQLSTATE 23502" in check["detail"]
    assert "Without usersync's triggers it is refused, too." in check["detail"]


@pytest.mark.slow
def test_a_difference_that_skip_causes_names_the_setting(usersync, project):
    """Input: today every user gets a row. The settings skip anonymous users."""
    project(
        USERS
        + TRIGGER.format(
            name="make",
            when="after insert",
            body="insert into public.users (id, email) values (new.id, new.email);",
        ),
        'skip = ["anonymous"]\n[columns]\nemail = { from = "email", owner = "app" }\n',
    )
    done = usersync("apply", "--adopt", "--yes")
    assert done.code == 1
    assert (
        "the user has a row today, and none with usersync. "
        'The setting skip = ["anonymous"] gives such users no row. To give them one, change skip'
    ) in words(done.out + done.err)
