"""With a hand-written trigger, ``usersync init`` maps the columns that the trigger fills, in the same way."""

from __future__ import annotations

import pytest

from usersync.testing import GoTrueError

pytestmark = pytest.mark.newest_server

PROFILES = "create table public.profiles (id uuid primary key references auth.users on delete cascade, {});"
MAKE = """
    create function public.make() returns trigger language plpgsql security definer set search_path = '' as $$
    begin insert into public.profiles ({}) values ({}); return new; end $$;
    create trigger on_auth_user_created after insert on auth.users
      for each row execute function public.make();
"""


@pytest.fixture
def proposed(usersync, database, monkeypatch, postgres):
    """A function that returns the proposal of init for the columns of public.profiles."""
    monkeypatch.setenv("SUPABASE_DB_URL", database.dsn())

    def propose(*scripts, code=0):
        for script in scripts:
            postgres.execute(script)
        done = usersync("init", "--json", "--force", "--no-trial", "--table", "public.profiles")
        assert done.code == code, done.out
        return done.json

    return propose


def entries(data):
    return data["settings"]["columns"]


def test_a_column_that_the_trigger_does_not_fill_is_not_mapped(proposed, auth):
    """Input: profiles(id, role default 'member'), insert of id only, one user with app_metadata.role."""
    auth.admin_create(app_metadata={"role": "editor"})
    data = proposed(PROFILES.format("role text default 'member', email text"), MAKE.format("id", "new.id"))
    assert entries(data) == {}
    assert '# role = { from = "app_metadata.role", owner = "app" }' in data["toml"]
    assert '# email = { from = "email", owner = "app" }' in data["toml"]


def test_a_column_that_the_application_fills_is_not_mapped_by_name(proposed):
    """Input: users(id, full_name, banned_until, phone), insert of id and full_name."""
    data = proposed(
        PROFILES.format(
            "full_name text, banned_until timestamptz, phone text, created_at timestamptz default now()"
        ),
        MAKE.format("id, full_name", "new.id, new.raw_user_meta_data->>'full_name'"),
    )
    assert entries(data) == {"full_name": {"from": ["user_metadata.full_name"], "owner": "app"}}


def test_a_column_that_is_written_once_is_app_owned(proposed):
    """Input: the trigger inserts the e-mail once, and users edit it."""
    data = proposed(PROFILES.format("email text"), MAKE.format("id, email", "new.id, new.email"))
    assert entries(data) == {"email": {"from": ["email"], "owner": "app"}}


def test_a_column_that_the_trigger_updates_is_mirrored(proposed):
    data = proposed(
        PROFILES.format("email text, full_name text"),
        MAKE.format("id, email, full_name", "new.id, new.email, new.raw_user_meta_data->>'full_name'"),
        "create function public.follow() returns trigger language plpgsql as "
        "'begin update public.profiles set email = new.email where id = new.id; return new; end';"
        "create trigger follow after update of email on auth.users "
        "for each row execute function public.follow()",
    )
    assert entries(data) == {
        "email": {"from": ["email"]},
        "full_name": {"from": ["user_metadata.full_name"], "owner": "app"},
    }


def test_constants_and_computed_values_of_the_trigger_are_mapped(proposed, usersync):
    """Input: constants and a username of random characters in NOT NULL columns."""
    data = proposed(
        PROFILES.format(
            "bio text not null, is_public boolean not null, username text not null, role text not null, "
            "contact text, plan text default 'free'"
        ),
        MAKE.format(
            "id, bio, is_public, username, role, contact, plan",
            "new.id, '', false, 'user_' || substr(md5(random()::text), 1, 8), 'client', "
            "coalesce(new.email, new.id::text), 'free'",
        ),
    )
    assert entries(data) == {
        "bio": {"value": ""},
        "is_public": {"value": False},
        "username": {"expression": "'user_' || substr(md5(random()::text), 1, 8)"},
        "role": {"value": "client"},
        "contact": {"from": ["email", "id"], "owner": "app"},
    }
    assert not data["decisions"]
    planned = usersync("plan", "--adopt", "--json").json
    assert "usersync does the same" in str(planned["changes"])


def test_a_column_that_a_trigger_of_the_table_fills_requires_no_decision(proposed):
    """Input: slug text not null, set by a BEFORE INSERT trigger."""
    data = proposed(
        PROFILES.format("full_name text, slug text not null"),
        "create function public.slug() returns trigger language plpgsql as "
        "'begin new.slug := left(new.id::text, 8); return new; end';"
        "create trigger slug before insert on public.profiles for each row execute function public.slug()",
        MAKE.format("id, full_name", "new.id, new.raw_user_meta_data->>'full_name'"),
    )
    assert "slug" not in entries(data)
    assert data["decisions"] == []
    assert "a trigger of the table fills it" in data["toml"]


def test_a_not_null_column_without_a_source_is_a_question(proposed):
    data = proposed(PROFILES.format("email text, tenant int not null"), code=1)
    assert any(each.startswith("tenant: NOT NULL and without a default") for each in data["decisions"])


def test_a_prisma_table_is_accepted_and_updated_at_requires_a_decision(proposed):
    """Input: "id" of type text, "createdAt" with a default, "updatedAt" NOT NULL without a default."""
    data = proposed(
        'create table public.profiles ("id" text primary key, "email" text unique, '
        '"createdAt" timestamp(3) not null default current_timestamp, "updatedAt" timestamp(3) not null)',
        code=1,
    )
    assert data["settings"]["key_type"] == "text"
    assert set(entries(data)) == {"email", "createdAt"}
    assert any(each.startswith("updatedAt: NOT NULL and without a default") for each in data["decisions"])


def test_a_column_missing_in_the_auth_server_is_not_mapped(proposed, superuser, usersync):
    """Input: an auth server from before is_anonymous existed."""
    superuser.execute("alter table auth.users drop column is_anonymous cascade")
    data = proposed(PROFILES.format("email text, is_anonymous boolean"))
    assert entries(data) == {"email": {"from": ["email"]}}
    assert usersync("plan").code == 0


def test_a_new_table_has_no_column_that_the_auth_server_lacks(usersync, database, monkeypatch, superuser):
    monkeypatch.setenv("SUPABASE_DB_URL", database.dsn())
    superuser.execute("alter table auth.users drop column is_anonymous cascade")
    assert usersync("init").code == 0
    assert usersync("plan").code == 0


def test_sql_keywords_are_not_function_calls(proposed):
    """Input: a function with the keywords exists() and when(), which look like function calls."""
    data = proposed(
        PROFILES.format("email text"),
        "create function public.check_it() returns trigger language plpgsql as $$ begin "
        "if exists (select 1 from public.profiles) then return new; end if; "
        "case when (new.email is null) then null; else null; end case; return new; end $$;"
        "create trigger check_it after insert on auth.users for each row execute function public.check_it()",
    )
    (about,) = data["triggers_on_auth_users"]
    assert not any("call" in each for each in about["beyond"])


def test_a_before_trigger_is_described_by_what_it_changes(proposed):
    """Input: a BEFORE INSERT trigger that adds a key to raw_user_meta_data."""
    data = proposed(
        PROFILES.format("email text"),
        "create function public.enrich() returns trigger language plpgsql as $$ begin "
        "new.raw_user_meta_data = coalesce(new.raw_user_meta_data, '{}') || '{\"a\": 1}'; return new; end $$;"
        "create trigger enrich before insert on auth.users for each row execute function public.enrich()",
    )
    (about,) = data["triggers_on_auth_users"]
    assert about["beyond"] == ["changes raw_user_meta_data of the user before it is stored"]


NAMED = PROFILES.format("name text default 'Anonymous'") + MAKE.format(
    "id, name", "new.id, new.raw_user_meta_data->>'name'"
)


@pytest.mark.slow
def test_a_null_that_the_trigger_writes_is_not_replaced_by_the_default(proposed, usersync, auth, postgres):
    """Input: a column with a default, and a trigger that fills it from an optional metadata key."""
    data = proposed(NAMED)
    assert entries(data) == {"name": {"from": ["user_metadata.name"], "owner": "app", "absent": "null"}}
    assert 'absent = "null"' in data["toml"]
    assert usersync("apply", "--yes", "--adopt", "--no-trial").code == 0
    auth.sign_up_email()
    assert postgres.execute("select name from public.profiles").fetchall() == [(None,)]


def test_a_trigger_that_writes_null_is_not_replaced_by_the_tables_default(
    usersync, database, postgres, monkeypatch, directory
):
    monkeypatch.setenv("SUPABASE_DB_URL", database.dsn())
    postgres.execute(NAMED)
    (directory / "usersync.toml").write_text(
        'users_table = "public.profiles"\non_delete = "delete"\non_soft_delete = "keep"\n'
        '[columns]\nname = { from = "user_metadata.name", owner = "app" }\n'
    )
    planned = usersync("plan", "--adopt", "--json").json
    assert not [each for each in planned["changes"] if each["kind"] == "drop"]
    assert "writes null into name if the user has no value" in str(planned["findings"])


STAYS = (
    PROFILES.format("email text unique, name text not null, plan text, avatar_url text")
    + """
    create table public.outbox (id uuid);
    create function public.make() returns trigger language plpgsql security definer set search_path = '' as $$
    begin insert into public.outbox values (new.id);
    insert into public.profiles (id, email, name, plan)
    values (new.id, new.email, coalesce(new.raw_user_meta_data->>'name', ''), 'free'); return new; end $$;
    create trigger on_auth_user_created after insert on auth.users
      for each row execute function public.make();
    """
)
FOLLOW = """
    create function public.follow() returns trigger language plpgsql security definer as $$
    begin update public.profiles set email = new.email where id = new.id; return new; end $$;
    create trigger follow after update of email on auth.users for each row execute function public.follow();
"""


def test_no_adoption_is_proposed_if_no_trigger_can_be_adopted(proposed, usersync):
    """Input: a trigger with usersync's usual name, which also writes to another table."""
    assert not proposed(STAYS)["needs_adoption"]
    shown = usersync("init", "--force", "--no-trial").out
    assert shown.splitlines()[-1].split() == ["Next:", "usersync", "plan"]
    assert usersync("plan").code == 0


def test_each_column_that_an_anonymization_changes_is_named(proposed):
    remark = "anonymize sets email to null and replaces name (NOT NULL) with a placeholder."
    data = proposed(STAYS, FOLLOW)
    assert data["settings"]["on_soft_delete"] == "anonymize"
    assert remark in data["toml"].replace("\n# ", " ")


def test_the_owner_of_a_constant_is_explained(proposed, usersync):
    data = proposed(STAYS)
    assert entries(data)["plan"] == {"value": "free"}
    assert 'a column with "value" or "expression"' in data["toml"].replace("\n# ", " ")
    (line,) = [
        each
        for each in usersync("init", "--force", "--no-trial").out.splitlines()
        if each.split()[:1] == ["plan"]
    ]
    assert line.endswith("app-owned")


def test_the_effect_on_a_second_sign_up_is_described_for_usersync_only(proposed, auth, postgres):
    """Input: a trigger that stays inserts a UNIQUE address. A soft deletion keeps the address in the row."""
    (message,) = [each["message"] for each in proposed(STAYS)["findings"] if "UNIQUE" in each["message"]]
    assert "gets a row without it" not in message
    assert message.endswith(
        "a new sign-up with the same email ends as without usersync, because the trigger "
        "on_auth_user_created creates the row. If its INSERT fails, the sign-up fails"
    )
    auth.soft_delete(auth.sign_up_email("ada@example.com"))
    with pytest.raises(GoTrueError):
        auth.sign_up_again("ada@example.com")
