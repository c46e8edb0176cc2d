"""A sign-up writes its row with one INSERT. If that is not enough, ``sync_users`` writes the row."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from usersync.config.mapping import quote
from waiting import until, wait_for_locks

pytestmark = pytest.mark.newest_server

#: What an application's trigger on auth.users does in the statement that creates the user.
TRIGGER_ACTIONS = {
    "changes the user": "update auth.users set email = 'changed-' || email where id = new.id",
    "soft-deletes the user": "update auth.users set deleted_at = now() where id = new.id",
    "deletes the user": "delete from auth.users where id = new.id",
    "inserts the row": "insert into {users} ({key}, {email}) values (new.id, 'made by the application')",
    "inserts the rows of some users": (
        "insert into {users} ({key}, {email}) select new.id, 'x' where right(new.email, 13) < '5@example.com'"
    ),
    "inserts and deletes the row": (
        "insert into {users} ({key}) values (new.id); delete from {users} where {key} = new.id"
    ),
}


@pytest.mark.parametrize("trigger_action", TRIGGER_ACTIONS.values(), ids=TRIGGER_ACTIONS)
def test_rows_stay_in_sync_if_a_trigger_changes_users_in_the_same_statement(
    project, sql, sync_failures, trigger_action
):
    sql(
        "create function public.meddle() returns trigger language plpgsql security definer as $$ begin "
        + trigger_action
        + "; return null; end $$"
    )
    sql("create trigger a_meddler after insert on auth.users for each row execute function public.meddle()")
    user = project.auth.import_users(10)[3]
    assert project.client.status().in_step
    assert sync_failures() == {}
    there = sql("select email::text from auth.users where id = %s and deleted_at is null", user)
    row = project.row(user)
    assert [(row["email"],)] == there if there else row is None


def test_a_user_deleted_and_created_again_in_one_transaction_is_synced(project, sql):
    """The new user has the same id."""
    user = project.auth.sign_up_email("ada@example.com")
    with project.auth.request():
        project.auth.connection.execute("delete from auth.users where id = %s", [user])
        project.auth.connection.execute(
            "insert into auth.users (id, email) values (%s, 'lovelace@example.com')", [user]
        )
    assert project.row(user)["email"] == "lovelace@example.com"
    assert project.client.status().in_step


@pytest.mark.parametrize("level", ["statement", "row"])
def test_an_insert_trigger_of_the_application_fires_once_for_each_row(project, sql, level):
    """If there is such a trigger, ``sync_users`` writes the row, so that nothing fires twice."""
    sql("create table public.seen (n integer)")
    sql(
        "create function public.see() returns trigger language plpgsql as"
        " $$ begin insert into public.seen values (1); return null; end $$"
    )
    sql(f"create trigger see after insert on {{users}} for each {level} execute function public.see()")
    project.auth.import_users(3)
    assert sql("select count(*) from public.seen") == [(3 if level == "row" else 1,)]


#: What a migration of the application does after the auth server's session has planned the INSERT.
LATER_TRIGGERS = {
    "created": (
        "select 1",
        "create trigger shout before insert on {users} for each row execute function public.shout()",
    ),
    "enabled": (
        (
            "create trigger shout before insert on {users} for each row execute function public.shout();"
            " alter table {users} disable trigger shout"
        ),
        "alter table {users} enable trigger shout",
    ),
}


@pytest.mark.parametrize(("before", "later"), LATER_TRIGGERS.values(), ids=LATER_TRIGGERS)
def test_a_trigger_created_after_the_insert_was_planned_is_noticed(project, sql, before, later):
    """usersync looks for triggers when the INSERT is planned, and again after the table was altered."""
    sql(
        "create function public.shout() returns trigger language plpgsql as"
        " $$ begin new.{email} := 'LOUD'; return new; end $$"
    )
    sql(before)
    project.auth.import_users(1)
    sql(later)
    [user] = project.auth.import_users(1, domain="later.example.com")
    assert project.row(user)["email"] == "LOUD"
    assert project.failure(user).sqlstate == "US001"


LATER_DEFAULTS = {
    "set": "alter table {users} alter {email} set default 'none given'",
    "set in a table that replaces the old one": (
        "alter table {users} rename to former; create table {users} (like {former} including all);"
        " alter table {users} alter {email} set default 'none given'"
    ),
}


@pytest.mark.parametrize("later", LATER_DEFAULTS.values(), ids=LATER_DEFAULTS)
def test_a_default_set_after_the_insert_was_planned_is_noticed(project, sql, later):
    first = project.auth.sign_up_phone("491701234567")
    assert project.row(first)["email"] is None
    schema = quote(project.settings.users_table.schema)
    sql(later.replace("{former}", f"{schema}.former"))
    assert project.row(project.auth.sign_up_phone("491701234568"))["email"] == "none given"
    sql("alter table {users} alter {email} drop default")
    assert project.row(project.auth.sign_up_phone("491701234569"))["email"] is None


DEFERRED = "alter table {users} add unique ({full_name}) deferrable initially deferred"


def check_that_a_duplicate_name_fails(project, sync_failures):
    """Sign up two users of one name. Without a check of usersync, the second sign-up would fail at COMMIT."""
    ann, other = (project.auth.sign_up_email(data={"full_name": "Ann"}) for _ in range(2))
    assert project.row(ann)
    assert sync_failures()[other].sqlstate == "23505"


def test_a_plan_made_with_an_older_snapshot_is_not_kept(project, sql, sync_failures):
    """The session plans in a transaction that does not see the ALTER TABLE, and gets no message of it."""
    session = project.auth.connection
    project.auth.sign_up_email()
    with session.transaction():
        session.execute("set transaction isolation level repeatable read")
        session.execute("select from auth.users")
        sql(DEFERRED)
        project.auth.import_users(1)
    check_that_a_duplicate_name_fails(project, sync_failures)


def test_an_older_snapshot_does_not_hide_a_pause(project, sync_failures):
    session = project.auth.connection
    project.auth.sign_up_email()
    with session.transaction():
        session.execute("set transaction isolation level repeatable read")
        session.execute("select from auth.users")
        project.client.pause()
        project.auth.import_users(1)
    user = project.auth.sign_up_email()
    assert project.row(user) is None
    assert sync_failures()[user].sqlstate == "US004"


#: Sessions of this database that wait for a lock. Other tests use the same server.
WAITING = """
    select count(*) from pg_locks join pg_database on pg_database.oid = database
    where not granted and datname = current_database()
"""


@pytest.fixture
def waits_for(project, sql):
    """Make a sign-up wait for a locked table while another session commits a change."""

    def wait(locked, change):
        wait_for_locks(project.owner)
        with project.connect() as other, ThreadPoolExecutor(1) as pool:
            with other.transaction():
                sql(f"lock table {locked}", connection=other)
                sign_up = pool.submit(project.auth.import_users, 1)
                until(lambda: sql(WAITING) != [(0,)])
                sql(change, connection=other)
            sign_up.result()

    return wait


def test_an_alter_table_while_the_sign_up_waits_before_its_insert_is_noticed(
    project, sql, sync_failures, waits_for
):
    """The statement's snapshot is older than the ALTER TABLE, but the session is notified before it plans."""
    sql("create table public.gate ()")
    sql(
        "create function public.wait() returns trigger language plpgsql security definer as"
        " $$ begin lock table public.gate in row share mode; return new; end $$"
    )
    sql("create trigger a_wait before insert on auth.users for each row execute function public.wait()")
    project.auth.import_users(1, domain="first.example.com")
    waits_for("public.gate", DEFERRED)
    check_that_a_duplicate_name_fails(project, sync_failures)


def test_a_trigger_created_while_the_insert_waits_is_noticed(project, sql, waits_for):
    sql(
        "create function public.shout() returns trigger language plpgsql as"
        " $$ begin new.{email} := 'LOUD'; return new; end $$"
    )
    project.auth.import_users(1, domain="first.example.com")
    waits_for(
        "{users}",
        "create trigger shout before insert on {users} for each row execute function public.shout()",
    )
    [failure] = project.client.failures()
    assert failure.sqlstate == "US001"


RULES = {
    "writes to another table": ("do instead insert into public.elsewhere values (new.{key})", "US002"),
    "deletes the row": ("do also delete from {users} where {key} = new.{key}", "US002"),
    "changes the row": ("do also update {users} set {email} = 'z' where {key} = new.{key}", "US001"),
    "also writes to another table": ("do also insert into public.elsewhere values (new.{key})", None),
}


@pytest.mark.parametrize(("action", "sqlstate"), RULES.values(), ids=RULES)
def test_a_rule_that_changes_or_removes_the_row_is_a_sync_failure(
    project, sql, sync_failures, action, sqlstate
):
    project.auth.import_users(1)
    sql("create table public.elsewhere (id {key_type})")
    sql(f"create rule a_rule as on insert to {{users}} {action}")
    [user] = project.auth.import_users(1, domain="later.example.com")
    assert [failure.sqlstate for failure in sync_failures().values()] == ([sqlstate] if sqlstate else [])
    assert sql("select count(*) from public.elsewhere") == [("elsewhere" in action,)]
    assert bool(project.row(user)) == (sqlstate != "US002")


def test_a_default_that_violates_a_deferred_constraint_does_not_fail_the_sign_up(project, sql, sync_failures):
    project.auth.sign_up_email()
    sql(
        "create table public.owners (id integer primary key);"
        " create table public.wallets (owner integer references public.owners deferrable initially deferred)"
    )
    sql(
        "create function public.open_wallet() returns integer language sql security definer as"
        " $$ insert into public.wallets values (7) returning owner $$"
    )
    sql("alter table {users} add wallet integer")
    sql("alter table {users} alter wallet set default public.open_wallet()")
    user = project.auth.sign_up_email()
    assert sync_failures()[user].sqlstate == "23503"
    assert project.row(user) is None
