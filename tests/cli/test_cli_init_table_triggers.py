"""``init`` tries the triggers of the users table. Their effect on values and rows decides the proposal."""

from __future__ import annotations

import pytest

pytestmark = pytest.mark.newest_server

PROFILES = "create table public.profiles (id uuid primary key references auth.users on delete cascade, {});"
MAKE = """
    create function public.make() returns trigger language plpgsql security definer set search_path = '' as $$
    begin insert into public.profiles (id, email) values (new.id, new.email); return new; end $$;
    create trigger on_auth_user_created after insert on auth.users
      for each row execute function public.make();
"""
TOUCH = """
    create function public.touch() returns trigger language plpgsql as $$ begin {} return new; end $$;
    create trigger touch {} on public.profiles for each row execute function public.touch();
"""


@pytest.fixture
def proposed(usersync, database, monkeypatch, postgres, auth):
    """A function that returns the proposal of init for a table with a row for each of two users."""
    monkeypatch.setenv("SUPABASE_DB_URL", database.dsn())

    def propose(*scripts, row=True):
        for script in scripts:
            postgres.execute(script)
        for number in range(2):
            user = auth.sign_up_email(f"ada-{number}@example.com")
            if row:
                postgres.execute(
                    "insert into public.profiles (id) values (%s) on conflict do nothing", [user]
                )
        done = usersync("init", "--yes", "--json", "--force")
        assert done.code in (0, 1), done.out
        return done.json

    return propose


@pytest.mark.slow
@pytest.mark.parametrize(
    ("body", "is_changed"),
    [
        ("new.email = upper(new.email);", True),
        ("new.email = old.email;", True),
        # A change of a column that is not mirrored has no effect on the proposal.
        ("new.email = lower(new.email);", False),
        ("new.updated_at = now();", False),
    ],
    ids=["upper case", "restored", "lower case", "another column"],
)
def test_a_column_that_a_trigger_changes_is_proposed_as_app_owned(  # noqa: PLR0917 - fixtures
    proposed, usersync, auth, postgres, body, is_changed
):
    """Input: a BEFORE UPDATE trigger that upper-cases or restores the e-mail, or that sets updated_at."""
    data = proposed(
        PROFILES.format("email text, updated_at timestamptz") + TOUCH.format(body, "before update")
    )
    (email,) = [each for each in data["columns"] if each["name"] == "email"]
    assert ("a trigger of the table changes the written value" in email["why"]) is is_changed
    assert email["entry"]["owner"] == "app"  # The application also creates rows.
    usersync("apply", "--yes", "--no-trial")
    user = auth.sign_up_email("bea@example.com")
    postgres.execute("insert into public.profiles (id) values (%s) on conflict do nothing", [user])
    auth.change_email(user, "new@example.com")
    usersync("sync")
    assert usersync("failures", "--json").json["failures"] == []
    assert usersync("status").code == 0


def test_trying_a_write_leaves_the_row_unchanged(proposed, postgres):
    proposed(PROFILES.format("email text") + TOUCH.format("new.email = upper(new.email);", "before update"))
    assert postgres.execute("select distinct email from public.profiles").fetchall() == [(None,)]


@pytest.mark.slow
def test_users_without_a_row_because_of_a_trigger_are_skipped(proposed, usersync, auth):
    """Input: a BEFORE INSERT trigger that returns null for users without an e-mail."""
    skips = "if new.email is null then return null; end if;"
    data = proposed(PROFILES.format("email text") + MAKE + TOUCH.format(skips, "before insert"), row=False)
    assert data["settings"]["skip"] == ["without_email"]
    assert usersync("apply", "--yes", "--adopt", "--accept-changes", "--no-trial").code == 0
    user = auth.sign_up_phone("15551234567")
    assert usersync("failures", "--json").json["failures"] == []
    assert usersync("status").code == 0
    why = usersync("why", user)
    assert (why.code, "skipped" in why.out) == (0, True)
    assert "the settings skip this user" in why.out


@pytest.mark.slow
def test_a_value_that_a_table_trigger_sets_needs_no_decision(proposed, usersync):
    """Input: slug is NOT NULL, and a BEFORE INSERT trigger sets it from the id."""
    data = proposed(
        PROFILES.format("email text, slug text not null")
        + MAKE
        + TOUCH.format("new.slug := left(new.id::text, 8);", "before insert"),
        row=False,
    )
    assert data["decisions"] == []
    assert "slug" not in data["settings"]["columns"]
    assert usersync("apply", "--yes", "--adopt").code == 0


@pytest.mark.slow
def test_the_proposed_setting_for_a_unique_address_satisfies_the_canary(proposed, usersync):
    """Input: email is UNIQUE, and init proposes on_conflict = "null"."""
    data = proposed(PROFILES.format("email text unique") + MAKE, row=False)
    assert data["settings"]["columns"]["email"]["on_conflict"] == "null"
    assert usersync("apply", "--yes", "--adopt", "--no-trial").code == 0
    checks = {each["code"]: each for each in usersync("doctor", "--canary", "--json").json["checks"]}
    assert checks["D034"]["status"] == "ok"


def test_only_verified_addresses_of_the_auth_server_are_mapped(proposed):
    data = proposed(PROFILES.format("email text, email_verified boolean, phone_verified boolean"))
    columns = data["settings"]["columns"]
    assert columns["email_verified"]["expression"] == "email_confirmed_at is not null"
    assert columns["phone_verified"]["expression"] == "phone_confirmed_at is not null"
    assert "looks like a privilege" not in data["toml"]


@pytest.mark.slow
def test_a_flag_that_the_hand_written_trigger_takes_from_metadata_is_kept(proposed, usersync):
    make = MAKE.replace("(id, email)", "(id, email, email_verified)").replace(
        "new.email)", "new.email, (new.raw_user_meta_data->>'email_verified')::boolean)"
    )
    data = proposed(PROFILES.format("email text, email_verified boolean") + make, row=False)
    entry = data["settings"]["columns"]["email_verified"]
    assert (entry["from"], entry["trusted"]) == (["user_metadata.email_verified"], True)
    assert data["decisions"] == [] or "privilege" not in str(data["decisions"])


def test_create_missing_with_max_creates_at_most_that_many_rows(proposed, usersync, postgres):
    """Input: an AFTER INSERT trigger on profiles that writes to an outbox, five users without a row."""
    outbox = "create table public.outbox (id uuid primary key default gen_random_uuid(), what text);"
    data = proposed(
        outbox
        + PROFILES.format("email text")
        + TOUCH.format("insert into public.outbox (what) values ('welcome');", "after insert"),
        row=False,
    )
    assert any("fires touch" in each and "--create-missing --max 10" in each for each in data["decisions"])
    assert usersync("apply", "--yes", "--no-sync", "--no-trial").code == 0
    done = usersync("sync", "--create-missing", "--max", "1")
    assert done.code == 0, done.err
    assert "usersync sync --create-missing --max 1" in done.out
    count = "select (select count(*) from public.profiles), (select count(*) from public.outbox)"
    assert postgres.execute(count).fetchone() == (1, 1)
    assert usersync("sync", "--create-missing", "--max", "5").code == 0
    assert postgres.execute(count).fetchone() == (2, 2)
    assert usersync("sync", "--max", "5").code == 2
