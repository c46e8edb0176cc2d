"""A statement's rows are synced at its first row's turn, and are there for the triggers that fire later."""

from __future__ import annotations

import pytest

pytestmark = pytest.mark.newest_server

#: A second trigger of the application's that needs the user's row: with a foreign key to it, or without one.
NEEDY = {
    "by a foreign key": (
        "create table public.needs (id uuid primary key references {users}, email text)",
        "insert into public.needs values (new.id, new.email)",
    ),
    "by a SELECT": (
        "create table public.needs (id uuid primary key, email text)",
        "insert into public.needs select {key}, {email} from {users} where {key} = new.id",
    ),
}


@pytest.fixture
def trigger(sql):
    """Make a trigger of the application's on ``auth.users``."""

    def make(name, body, when="after insert", level="row"):
        sql(
            f"create function public.{name}() returns trigger language plpgsql security definer as "
            f"$f$ begin {body}; return coalesce(new, old); end $f$;"
            f"create trigger {name} {when} on auth.users for each {level} execute function public.{name}()"
        )

    return make


@pytest.mark.parametrize(("table", "body"), NEEDY.values(), ids=NEEDY)
def test_a_later_trigger_finds_the_row_of_each_sign_up(project, sql, trigger, table, body):
    sql(table)
    trigger("on_auth_user_created_settings", body)
    auth = project.auth
    users = [
        auth.sign_up_email("ada@example.com"),
        auth.sign_up_phone(),
        auth.sign_up_anonymous(),
        auth.sign_up_oauth("github", email="grace@example.com"),
        *auth.import_users(1000),
    ]
    assert {user for (user,) in sql("select id from public.needs")} == set(users)
    assert project.client.status().in_step


def test_a_statement_between_two_turns_of_another_statement(project, sql, trigger):
    """A trigger of the application inserts users while the rows of an import have their turns."""
    trigger(
        "z_invite",
        "if new.email like 'user-%5@import.example.com' then"
        " insert into auth.users (id, email)"
        " select gen_random_uuid(), n || '-' || new.email from generate_series(1, 3) as n; end if",
    )
    project.auth.import_users(60)
    project.auth.import_users(1, domain="example.org")
    assert sql("select count(*) from auth.users") == [(79,)]
    assert project.client.status().in_step


@pytest.mark.parametrize("fails", ["in a trigger", "after the statement"])
def test_a_block_that_is_rolled_back_hides_no_later_statement(project, sql, trigger, fails):
    """What one statement has noted for its later rows goes with it."""
    if fails == "in a trigger":
        trigger("z_refuse", "if new.email = 'u5@example.com' then raise 'refused'; end if")
    insert = (
        "insert into auth.users (id, email)"
        " select gen_random_uuid(), 'u' || n || '@example.com' from generate_series({}, {}) as n"
    )
    sql(f"""do $$ begin
        begin
            {insert.format(1, 10)};
            raise 'given up';
        exception when raise_exception then null;
        end;
        {insert.format(20, 29)};
    end $$""")
    assert sql("select count(*) from {users}") == [(10,)]
    assert project.client.status().in_step


def test_two_inserts_in_one_statement(project, sql):
    sql("""
        with first as (
            insert into auth.users (id, email) values (gen_random_uuid(), 'ada@example.com')
        )
        insert into auth.users (id, email)
        select gen_random_uuid(), n || '@example.com' from generate_series(1, 5) as n
    """)
    assert sql("select count(*) from {users}") == [(6,)]
    assert project.client.status().in_step


def test_an_earlier_trigger_that_inserts_each_row_itself(project, sql, trigger):
    """It would find a row that was made at the turn of another user."""
    trigger("a_maker", "insert into {users} ({key}, {email}) values (new.id, new.email)")
    project.auth.import_users(10)
    assert sql("select count(*) from {users}") == [(10,)]
    assert project.client.status().in_step


def test_a_later_trigger_finds_the_row_gone(project, sql, trigger):
    """As where a hand-written trigger deletes the row and another one then counts what is left."""
    sql("create table public.left_over (n bigint)")
    project.auth.import_users(50)
    trigger(
        "z_count",
        "insert into public.left_over"
        " select count(*) from {users} where {key} = old.id and {email} is not null",
        "after delete",
    )
    sql("delete from auth.users")
    assert sql("select sum(n), count(*) from public.left_over") == [(0, 50)]
    assert project.client.status().in_step


def test_an_earlier_trigger_finds_each_row_until_its_own_turn(project, sql, trigger):
    sql("create table public.farewell (email text)")
    project.auth.import_users(20)
    trigger(
        "a_farewell",
        "insert into public.farewell select {email} from {users} where {key} = old.id",
        "after delete",
    )
    sql("delete from auth.users")
    assert sql("select count(email) from public.farewell") == [(20,)]
    assert project.client.status().in_step
