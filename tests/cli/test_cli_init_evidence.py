"""``usersync init`` chooses a users table by evidence, and asks if there is none."""

from __future__ import annotations

import pytest
from terminal import Terminal

from usersync.config.settings import load_settings
from usersync.errors import SettingsError

pytestmark = pytest.mark.newest_server

MAKE = """
    create function public.make() returns trigger language plpgsql security definer set search_path = '' as $$
    begin {} return new; end $$;
    create trigger on_auth_user_created after insert on auth.users
      for each row execute function public.make();
"""


@pytest.fixture
def dsn(database, monkeypatch):
    monkeypatch.setenv("SUPABASE_DB_URL", database.dsn())
    return database.dsn()


@pytest.fixture
def init_output(usersync, dsn, postgres, auth):
    """A function that returns the output of init for a schema, with two users."""

    def look(*scripts, rows=(), users=2, code=0):
        for script in scripts:
            postgres.execute(script)
        made = [auth.sign_up_email(f"ada-{n}@example.com") for n in range(users)]
        for statement in rows:
            for user in made:
                postgres.execute(statement, [user])
        done = usersync("init", "--yes", "--json", "--force", "--no-trial")
        assert done.code == code, done.out
        return done.json

    return look


def candidates(data):
    return {each["table"]: each for each in data["candidates"]}


def test_a_table_that_a_trigger_fills_without_the_id_is_not_chosen(init_output, directory):
    """Input: teams(id default gen_random_uuid(), name, email), filled by (name, email) only."""
    data = init_output(
        "create table public.teams (id uuid primary key default gen_random_uuid(), name text, email text)",
        MAKE.format("insert into public.teams (name, email) values ('x', new.email);"),
        code=1,
    )
    about = candidates(data)["public.teams"]
    assert about["evidence"] == []
    assert "public.make() inserts rows, but does not write new.id into id." in about["about"]
    assert "None of 2 values of id is the id of an auth user." in about["about"]
    assert data["new_table"] == "public.users"
    with pytest.raises(SettingsError, match="it is not decided"):
        load_settings(directory / "usersync.toml")
    text = (directory / "usersync.toml").read_text()
    assert "# QUESTION: Which table holds your users?" in text
    assert "usersync init --force --table public.teams" in text


def test_a_candidate_without_evidence_is_named_and_asked_about(init_output, usersync, directory):
    """Input: members(memberid primary key, email), no trigger, no foreign key."""
    data = init_output("create table public.members (memberid uuid primary key, email varchar(20))", code=1)
    assert candidates(data)["public.members"]["about"] == (
        "memberid has no foreign key to the auth server's table. "
        "No trigger on the auth server's table writes new.id into it. The table has no rows."
    )
    assert usersync("plan").code == 2
    assert usersync("init", "--force", "--table", "public.members").code == 0
    settings = load_settings(directory / "usersync.toml")
    assert (str(settings.users_table), settings.key) == ("public.members", "memberid")


def test_a_column_that_contains_user_ids_is_chosen_as_the_key(init_output):
    data = init_output(
        "create table public.folk (who uuid primary key, email text)",
        rows=["insert into public.folk values (%s)"],
        code=1,  # the question who creates the rows
    )
    assert data["settings"]["users_table"] == "public.folk"
    assert data["settings"]["key"] == "who"


@pytest.mark.parametrize(
    ("kind", "setting"),
    [("text", "text"), ("varchar(36)", "character varying(36)"), ("char(36)", "character(36)")],
)
def test_a_text_column_that_contains_user_ids_is_chosen_as_the_key(init_output, directory, kind, setting):
    data = init_output(
        f'create table public."User" ("id" {kind} primary key, "email" text unique)',
        rows=['insert into public."User" (id) values (%s)'],
        code=1,  # the question who creates the rows
    )
    assert (data["settings"]["users_table"], data["settings"].get("key", "id")) == ("public.User", "id")
    assert data["settings"]["key_type"] == setting
    assert str(load_settings(directory / "usersync.toml").key_type) == setting


def test_a_private_table_without_a_mirrored_column_is_not_proposed(init_output):
    """Input: claims(user_id primary key, claims jsonb), filled by its own triggers."""
    data = init_output(
        "create table public.claims (user_id uuid primary key references auth.users on delete cascade, "
        "claims jsonb not null default '{}')",
        MAKE.format("insert into public.claims (user_id) values (new.id);"),
        code=1,
    )
    about = candidates(data)["public.claims"]
    assert about["evidence"] == ["every user", "foreign key", "ids", "trigger"]
    assert "None of its other columns can be mirrored from the auth server." in about["about"]


def test_init_asks_which_table_to_use_if_two_tables_have_users(init_output, auth, postgres):
    """Input: coaches and invited clients, each table with a foreign key to auth.users."""
    data = init_output(
        "create table public.coaches (id uuid primary key references auth.users, email text);"
        "create table public.clients (id uuid primary key references auth.users, email text)",
        MAKE.format(
            "if new.email like 'ada-0%' then insert into public.coaches values (new.id, new.email);"
            "else insert into public.clients values (new.id, new.email); end if;"
        ),
        code=1,
    )
    wanted = "The evidence does not decide between public.clients and public.coaches."
    assert data["question"].endswith(wanted)
    assert "1 of 2 auth users have a row." in candidates(data)["public.coaches"]["about"]


def test_init_asks_if_the_trigger_fills_one_of_two_tables_for_some_users(init_output, postgres, auth):
    """The trigger fills one of the tables, but not for every user."""
    data = init_output(
        "create table public.coaches (id uuid primary key references auth.users, email text);"
        "create table public.clients (id uuid primary key, email text)",
        rows=["insert into public.clients select %s, 'x' where not exists (select from public.clients)"],
        code=1,
    )
    assert set(candidates(data)) == {"public.coaches", "public.clients"}


def test_a_table_that_references_auth_users_is_preferred_to_one_that_references_it(init_output):
    data = init_output(
        "create table public.people (auth_user_id uuid primary key references auth.users, email text);"
        "create table public.profiles (id uuid primary key references public.people, email text)",
    )
    assert data["settings"]["users_table"] == "public.people"


@pytest.mark.parametrize(
    ("beside", "insert"),
    [
        (
            "create table public.wallets (user_id uuid primary key, balance int not null default 0)",
            "insert into public.wallets (user_id) values (new.id);",
        ),
        (
            "create table public.user_roles (user_id uuid primary key references auth.users, role text)",
            "insert into public.user_roles (user_id, role) values (new.id, 'client');",
        ),
        (
            "create table public.global_settings (user_id uuid primary key references auth.users, t text)",
            "insert into public.global_settings (user_id) values (new.id);",
        ),
    ],
    ids=["wallets", "user_roles", "global_settings"],
)
def test_a_second_table_that_the_trigger_fills_is_not_the_users_table(init_output, beside, insert):
    data = init_output(
        beside
        + "; create table public.people (id bigserial primary key, auth_user_id uuid unique, email text)",
        MAKE.format(f"{insert} insert into public.people (auth_user_id, email) values (new.id, new.email);"),
    )
    assert data["settings"]["users_table"] == "public.people"
    assert data["settings"]["key"] == "auth_user_id"


def test_the_key_is_the_column_that_the_trigger_fills_with_the_id(init_output):
    """Input: a random primary key, and a unique column that the trigger fills with the user's id."""
    data = init_output(
        "create table public.accounts (id uuid primary key default gen_random_uuid(), "
        "owner_user_id uuid unique, created_by uuid, email text)",
        MAKE.format(
            "insert into public.accounts (owner_user_id, created_by, email) "
            "values (new.id, new.id, new.email);"
        ),
    )
    assert data["settings"]["key"] == "owner_user_id"


def test_on_a_terminal_a_candidate_or_a_new_table_can_be_chosen(dsn, directory, postgres):
    postgres.execute("create table public.members (memberid uuid primary key, email varchar(20))")
    with Terminal("init") as terminal:
        terminal.wait_for("Which one holds your users? [1]")
        assert "2.  public.users  a new table" in terminal.text
        terminal.type("2\n")
        terminal.wait_for("Create an audit log (public.audit_logs)? [y/N]:")
        terminal.type("n\n")
        assert terminal.end() == 0
    assert str(load_settings(directory / "usersync.toml").users_table) == "public.users"
