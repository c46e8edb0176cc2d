"""``usersync init`` after ``apply`` proposes the installed settings again."""

from __future__ import annotations

import pytest

from usersync.config.settings import load_settings, parse_settings

pytestmark = pytest.mark.newest_server

MAKE = """
    create function public.make() returns trigger language plpgsql security definer set search_path = '' as $$
    begin {} return new; end $$;
    create trigger on_auth_user_created after insert on auth.users
      for each row execute function public.make();
"""
PEOPLE = "create table public.people (id uuid primary key, {});"
INPUTS = {
    "accounts and teams": PEOPLE.format("is_personal boolean, email text")
    + MAKE.format("insert into public.people values (new.id, true, new.email);")
    + "insert into public.people values (gen_random_uuid(), false, 'x'), (gen_random_uuid(), false, 'y');",
    "rows that wait": "create table public.people (id bigint generated always as identity primary key, "
    "user_id uuid unique, email text); insert into public.people (email) values ('x@example.com');",
    "constants and expressions": PEOPLE.format("email text, role text, nick text, at timestamptz not null")
    + MAKE.format(
        "insert into public.people values (new.id, new.email, 'client', left(new.id::text, 8), now());"
    ),
    "a verified address": PEOPLE.format("email text, email_verified boolean")
    + MAKE.format(
        "insert into public.people values (new.id, new.email, new.email_confirmed_at is not null);"
    ),
    "confirmed users only": PEOPLE.format("email text")
    + MAKE.format(
        "if new.email_confirmed_at is not null then insert into public.people values (new.id, new.email); "
        "end if;"
    ),
    "orders that go with the user": "create table public.people (id uuid primary key references auth.users "
    "on delete cascade, email text);"
    "create table public.orders (person uuid references public.people on delete cascade);"
    + MAKE.format("insert into public.people (id, email) values (new.id, new.email);"),
    "a column that an upsert keeps equal": PEOPLE.format("full_name text")
    + MAKE.format(
        "insert into public.people (id, full_name) values (new.id, new.raw_user_meta_data->>'full_name') "
        "on conflict (id) do update set full_name = excluded.full_name;"
    ).replace("after insert on", "after insert or update on"),
    "another key": "create table public.people (id uuid primary key default gen_random_uuid(), "
    "owner_user_id uuid unique, created_by uuid, contact text);"
    + MAKE.format(
        "insert into public.people (owner_user_id, created_by, contact) "
        "values (new.id, new.id, coalesce(new.email, new.id::text));"
    ),
    "a soft deletion": PEOPLE.format("email text unique, deleted_at timestamptz")
    + MAKE.format("insert into public.people values (new.id, new.email);"),
    "text ids": "create table public.people (id text primary key, email text);"
    + MAKE.format("insert into public.people values (new.id::text, new.email);"),
}


@pytest.mark.slow
@pytest.mark.parametrize("sql", INPUTS.values(), ids=INPUTS)
def test_init_proposes_the_installed_settings_again(  # noqa: PLR0917 - fixtures
    usersync, database, directory, monkeypatch, postgres, auth, sql
):
    monkeypatch.setenv("SUPABASE_DB_URL", database.dsn())
    postgres.execute(sql)
    auth.sign_up_email("ada@example.com")
    auth.sign_up_email("bea@example.com")
    first = usersync("init", "--yes", "--table", "public.people")
    assert first.code in (0, 1), first.err
    settings = load_settings(directory / "usersync.toml")
    done = usersync("apply", "--yes", "--adopt", "--accept-changes", "--no-trial")
    assert "Done:" in done.out, done.out + done.err
    again = usersync("init", "--yes", "--json", "--force")
    assert again.code == 0
    assert parse_settings(again.json["settings"]) == settings
    assert "public.people" not in again.json["other_tables"]
    assert load_settings(directory / "usersync.toml") == settings
    assert usersync("plan", "--exit-code").code == 0
