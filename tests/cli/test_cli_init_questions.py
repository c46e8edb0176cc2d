"""Questions of ``usersync init``: who creates the rows, and which rows are users."""

from __future__ import annotations

import pytest
from terminal import Terminal

from usersync.config.settings import load_settings

pytestmark = pytest.mark.newest_server

MEMBERS = "create table public.members (id {}, user_id uuid unique, email text, {});"
IDENTITY = "bigint generated always as identity primary key"
CLAIM = """
    create function public.claim() returns trigger language plpgsql security definer set search_path = ''
    as $$ begin
      update public.members set user_id = new.id where email = new.email and user_id is null; return new;
    end $$;
    create trigger claim after update of email_confirmed_at on auth.users
      for each row execute function public.claim();
"""
POLICY = """
    create table public.profiles (id uuid primary key references auth.users, email text);
    alter table public.profiles enable row level security;
    create policy own on public.profiles for insert to authenticated with check (auth.uid() = id);
    grant insert on public.profiles to authenticated;
"""
ACCOUNTS = "create table public.accounts (id uuid primary key, {} name text, email text);"


@pytest.fixture
def asked(usersync, database, monkeypatch, postgres, auth):
    """A function that returns the output of init for a schema with two users, whose rows ``row`` inserts."""
    monkeypatch.setenv("SUPABASE_DB_URL", database.dsn())

    def ask(sql, row=None, code=1):
        postgres.execute(sql)
        for number in range(2):
            user = auth.sign_up_email(f"ada-{number}@example.com")
            if row:
                postgres.execute(row, [user])
        done = usersync("init", "--yes", "--json", "--force")
        assert done.code == code, done.out
        return done.json

    return ask


def creates_rows(data):
    return data["settings"].get("creates_rows", True)


@pytest.mark.slow
def test_init_asks_who_creates_the_rows_if_rows_have_no_key(asked, usersync, auth, postgres, directory):
    """Input: members with a row (null, 'x@example.com'), which an UPDATE of confirmed users claims."""
    data = asked(
        MEMBERS.format(IDENTITY, "note text")
        + "insert into public.members (email) values ('x@example.com');"
        + CLAIM,
        "insert into public.members (user_id) values (%s)",
    )
    assert creates_rows(data) is False
    (question,) = data["decisions"]
    assert "1 row has no value in user_id" in question
    assert "public.claim() updates user_id." in question
    assert "# DECIDE: Who creates the row" in (directory / "usersync.toml").read_text()
    assert usersync("apply", "--yes", "--adopt").code == 0
    user = auth.sign_up_email("x@example.com")
    rows = postgres.execute("select user_id from public.members where email = 'x@example.com'").fetchall()
    assert rows == [(user,)]
    assert usersync("status").code == 0


@pytest.mark.slow
@pytest.mark.parametrize("row", [None, "insert into public.profiles (id) values (%s)"])
def test_init_asks_who_creates_the_rows_if_a_policy_lets_users_insert(asked, usersync, row, auth, postgres):
    data = asked(POLICY, row)
    assert creates_rows(data) is False
    assert "A signed-in user may insert a row (policy own)." in data["decisions"][0]
    assert ("Auth users have rows" in data["decisions"][0]) is (row is not None)
    assert usersync("apply", "--yes", "--no-trial").code == 0
    user = auth.sign_up_email("bea@example.com")
    postgres.execute("insert into public.profiles (id, email) values (%s, 'bea@example.com')", [user])
    assert usersync("status").code == 0


@pytest.mark.slow
def test_not_null_columns_that_the_application_fills_are_not_mapped(asked, usersync, auth, postgres):
    """Input: id and role have their defaults in Python, and the application creates the rows."""
    data = asked(
        MEMBERS.format("uuid primary key", "role varchar(20) not null"),
        "insert into public.members (id, user_id, role) values (gen_random_uuid(), %s, 'user')",
    )
    (question,) = data["decisions"]
    assert 'alter column "id" set default gen_random_uuid();' in question
    assert 'alter column "role" set default …;' in question
    assert "app_metadata.id" not in data["toml"]
    assert "drop not null" not in data["toml"].lower()
    assert usersync("apply", "--yes", "--no-trial").code == 0
    user = auth.sign_up_email("bea@example.com")
    postgres.execute(
        "insert into public.members values (gen_random_uuid(), %s, 'bea@example.com', 'x')", [user]
    )
    assert usersync("status").code == 0
    assert usersync("failures", "--json").json["failures"] == []


def test_init_proposes_a_default_for_a_primary_key_without_a_source(asked):
    """The table is empty, so the rows do not show who creates them."""
    data = asked(
        "create table public.members (id uuid primary key, "
        "user_id uuid unique references auth.users, email text)"
    )
    (question,) = data["decisions"]
    assert 'alter column "id" set default gen_random_uuid()' in question
    assert "NOT NULL" not in question.partition("Give it")[2]


def test_a_column_that_an_application_function_updates_is_app_owned(asked):
    data = asked(
        "create table public.profiles (id uuid primary key references auth.users, email text, phone text);"
        "create function public.change_my_email(wanted text) returns void language sql as "
        "'update public.profiles set email = wanted where id = auth.uid()'",
        code=0,
    )
    assert data["settings"]["columns"] == {
        "email": {"from": ["email"], "owner": "app"},
        "phone": {"from": ["phone"]},
    }


@pytest.mark.slow
def test_on_a_terminal_the_answer_decides_who_creates_the_rows(
    database, directory, monkeypatch, postgres, auth
):
    monkeypatch.setenv("SUPABASE_DB_URL", database.dsn())
    postgres.execute(POLICY)
    with Terminal("init") as terminal:
        terminal.wait_for("Create an audit log (public.audit_logs)? [y/N]:")
        terminal.type("n\n")
        terminal.wait_for("Your answer? [1]")
        assert "2.  usersync, in the transaction of the sign-up" in terminal.text
        terminal.type("2\n")
        assert terminal.end() == 0
    assert load_settings(directory / "usersync.toml").creates_rows is True


MAKES = """
    create function public.make() returns trigger language plpgsql security definer set search_path = '' as $$
    begin insert into public.accounts values (new.id, true, new.email, new.email); return new; end $$;
    create trigger on_auth_user_created after insert on auth.users
      for each row execute function public.make();
"""


@pytest.mark.slow
@pytest.mark.parametrize("script", ["", MAKES], ids=["application", "trigger"])
def test_team_rows_in_the_users_table_are_excluded(asked, usersync, postgres, auth, script):
    """Input: accounts with personal rows and team rows."""
    data = asked(
        ACCOUNTS.format("is_personal boolean not null,")
        + script
        + "insert into public.accounts values (gen_random_uuid(), false, 'Team', null), "
        "(gen_random_uuid(), false, 'Team', null)",
        None if script else "insert into public.accounts values (%s, true, 'x', null)",
        code=0 if script else 1,
    )
    assert data["settings"]["users_where"] == {"is_personal": True}
    assert "is_personal" not in data["settings"]["columns"]
    assert usersync("apply", "--yes", "--adopt").code == 0
    auth.sign_up_email("bea@example.com")
    auth.update_user_metadata(auth.sign_up_email("carl@example.com"), name="Carl")
    assert usersync("sync").code == 0
    teams = postgres.execute("select distinct name, email from public.accounts where not is_personal")
    assert teams.fetchall() == [("Team", None)]
    assert usersync("status", "--json").json["orphaned"] == 0


def test_init_asks_about_a_column_with_one_value_in_all_rows(asked):
    """The value may mark rows whose users were deleted."""
    data = asked(
        ACCOUNTS.format("status text,")
        + "insert into public.accounts values (gen_random_uuid(), 'gone', 'Ada', null)",
        "insert into public.accounts values (%s, 'active', 'Bea', null)",
    )
    assert "users_where" not in data["settings"]
    question = next(each for each in data["decisions"] if "has no auth user" in each)
    assert 'users_where = { status = "active" }' in question
