"""``usersync init`` derives its proposal from the effects of the application's triggers in a trial."""

from __future__ import annotations

import pytest

pytestmark = pytest.mark.newest_server

PROFILES = "create table public.profiles (id uuid primary key references auth.users on delete cascade, {});"


def trigger(body, on="insert", name="make", declare="", when=""):
    return f"""
        create function public.{name}() returns trigger language plpgsql security definer set search_path = ''
        as $$ declare {declare} begin {body} return coalesce(new, old); end $$;
        create trigger {name} after {on} on auth.users for each row {when} execute function public.{name}();
    """


@pytest.fixture
def proposed(usersync, database, monkeypatch, postgres, catalog):
    """A function that returns the proposal after the trial. Checks that the trial leaves no change."""
    monkeypatch.setenv("SUPABASE_DB_URL", database.dsn())

    def propose(*scripts, code=0):
        for script in scripts:
            postgres.execute(script)
        before = catalog()
        done = usersync("init", "--yes", "--json", "--force")
        assert done.code == code, done.out
        assert catalog() == before
        assert postgres.execute("select count(*) from auth.users").fetchone() == (0,)
        return done.json

    return propose


@pytest.mark.slow
def test_a_function_that_cannot_be_parsed_is_observed_in_the_trial(proposed):
    """Input: dynamic SQL, a value from another table, and a concatenated value."""
    data = proposed(
        PROFILES.format("email text, full_name text, plan text, handle text, seen timestamptz default now()"),
        "create table public.plans (name text); insert into public.plans values ('free')",
        trigger(
            "select name into p from public.plans; "
            "execute 'insert into public.profiles (id, email, full_name, plan, handle) "
            "values ($1, $2, $3, $4, $5)' "
            "using new.id, new.email, new.raw_user_meta_data->>'full_name', p, "
            "'u-' || left(new.id::text, 4);",
            declare="p text;",
        ),
    )
    assert data["settings"]["users_table"] == "public.profiles"
    columns = data["settings"]["columns"]
    assert columns["email"] == {"from": ["email"], "owner": "app"}
    assert columns["full_name"] == {"from": ["user_metadata.full_name"], "owner": "app"}
    assert columns["plan"] == {"value": "free"}
    assert "seen" not in columns
    assert "handle" not in columns
    assert "computes it in a way that usersync cannot reproduce" in data["toml"]


@pytest.mark.slow
def test_mirrored_columns_are_those_that_the_trial_saw_change(proposed):
    data = proposed(
        PROFILES.format("email text, full_name text"),
        trigger(
            "insert into public.profiles values (new.id, new.email, new.raw_user_meta_data->>'full_name'); "
        ),
        trigger(
            "execute 'update public.profiles set email = $1 where id = $2' using new.email, new.id;",
            on="update",
            name="follow",
        ),
    )
    assert data["settings"]["columns"]["email"] == {"from": ["email"]}
    assert data["settings"]["columns"]["full_name"]["owner"] == "app"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("reference", "body", "on_delete"),
    [
        ("references auth.users on delete cascade", None, "delete"),
        ("", None, "keep"),
        ("", "execute 'delete from public.people where id = $1' using old.id;", "delete"),
        ("", "execute 'update public.people set deleted_at = now() where id = $1' using old.id;", "soft"),
        ("", "execute 'update public.people set email = null where id = $1' using old.id;", "anonymize"),
    ],
)
def test_on_delete_is_proposed_from_the_trial(proposed, reference, body, on_delete):
    scripts = [
        f"create table public.people (id uuid primary key {reference}, email text, deleted_at timestamptz)",
        trigger("insert into public.people values (new.id, new.email);"),
    ]
    if body:
        scripts.append(trigger(body, on="delete", name="gone"))
    data = proposed(*scripts)
    assert data["settings"]["on_delete"] == on_delete


@pytest.mark.slow
def test_flows_that_fail_today_are_shown_first(proposed, usersync):
    """Input: the trigger of a users table that was dropped, so that every sign-up fails."""
    data = proposed(
        PROFILES.format("email text"),
        trigger("insert into public.gone values (new.id);"),
        code=1,
    )
    (fault,) = data["fails_today"]
    assert "sign-up by e-mail" in fault["flows"]
    assert "42P01" in fault["fault"]
    assert "make on auth.users" in fault["fault"]
    lines = usersync("init", "--force").out.splitlines()
    assert lines[lines.index("") + 1] == "Fails today, before usersync"


def test_a_trial_in_which_every_sign_up_fails_is_reported(proposed):
    """Input: a trigger that raises if the user has no invitation."""
    data = proposed(
        PROFILES.format("email text"),
        "create table public.invitations (email text)",
        trigger(
            "if not exists (select 1 from public.invitations i where i.email = new.email) "
            "then raise exception 'not invited'; end if; "
            "insert into public.profiles values (new.id, new.email);"
        ),
        code=1,
    )
    assert any(
        each.startswith("No sign-up was accepted in the trial") and "not invited" in each
        for each in data["decisions"]
    )


def test_a_trigger_that_calls_another_server_is_not_tried(proposed, superuser):
    superuser.execute(
        "create function extensions.http_get(text) returns text language sql as 'select $1';"
        "grant execute on function extensions.http_get(text) to public"
    )
    data = proposed(
        PROFILES.format("email text"),
        trigger("insert into public.profiles values (new.id, new.email);"),
        trigger("perform extensions.http_get('https://example.com');", name="ping"),
        code=1,
    )
    assert any("rollback does not undo" in each for each in data["decisions"]), data["decisions"]


CONFIRMED = "when (old.email_confirmed_at is null and new.email_confirmed_at is not null)"


@pytest.mark.slow
def test_a_row_created_at_confirmation_is_proposed_the_same_way(proposed, usersync):
    """Input: an AFTER UPDATE trigger that inserts the row when the address is confirmed."""
    data = proposed(
        PROFILES.format("email text"),
        trigger("insert into public.profiles values (new.id, new.email);", on="update", when=CONFIRMED),
    )
    assert data["settings"]["skip"] == ["unconfirmed"]


@pytest.mark.slow
def test_skipping_anonymous_users_is_proposed_if_the_trigger_skips_them(proposed):
    data = proposed(
        PROFILES.format("email text"),
        trigger(
            "if not new.is_anonymous then insert into public.profiles values (new.id, new.email); end if;"
        ),
    )
    assert data["settings"]["skip"] == ["anonymous"]


@pytest.mark.slow
def test_a_flag_that_a_soft_deletion_changes_is_not_mapped_to_the_email(proposed):
    """Input: a trigger stores whether the user has a password. A soft deletion clears this flag."""
    data = proposed(
        PROFILES.format("email text, has_password boolean"),
        trigger("insert into public.profiles (id, email) values (new.id, new.email);"),
        trigger(
            "update public.profiles set has_password = (new.encrypted_password > '') is true"
            " where id = new.id;",
            on="update",
            name="note_password",
        ),
    )
    assert data["settings"]["on_soft_delete"] == "keep"


ACCOUNTS = "create table public.accounts (id uuid primary key references auth.users on delete cascade, {});"
CHOOSES = """
    if new.raw_user_meta_data ->> 'name' is not null
    then user_name := new.raw_user_meta_data ->> 'name'; end if;
    if user_name is null and new.email is not null then user_name := split_part(new.email, '@', 1); end if;
    if user_name is null then user_name := ''; end if;
    insert into public.accounts (id, name, email) values (new.id, user_name, new.email);
"""


@pytest.mark.slow
def test_sync_writes_the_value_that_the_trigger_would_write(proposed, usersync, auth, postgres):
    """Input: the name is the one in the metadata, or the local part of the e-mail address, or empty."""
    proposed(ACCOUNTS.format("name text not null, email text"), trigger(CHOOSES, declare="user_name text;"))
    assert usersync("apply", "--yes", "--no-trial").code == 0
    users = [
        auth.sign_up_email("ada@example.com"),
        auth.sign_up_email("bea@example.com", data={"name": "Bea"}),
        auth.sign_up_phone("15550000001"),
    ]
    query = "select id, name from public.accounts order by id"
    today = postgres.execute(query).fetchall()
    assert {name for _, name in today} == {"ada", "Bea", ""}
    for user in users:
        postgres.execute("delete from public.accounts where id = %s", [user])
    assert usersync("sync", "--create-missing").code == 0
    assert postgres.execute(query).fetchall() == today


@pytest.mark.slow
def test_init_asks_about_a_value_that_it_cannot_derive(proposed):
    """Input: the same rule with an IF that usersync cannot parse. All users of the trial have a name."""
    data = proposed(
        ACCOUNTS.format("name text not null, email text"),
        trigger(
            "if length(new.raw_user_meta_data ->> 'name') > 0 "
            "then user_name := new.raw_user_meta_data ->> 'name'; "
            "elsif new.email is not null then user_name := split_part(new.email, '@', 1); "
            "else user_name := ''; end if; "
            "insert into public.accounts (id, name, email) values (new.id, user_name, new.email);",
            declare="user_name text;",
        ),
        code=1,
    )
    (decision,) = data["decisions"]
    assert decision.startswith("name: public.make() chooses the value in a way that usersync cannot read.")
    assert "as seen in the trial of public.make()" in data["toml"]
