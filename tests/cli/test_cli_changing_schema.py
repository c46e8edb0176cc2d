"""Migrations of the application between the steps of an installation: each step reports them."""

from __future__ import annotations

import pytest

from usersync.testing import GoTrueError

pytestmark = pytest.mark.newest_server

PROJECT = """
    create table public.users (id uuid primary key, email text, full_name text);
    create function public.handle_new_user() returns trigger language plpgsql security definer
    set search_path = '' as $$ begin
      insert into public.users (id, email, full_name)
      values (new.id, new.email, new.raw_user_meta_data->>'full_name');
      return new;
    end $$;
    create trigger on_auth_user_created after insert on auth.users
      for each row execute function public.handle_new_user();
"""


@pytest.fixture(scope="module")
def proposals():
    """The settings file that ``init`` proposed in an earlier test. The project is the same in each test."""
    return []


@pytest.fixture
def step(usersync, database, monkeypatch, postgres, directory, proposals):  # noqa: PLR0917 - fixtures
    """A function that calls the command after ``init``, and returns the result."""
    monkeypatch.setenv("SUPABASE_DB_URL", database.dsn())
    postgres.execute(PROJECT)

    def call(*arguments, code=0):
        untried = ["--no-trial"] if arguments[0] == "apply" else []
        done = usersync(*arguments, *untried)
        assert done.code == code, done.out + done.err
        return done

    file = directory / "usersync.toml"
    if proposals:
        file.write_text(*proposals)
    else:
        call("init")
        proposals.append(file.read_text())
    return call


CHANGES = {
    "alter table public.users drop column full_name": "public.users has no column full_name, which is mapped",
    "alter table public.users rename to users_old": "table public.users does not exist and would be created",
    "alter table public.users drop constraint users_pkey cascade": "has no primary key or unique constraint",
    "alter table public.users alter column id type text": "public.users.id is of type text",
    "alter table public.users alter column email type int using 1": "public.users.email is of type",
    "alter table public.users add column team text not null": "public.users.team is NOT NULL, has no default",
    "drop table public.users cascade; create view public.users as select 1 as id": "is not a table",
}


@pytest.mark.parametrize("change", CHANGES)
def test_plan_and_apply_report_a_change_made_after_init(step, postgres, catalog, change):
    postgres.execute(change)
    before = catalog()
    blocks = "would be created" not in CHANGES[change]
    planned = step("plan", "--adopt", code=int(blocks))
    assert CHANGES[change] in planned.out.replace("\n    ", " ")
    assert catalog() == before
    if blocks:
        step("apply", "--adopt", "--yes", code=1)
        assert catalog() == before


#: The log's foreign key to the key column: PostgreSQL refuses to change the column's type.
@pytest.mark.slow
@pytest.mark.parametrize("change", [each for each in CHANGES if "column id" not in each])
def test_after_a_change_sign_ups_succeed_and_doctor_reports_it(step, postgres, auth, catalog, change):
    """rollback removes usersync also after the change."""
    step("apply", "--adopt", "--yes")
    postgres.execute(change)
    user = auth.sign_up_email("ada@example.com")
    step("doctor", code=1)
    ledger = postgres.execute("select user_id from usersync.sync_failures").fetchall()
    there = "drop constraint" in change or "add column" in change or "drop column" in change
    assert (user,) in ledger or there
    step("rollback", "--yes", "--drop-audit-log")
    assert not [name for _, name in catalog() if name.startswith("usersync")]
    assert ("trigger", "on_auth_user_created on auth.users") in catalog()


@pytest.mark.parametrize("kind", ["text", "varchar(200)"])
def test_a_new_column_is_not_mistaken_for_the_renamed_one(step, postgres, kind):
    """The application renames a mapped column, and adds another column with the old name."""
    step("apply", "--adopt", "--yes")
    postgres.execute(
        f"alter table public.users alter column full_name type {kind};"
        "alter table public.users rename column full_name to avatar;"
        "alter table public.users add column slug text"
    )
    said = " ".join(step("plan", code=1).out.replace("--", " ").split())
    assert "public.users has no column full_name, which is mapped" in said
    assert "If it was renamed, write its new name into [columns] of usersync.toml." in said
    assert "slug" not in said


@pytest.mark.slow
@pytest.mark.parametrize("name", ["surname", "full name"])
def test_commands_that_compare_name_a_missing_mapped_column(step, postgres, auth, directory, name):
    """Input: the application renames a mapped column, and a user is deleted afterwards."""
    config = directory / "usersync.toml"
    config.write_text(f'[columns]\nemail = "email"\n"{name}" = "user_metadata.full_name"\n')
    postgres.execute(
        "drop function public.handle_new_user cascade;"
        f'alter table public.users rename column full_name to "{name}"'
    )
    step("apply", "--yes")
    user = auth.sign_up_email("ada@example.com")
    postgres.execute(f'alter table public.users rename column "{name}" to elsewhere')
    for command in "status", "sync", "sync --dry-run", "metrics":
        said = " ".join(step(*command.split(), code=1).err.split())
        assert f"US206: the users table has no column {name}, which the settings name" in said, command
        assert "write its new name into usersync.toml" in said
    auth.hard_delete(user)
    said = " ".join(step("erase", user, "--yes", code=1).err.split())
    assert f"US206: public.users has no column {name}, which the settings name" in said
    config.write_text(config.read_text().replace(f'"{name}"', "elsewhere"))
    step("apply", "--yes")
    step("erase", user, "--yes")
    step("status", code=1)  # The failed deletion is still in the failures table.
    step("retry")
    step("status")


@pytest.mark.slow
def test_a_hand_written_trigger_is_created_again_after_its_adoption(step, postgres, auth, catalog):
    """The user has already agreed to the adoption, so apply adopts the trigger again without --adopt."""
    before = catalog()
    step("apply", "--adopt", "--yes")
    again = PROJECT[PROJECT.index("create trigger") :].replace("create trigger", "create or replace trigger")
    postgres.execute(again)
    step("doctor", code=1)
    assert "usersync does the same; rollback restores it" in step("plan").out
    step("apply", "--yes")
    assert "Nothing to change" in step("plan").out
    auth.sign_up_email("ada@example.com")
    assert postgres.execute("select count(*) from public.users").fetchone() == (1,)
    step("rollback", "--yes", "--drop-audit-log")
    assert catalog() == before


@pytest.mark.slow
def test_rollback_restores_an_adopted_trigger_with_the_changed_function(step, postgres, auth):
    step("apply", "--adopt", "--yes")
    postgres.execute(
        "create or replace function public.handle_new_user() returns trigger language plpgsql as "
        "$$ begin raise exception 'changed'; end $$"
    )
    auth.sign_up_email("ada@example.com")
    step("rollback", "--yes")
    with pytest.raises(GoTrueError):  # the application's function, as it is now
        auth.sign_up_email("bea@example.com")
