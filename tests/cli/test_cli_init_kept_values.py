"""``usersync init`` proposes no mapping that overwrites values of the application."""

from __future__ import annotations

import pytest

pytestmark = pytest.mark.newest_server

USERS = "create table public.users (id uuid primary key references auth.users on delete cascade, email text)"


@pytest.fixture
def proposed(usersync, database, monkeypatch):
    monkeypatch.setenv("SUPABASE_DB_URL", database.dsn())

    def propose(*arguments, code=0):
        done = usersync("init", "--yes", "--json", "--force", *arguments)
        assert done.code == code, done.out
        return done.json

    return propose


def emails(postgres):
    return sorted(postgres.execute("select email from public.users").fetchall())


def test_an_address_that_the_application_wrote_is_kept_by_the_first_run(proposed, usersync, auth, postgres):
    """Input: no trigger. The application created the rows, one of them with another address."""
    postgres.execute(USERS)
    for address, own in (("ada@example.com", "ada@work.example"), ("bea@example.com", "bea@example.com")):
        user = auth.sign_up_email(address)
        postgres.execute("insert into public.users values (%s, %s)", [user, own])
    before = emails(postgres)
    data = proposed(code=1)
    assert data["settings"]["creates_rows"] is False
    assert data["settings"]["columns"]["email"]["owner"] == "app"
    assert "your application creates the rows" in data["toml"].replace("\n# ", " ")
    assert usersync("apply", "--yes", "--no-trial").code == 0
    assert usersync("sync").code == 0
    assert emails(postgres) == before


FOLLOW = """
    create function public.follow() returns trigger language plpgsql security definer as $$
    begin update public.users set email = new.email where id = new.id; return new; end $$;
    create trigger follow after update of email on auth.users
      for each row execute function public.follow();
"""


def test_a_column_that_a_trigger_keeps_equal_is_mirrored(proposed, auth, postgres):
    """Input: as above, with a trigger on UPDATE that sets the address."""
    postgres.execute(USERS + ";" + FOLLOW)
    user = auth.sign_up_email("ada@example.com")
    postgres.execute("insert into public.users values (%s, 'old@example.com')", [user])
    assert "owner" not in proposed(code=1)["settings"]["columns"]["email"]


@pytest.mark.slow
def test_a_column_with_a_differing_value_is_proposed_as_app_owned(proposed, auth, postgres):
    """Input: a trigger that usersync cannot parse creates the rows.

    One of two columns has another value in a row.
    """
    postgres.execute(
        USERS + "; alter table public.users add phone text;"
        "create function public.make() returns trigger language plpgsql security definer as "
        "$$ begin execute 'insert into public.users (id, phone, email) values ($1, $2, $3)' "
        "using new.id, new.phone, new.email; return new; end $$;"
        "create trigger make after insert on auth.users for each row execute function public.make();"
        "create function public.follow() returns trigger language plpgsql security definer as "
        "$$ begin execute 'update public.users set phone = $2 where id = $1' using new.id, new.phone; "
        "return new; end $$;"
        "create trigger follow after update on auth.users for each row execute function public.follow()"
    )
    auth.sign_up_email("ada@example.com")
    postgres.execute("update public.users set email = 'ada@work.example'")
    columns = proposed()["settings"]["columns"]
    assert columns["email"]["owner"] == "app"
    assert "owner" not in columns["phone"]
