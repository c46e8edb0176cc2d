"""P1: a sign-up never fails because of usersync, whatever the state of the application's schema.

The tests also check P2: the failures table names the cause, and a run after the repair syncs the user.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

import pytest

from usersync.testing import BREAKAGES, GoTrueError

pytestmark = pytest.mark.key_types

#: Detects a hang, and is not a performance target: no test waits longer than a few lock time-outs.
HANG_S = 60


def hook(body, when="before insert or update", level="row", setting=""):
    """SQL that creates an application's trigger on the users table."""
    return (
        f"create function public.hook() returns trigger language plpgsql {setting} as $$ begin {body} end $$;"
        f"create trigger hook {when} on {{users}} for each {level} execute function public.hook()"
    )


NO_HOOK = "drop function public.hook() cascade"
BY_TYPE = "alter table {users} alter column {full_name} type %s using null"
BACK_TO_TEXT = "alter table {users} alter column {full_name} type text using {full_name}::text"
NO_RULE = "alter table {users} drop constraint rule"


@dataclass(frozen=True)
class Way:
    """A way to break the users table, its repair, and the sync failure that it causes."""

    broken: str
    repaired: str
    sqlstate: str
    column: str | None = None
    constraint: str | None = None
    raised_in: str | None = None


WAYS = {
    "a check that names a column": Way(
        "alter table {users} add constraint rule check ({email} not like 'new%%') not valid",
        NO_RULE, "23514", "email", "rule",
    ),
    "a foreign key": Way(
        "create table public.names (name text primary key);"
        "alter table {users} add constraint rule foreign key ({full_name}) references names not valid",
        NO_RULE, "23503", "full_name", "rule",
    ),
    "a deferred foreign key": Way(
        "create table public.names (name text primary key); alter table {users} add constraint rule"
        " foreign key ({full_name}) references names deferrable initially deferred not valid",
        NO_RULE, "23503", "full_name", "rule",
    ),
    "a NOT NULL column without a default": Way(
        "alter table {users} add column n integer not null default 1;"
        "alter table {users} alter column n drop default",
        "alter table {users} drop column n", "23502", "n",
    ),
    "a column that became varchar(5)": Way(
        BY_TYPE % "varchar(5)", BACK_TO_TEXT, "22001", "full_name"
    ),
    "a column that became an integer": Way(BY_TYPE % "integer", BACK_TO_TEXT, "42804", "full_name"),
    "a column that became an enum": Way(
        "create type public.mood as enum ('glad', 'sad');" + BY_TYPE % "public.mood",
        BACK_TO_TEXT, "42804", "full_name",
    ),
    "a domain with a check": Way(
        "create domain public.short as text constraint short check (length(value) < 3);"
        + BY_TYPE % "public.short", BACK_TO_TEXT, "23514", "full_name", "short",
    ),
    "a generated column that fails": Way(
        "alter table {users} add column n integer generated always as"
        " (1 / (length({full_name}) - length('New User'))) stored",
        "alter table {users} drop column n", "22012",
    ),
    "revoked privileges": Way(
        # postgres is a member of service_role.
        "revoke all on {users} from postgres, service_role", "grant all on {users} to postgres", "42501"
    ),
    "a rule": Way(
        "create rule nothing as on insert to {users} do instead nothing",
        "drop rule nothing on {users}", "US002",
    ),
    "a trigger that raises": Way(
        hook("raise 'no % here', new.*::text;"), NO_HOOK, "P0001", raised_in="public.hook()"
    ),
    "a trigger that raises insufficient_privilege": Way(
        hook("raise insufficient_privilege;"), NO_HOOK, "42501", raised_in="public.hook()"
    ),
    "a statement trigger that raises": Way(
        hook("raise 'no';", "after insert or update", "statement"), NO_HOOK, "P0001",
        raised_in="public.hook()",
    ),
    "a trigger that asserts": Way(hook("assert false, 'no'; return new;"), NO_HOOK, "P0004"),
    "a trigger that requires a search_path": Way(
        # Like supa_audit's trigger, which finds uuid_generate_v4() only with "extensions" in the path.
        "create function extensions.made_up() returns uuid language sql as 'select gen_random_uuid()';"
        + hook("perform made_up(); return new;"),
        NO_HOOK, "42883", raised_in="public.hook()",
    ),
    "a deferred constraint trigger": Way(
        "create function public.hook() returns trigger language plpgsql as $$ begin raise 'no'; end $$;"
        "create constraint trigger hook after insert or update on {users} deferrable initially deferred"
        " for each row execute function public.hook()",
        NO_HOOK, "P0001", raised_in="public.hook()",
    ),
    "a trigger that skips the row": Way(hook("return null;"), NO_HOOK, "US002"),
    "a trigger that deletes the row": Way(
        hook("delete from {users} where {key} = new.{key}; return null;", "after insert or update"),
        NO_HOOK, "US002",
    ),
    "a trigger that changes the row": Way(
        hook("new.{email} := 'x'; return new;"), NO_HOOK, "US001", "email"
    ),
}  # fmt: skip


def sign_up_change_and_delete(auth, changing, leaving):
    """INSERT, UPDATE and DELETE on auth.users, as GoTrue executes them; return the new user."""
    began = time.monotonic()
    new = auth.sign_up_email("new@example.com", data={"full_name": "New User"})
    auth.change_email(changing, "newer@example.com")
    auth.hard_delete(leaving)
    assert time.monotonic() - began < HANG_S
    return new


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
def test_a_broken_users_table_fails_no_request_and_a_run_after_the_repair_syncs(
    project, sql, sync_failures, healed, way
):
    changing, leaving = (project.auth.sign_up_email(f"{n}@example.com") for n in ("changing", "leaving"))
    sql(way.broken)
    new = sign_up_change_and_delete(project.auth, changing, leaving)
    failure = sync_failures()[new]
    column = project.columns.get(way.column, way.column)
    assert (failure.sqlstate, failure.column, failure.constraint) == (way.sqlstate, column, way.constraint)
    if way.raised_in:
        assert failure.raised_in.startswith(way.raised_in)
    assert failure.message
    if failure.sqlstate in {"US001", "US002"}:
        assert ("rule nothing" if "create rule" in way.broken else "trigger hook") in failure.message
    sql(way.repaired)
    healed()
    assert project.row(new)["full_name"] == "New User"
    assert project.row(changing)["email"] == "newer@example.com"
    assert (project.row(leaving) or {"email": None})["email"] is None


@pytest.mark.parametrize("how", sorted(set(BREAKAGES) - {"unique_email", "deferred_unique_email"}))
def test_no_breakage_of_usersync_testing_fails_a_request(project, broken, sync_failures, healed, how):
    changing, leaving = (project.auth.sign_up_email(f"{n}@example.com") for n in ("changing", "leaving"))
    with broken(how):
        new = sign_up_change_and_delete(project.auth, changing, leaving)
        assert sync_failures()[new].sqlstate in {BREAKAGES[how].sqlstate or "US002", "42804"}
    healed()
    assert project.row(new)["email"] == "new@example.com"


@pytest.mark.parametrize("how", ["unique_email", "deferred_unique_email"])
def test_a_duplicate_email_degrades_the_second_users_row(project, broken, sync_failures, healed, how):
    first = project.auth.sign_up_email("shared@example.com")
    with broken(how):
        second = project.auth.sign_up_sso("shared@example.com")
        failure = sync_failures()[second]
        assert (failure.outcome, failure.sqlstate) == ("degraded", "23505")
        assert (failure.constraint, failure.column) == ("usersync_breakage", project.columns["email"])
        # The second user has a row for foreign keys, and the first user's row is unchanged.
        assert project.row(second)["email"] is None
        assert project.row(first)["email"] == "shared@example.com"
        project.auth.change_email(first, "mine@example.com")
        project.client.retry()
        assert project.row(second)["email"] == "shared@example.com"
    healed()


def test_a_unique_and_not_null_email_leaves_users_without_a_row(project, sql, sync_failures, healed):
    sql("alter table {users} alter column {email} set not null, add constraint rule unique ({email})")
    project.auth.sign_up_email("shared@example.com")
    second, third = project.auth.sign_up_sso("shared@example.com"), project.auth.sign_up_phone()
    assert (sync_failures()[second].outcome, sync_failures()[second].sqlstate) == ("failed", "23505")
    assert (sync_failures()[third].outcome, sync_failures()[third].sqlstate) == ("failed", "23502")
    assert sync_failures()[third].column == project.columns["email"]
    sql("alter table {users} alter column {email} drop not null, drop constraint rule")
    healed()


def test_forced_row_security_and_a_generated_column_do_not_prevent_a_row(project, sql, healed):
    sql("alter table {users} add column shout text generated always as (upper({email})) stored")
    sql("alter table {users} enable row level security, force row level security")
    user = project.auth.sign_up_email("ada@example.com")
    assert project.row(user)["shout"] == "ADA@EXAMPLE.COM"
    healed()


def test_two_constraints_of_one_name_of_which_one_is_deferrable(project, sql, healed):
    """SET CONSTRAINTS takes a name, and names of foreign keys are unique only within their table."""
    sql("create table public.names (name text primary key)")
    sql("alter table {users} add constraint rule foreign key ({full_name}) references public.names"
        " deferrable initially deferred")  # fmt: skip
    schema = project.settings.users_table.quoted.rpartition('."')[0]
    sql(f"create table {schema}.namesake (name text constraint rule references public.names)")
    user = project.auth.sign_up_email("ada@example.com")
    assert project.row(user)["email"] == "ada@example.com"
    healed()


@pytest.mark.settings(on_delete="delete")
def test_a_deferred_foreign_key_to_a_deleted_users_row_is_a_sync_failure(project, sql, sync_failures, healed):
    sql("create table public.orders (id integer, user_id {key_type} not null"
        " constraint needs references {users} deferrable initially deferred)")  # fmt: skip
    user = project.auth.sign_up_email("ada@example.com")
    sql("insert into public.orders values (1, %s)", user)
    project.auth.hard_delete(user)
    failure = sync_failures()[user]
    assert (failure.sqlstate, failure.constraint, failure.outcome) == ("23503", "needs", "failed")
    assert project.row(user)
    sql("delete from public.orders")
    healed()
    assert project.row(user) is None


def held(project, statement, *params):
    """An application's session that has run a statement and has not committed."""
    connection = project.database.connect("postgres", autocommit=False)
    connection.execute(statement, params)
    return connection


@pytest.mark.slow
def test_rows_locked_by_another_session_are_sync_failures(project, sql, sync_failures, healed):
    changing, leaving, free = (project.auth.sign_up_email(f"{n}@example.com") for n in "abc")
    holder = held(project, f"update {project.users} set {project.column('phone')} = null")
    with holder:
        new = sign_up_change_and_delete(project.auth, changing, leaving)
        assert project.row(new)["email"] == "new@example.com"
        assert {user: each.sqlstate for user, each in sync_failures().items()} == dict.fromkeys(
            (changing, leaving), "55P03"
        )
    healed()
    assert project.row(changing)["email"] == "newer@example.com"
    assert project.row(free)["email"] == "c@example.com"


def test_a_key_share_lock_on_the_row_does_not_block_a_change(project, sql, sync_failures):
    """Recording an event locks the user's row FOR KEY SHARE until the transaction commits."""
    sql("create table public.orders (id integer, user_id {key_type} references {users})")
    user = project.auth.sign_up_email("ada@example.com")
    with held(project, "insert into public.orders values (1, %s)", user):
        project.auth.change_email(user, "new@example.com")
        assert project.row(user)["email"] == "new@example.com"
        project.auth.soft_delete(user)
        assert project.row(user)["email"] is None
    assert sync_failures() == {}


def test_a_long_sync_transaction_does_not_block_sign_ins(project, sql):
    """``public.sync_existing_auth_users`` syncs all users in one transaction."""
    user = project.auth.sign_up_email("ada@example.com")
    sql("delete from {users}")
    with held(project, "select public.sync_existing_auth_users()"):
        project.auth.connection.execute("set lock_timeout = '60s'")  # detects a hang
        project.auth.sign_in(user)
        project.auth.request_email_change(user, "new@example.com")
        while project.auth.user(user)["email_change"]:
            project.auth.confirm_email_change(user)
        project.auth.sign_up_email()
    project.client.reconcile()
    assert project.row(user)["email"] == "new@example.com"
    assert project.client.status().in_step


def test_a_statement_timeout_below_the_lock_timeout_cancels_the_sign_up(project, broken):
    """With a longer statement_timeout the sign-up succeeds, and the lock time-out is a sync failure."""
    with broken("locked"):
        project.auth.connection.execute("set statement_timeout = '50ms'")
        with pytest.raises(GoTrueError) as refused:
            project.auth.sign_up_email("ada@example.com")
        assert refused.value.sqlstate == "57014"
        project.auth.connection.execute("set statement_timeout = '60s'")
        user = project.auth.sign_up_email("ada@example.com")
    assert project.failure(user).sqlstate == "55P03"


def test_a_failure_is_in_the_server_log_if_the_failures_table_is_missing(project, sql, log, broken):
    """The log names the user and both errors, and other users are synced."""
    changing = project.auth.sign_up_email("changing@example.com")
    sql("alter table usersync.sync_failures rename to gone")
    with broken("not_null"):
        user = project.auth.sign_up_email("ada@example.com")
        project.auth.change_email(changing, "changed@example.com")
    assert project.row(changing)["email"] == "changed@example.com"
    messages = [line for line in log().splitlines() if "usersync" in line or str(user) in line]
    assert any(str(user) in line and "23502" in line and "42P01" in line for line in messages)
    sql("alter table usersync.gone rename to sync_failures")
    project.client.reconcile()
    assert project.row(user)["email"] == "ada@example.com"


@pytest.mark.slow
def test_a_failure_is_in_the_server_log_if_the_failures_table_is_locked(project, sql, log, broken, healed):
    changing = project.auth.sign_up_email("changing@example.com")
    with broken("not_null"), held(project, "lock table usersync.sync_failures"):
        user = project.auth.sign_up_email("ada@example.com")
        project.auth.change_email(changing, "changed@example.com")
    assert project.row(changing)["email"] == "changed@example.com"
    assert any(str(user) in line and "55P03" in line for line in log().splitlines())
    healed()
    assert project.row(user)["email"] == "ada@example.com"


@pytest.mark.parametrize("function", ["sync_users", "remove_users", "degrade_users"])
def test_a_dropped_function_of_usersync_fails_no_request(project, sql, sync_failures, log, function):
    changing, leaving = (project.auth.sign_up_email(f"{n}@example.com") for n in ("changing", "leaving"))
    (signature,) = sql("select oid::regprocedure::text from pg_proc where proname = %s", function)[0]
    sql(f"drop function {signature}")
    new = sign_up_change_and_delete(project.auth, changing, leaving)
    if function == "sync_users":
        assert {sync_failures()[user].sqlstate for user in (new, changing, leaving)} == {"42883"}
        assert project.row(new)["id"] == new
    elif function == "degrade_users":
        assert project.row(new)["email"] == "new@example.com"


def test_the_server_log_names_the_users_if_all_internal_functions_are_dropped(project, sql, log):
    for (signature,) in sql(
        "select oid::regprocedure::text from pg_proc where pronamespace = 'usersync'::regnamespace"
        " and proname not like 'handle%%'"
    ):
        sql(f"drop function {signature} cascade")
    user = project.auth.sign_up_email("ada@example.com")
    project.auth.change_email(user, "new@example.com")
    project.auth.hard_delete(user)
    assert sum("was not synced" in line or "were not synced" in line for line in log().splitlines()) >= 3
    assert str(user) in log()


def test_the_failures_table_contains_no_detail_and_no_values_of_an_error(project, sql, sync_failures):
    sql(hook("raise 'not %, not \"%\"', new.{email}, new.{email} using detail = new.{email};"))
    user = project.auth.sign_up_email("ada@example.com")
    assert sync_failures()[user].message.startswith("not ")
    assert "ada" not in sync_failures()[user].message
