"""All rows of a statement are synced when the trigger fires for its first row. Later triggers find them."""

from __future__ import annotations

import pytest

pytestmark = pytest.mark.newest_server

#: Triggers of the application that need the user's row.
LATER_TRIGGERS = {
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
    """Create an application's trigger on ``auth.users``."""

    def make(name, body, when="after insert", level="row"):
        sql(
            f"create function public.{name}() returns trigger language plpgsql security definer as "
            f"$f$ begin {body}; return coalesce(new, old); end $f$;"
            f"create trigger {name} {when} on auth.users for each {level} execute function public.{name}()"
        )

    return make


@pytest.mark.parametrize(("table", "body"), LATER_TRIGGERS.values(), ids=LATER_TRIGGERS)
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


def test_users_that_a_trigger_inserts_during_an_import_are_synced(project, sql, trigger):
    """The trigger fires between the rows of the import."""
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
def test_users_inserted_after_a_rolled_back_block_are_synced(project, sql, trigger, fails):
    """What usersync noted about the rolled-back statement must not affect the next statement."""
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


def test_two_inserts_in_one_statement_are_both_synced(project, sql):
    sql("""
        with first as (
            insert into auth.users (id, email) values (gen_random_uuid(), 'ada@example.com')
        )
        insert into auth.users (id, email)
        select gen_random_uuid(), n || '@example.com' from generate_series(1, 5) as n
    """)
    assert sql("select count(*) from {users}") == [(6,)]
    assert project.client.status().in_step


def test_an_earlier_trigger_may_insert_each_row_itself(project, sql, trigger):
    """Its INSERT must not meet a row that usersync wrote when the trigger fired for another user."""
    trigger("a_maker", "insert into {users} ({key}, {email}) values (new.id, new.email)")
    project.auth.import_users(10)
    assert sql("select count(*) from {users}") == [(10,)]
    assert project.client.status().in_step


def test_a_later_delete_trigger_finds_the_row_anonymized(project, sql, trigger):
    """With a hand-written trigger, a later trigger would find the row deleted."""
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


def test_an_earlier_delete_trigger_finds_each_row_unchanged(project, sql, trigger):
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
