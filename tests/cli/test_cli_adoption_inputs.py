"""Small applications with hand-written triggers behave as before after ``init`` and ``apply``."""

from __future__ import annotations

import pytest

pytestmark = pytest.mark.newest_server

PROFILES = "create table public.profiles (id uuid primary key references auth.users on delete cascade, {});"
FUNCTION = """
    create function public.{name}() returns trigger language plpgsql security definer
    set search_path = '' as $$ begin {body}; return new; end $$;
    create trigger {trigger} after {on} on auth.users for each row execute function public.{name}();
"""


def make(body, on="insert", name="make", trigger="on_auth_user_created"):
    return FUNCTION.format(body=body, on=on, name=name, trigger=trigger)


@pytest.fixture
def adopted(usersync, database, monkeypatch, postgres):
    """Run ``init`` and ``apply`` on an application, with the default answer to every question."""
    monkeypatch.setenv("SUPABASE_DB_URL", database.dsn())

    def adopt(*options, table=None):
        done = usersync("init", "--yes", "--json", *(["--table", table] if table else []))
        assert done.code in {0, 1}, done.out
        applied = usersync("apply", "--adopt", "--yes", *options)
        assert "Done:" in applied.out, applied.out + applied.err

    return adopt


def rows(postgres, query):
    return sorted(postgres.execute(query).fetchall())


PEOPLE = """
    create table public.people (
        id uuid primary key default gen_random_uuid(), email text unique, team text);
"""


@pytest.mark.slow
def test_a_sign_up_claims_the_invited_row(adopted, postgres, auth):
    """Input: on conflict (email) do update set id = excluded.id.

    The first run must not anonymize the invitation.
    """
    postgres.execute(
        PEOPLE
        + make(
            "insert into public.people (id, email) values (new.id, new.email) "
            "on conflict (email) do update set id = excluded.id"
        )
    )
    old = auth.sign_up_email("old@example.com")
    postgres.execute(
        "insert into public.people (email, team) values ('x@example.com', 'red'), ('y@example.com', 'blue')"
    )
    adopted()
    user = auth.sign_up_email("x@example.com")
    assert rows(postgres, "select email, team from public.people") == [
        ("old@example.com", None),
        ("x@example.com", "red"),
        ("y@example.com", "blue"),
    ]
    ids = {id_ for (id_,) in rows(postgres, "select id from public.people where email <> 'y@example.com'")}
    assert ids == {old, user}


@pytest.mark.slow
def test_consent_and_sign_in_times_are_written_as_before(adopted, postgres, auth):
    """Input: terms_accepted_at = now() at the sign-up, last_login_at = now() at each sign-in."""
    postgres.execute(
        PROFILES.format("terms_accepted_at timestamptz, last_login_at timestamptz")
        + make("insert into public.profiles (id, terms_accepted_at) values (new.id, now())")
        + make(
            "update public.profiles set last_login_at = now() where id = new.id",
            "update of last_sign_in_at",
            "seen",
            "seen",
        )
    )
    adopted(table="public.profiles")
    user = auth.sign_up_email("ada@example.com")
    query = "select terms_accepted_at, last_login_at from public.profiles"
    ((consent, first),) = rows(postgres, query)
    auth.sign_in(user)
    ((still, second),) = rows(postgres, query)
    assert consent == still
    assert first < second


@pytest.mark.slow
@pytest.mark.parametrize("null", ["", "not null"])
def test_a_soft_deletion_frees_the_email_as_before(adopted, postgres, auth, null):
    """Input: email is UNIQUE, and a trigger AFTER UPDATE OF email follows it."""
    postgres.execute(
        PROFILES.format(f"email text {null} unique")
        + make("insert into public.profiles (id, email) values (new.id, new.email)")
        + make(
            "update public.profiles set email = new.email where id = new.id",
            "update of email",
            "follow",
            "follow",
        )
    )
    adopted("--accept-changes")
    auth.soft_delete(auth.sign_up_email("ada@example.com"))
    user = auth.sign_up_again("ada@example.com")
    assert rows(postgres, f"select email from public.profiles where id = '{user}'") == [("ada@example.com",)]


@pytest.mark.slow
def test_a_column_that_the_trigger_does_not_fill_keeps_default_and_values(adopted, postgres, auth):
    """Input: a role with a default, a user with app_metadata.role, and values that the application wrote."""
    postgres.execute(
        PROFILES.format("role text default 'member', banned_until timestamptz, phone text, email text")
        + make("insert into public.profiles (id, email) values (new.id, new.email)")
    )
    auth.admin_create("boss@example.com", app_metadata={"role": "editor"})
    postgres.execute(
        "update public.profiles set banned_until = 'infinity', phone = '1', role = 'owner', email = 'edited'"
    )
    adopted()
    auth.sign_up_email("ada@example.com")
    assert rows(postgres, "select email, role, banned_until::text, phone from public.profiles") == [
        ("ada@example.com", "member", None, None),
        ("edited", "owner", "infinity", "1"),
    ]


MEMBERS = "create table public.members (id {}, user_id uuid unique, email text, role text default 'user');"


@pytest.mark.slow
@pytest.mark.parametrize(
    "key", ["bigint generated always as identity primary key", "uuid primary key default gen_random_uuid()"]
)
def test_the_application_claims_or_inserts_its_rows_itself(adopted, usersync, postgres, auth, key):
    """Input: a row without a key that the application updates; and rows that it inserts after the sign-up."""
    postgres.execute(
        MEMBERS.format(key) + "insert into public.members (user_id, email) values (null, 'x@example.com')"
    )
    adopted(table="public.members")
    user, other = auth.sign_up_email("x@example.com"), auth.sign_up_email("y@example.com")
    postgres.execute(
        "update public.members set user_id = %s where email = 'x@example.com' and user_id is null", [user]
    )
    postgres.execute("insert into public.members (user_id, email) values (%s, 'y@example.com')", [other])
    assert rows(postgres, "select email, role from public.members") == [
        ("x@example.com", "user"),
        ("y@example.com", "user"),
    ]
    assert usersync("failures", "--json").json["failures"] == []
    assert usersync("status").code == 0
