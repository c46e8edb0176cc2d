"""Gates: a rule that refuses sign-ups today, but only the row with usersync, requires a decision."""

from __future__ import annotations

import pytest

pytestmark = pytest.mark.newest_server

MAKE = """
    create function public.make() returns trigger language plpgsql security definer set search_path = '' as $$
    begin insert into public.profiles (id, {0}) values (new.id, {1}); return new; end $$;
    create trigger make after insert on auth.users for each row execute function public.make();
"""
PROFILES = "create table public.profiles (id uuid primary key references auth.users on delete cascade, {});"
MAIL = MAKE.format("email", "new.email")
GATES = {
    "check": (
        PROFILES.format("email text constraint ours check (email like '%@example.com')") + MAIL,
        "ours",
    ),
    "foreign key": (
        "create table public.allowed (email text primary key);"
        + PROFILES.format("email text constraint invited references public.allowed")
        + MAIL,
        "invited",
    ),
    "cast": (
        PROFILES.format("age int") + MAKE.format("age", "(new.raw_user_meta_data->>'age')::int"),
        "profiles.age",
    ),
    "trigger that raises": (
        PROFILES.format("email text")
        + "create function public.only_ours() returns trigger language plpgsql as $$ begin "
        "if new.email not like '%@example.com' then raise exception 'no'; end if; return new; end $$;"
        "create trigger only_ours before insert on public.profiles "
        "for each row execute function public.only_ours();" + MAIL,
        "only_ours",
    ),
}


@pytest.fixture(autouse=True)
def dsn(database, monkeypatch):
    monkeypatch.setenv("SUPABASE_DB_URL", database.dsn())


@pytest.mark.slow
@pytest.mark.parametrize("kind", GATES)
def test_a_gate_is_named_and_requires_a_decision(usersync, postgres, catalog, kind):
    script, name = GATES[kind]
    postgres.execute(script)
    done = usersync("init", "--yes", "--no-trial")
    assert done.code == 1, done.out
    before = catalog()
    planned = usersync("plan", "--adopt", "--json").json
    (gate,) = [each for each in planned["findings"] if each["subject"].startswith("gate ")]
    assert name in gate["message"]
    assert "refuses a sign-up today" in gate["message"]
    applied = usersync("apply", "--adopt", "--yes", "--no-trial")
    assert applied.code == 1
    assert "Nothing was installed" in applied.out
    assert catalog() == before
    assert usersync("apply", "--adopt", "--yes", "--no-trial", "--accept-changes").code == 0
    assert "gate " not in str(usersync("plan", "--json").json["findings"])


def test_a_kept_trigger_still_refuses_sign_ups(usersync, postgres):
    postgres.execute(GATES["check"][0])
    assert usersync("init", "--yes", "--no-trial").code == 1
    assert "gate " not in str(usersync("plan", "--json").json["findings"])
