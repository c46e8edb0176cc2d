"""P7, by trying: each role connects and does what it can, under both regimes of default privileges."""

from __future__ import annotations

import json
from contextlib import ExitStack
from functools import cache

import psycopg
import pytest

from audit_settings import with_audit_log
from fixtures_project import clone_installed
from usersync.testing import GoTrue

pytestmark = pytest.mark.parametrize("regime", ["old", "new"])
ROLES = ("anon", "authenticated", "service_role", "authenticator", "supabase_auth_admin")
CLIENT_FUNCTIONS = {
    "ensure_user_exists",
    "record_audit_events",
    "sync_existing_auth_users",
    "user_sync_status",
    "usersync",
}


@pytest.fixture
def installed(cluster, regime):
    database = clone_installed(cluster, with_audit_log(), regime=regime)
    yield database
    cluster.drop(database)


@pytest.fixture
def auth(installed):
    with GoTrue(installed.dsn("supabase_auth_admin")) as auth:
        yield auth


@pytest.fixture
def attempt(installed):
    """Run a statement as a role, in the session of the role with these claims, and return the rows or the
    SQLSTATE.
    """
    with ExitStack() as stack:

        @cache
        def session(role, claims):
            connection = stack.enter_context(installed.connect(role))
            if claims:
                connection.execute("select set_config('request.jwt.claims', %s, false)", [claims])
            return connection

        def run(role, statement, *params, claims=None):
            try:
                cursor = session(role, claims and json.dumps(claims)).execute(statement, params or None)
                return cursor.fetchall() if cursor.description else []
            except psycopg.Error as error:
                return error.sqlstate

        yield run


def functions_of_ours(attempt):
    return attempt(
        "postgres",
        "select nspname, proname, format('select %I.%I(%s)', nspname, proname, ("
        "   select string_agg('null::' || format_type(type, null), ', ') from unnest(proargtypes) as type))"
        " from pg_proc join pg_namespace on pg_namespace.oid = pronamespace"
        " where nspname = 'usersync' or obj_description(pg_proc.oid, 'pg_proc') like 'usersync: %'",
    )


def test_each_function_refuses_roles_without_execute(attempt, regime):
    found = functions_of_ours(attempt)
    assert len(found) > 15
    assert {name for schema, name, _ in found if schema == "public"} == CLIENT_FUNCTIONS
    for schema, name, call in found:
        for role in ROLES:
            result = attempt(role, call)
            if (role, schema) == ("service_role", "public"):
                assert result != "42501", name
            else:
                assert result == "42501", (role, name)


def test_each_table_of_usersync_refuses_the_api_roles(attempt, auth, regime):
    tables = [name for (name,) in attempt(
        "postgres", "select relname from pg_class where relkind in ('r', 'p', 'v', 'S')"
        " and relnamespace = 'usersync'::regnamespace"
    )]  # fmt: skip
    assert {"sync_failures", "sync_runs", "settings", "schema_version", "functions"} <= set(tables)
    for table in tables:
        for statement in ("select from {}", "delete from {}", "truncate {}", "insert into {} default values",
                          "create table public.copy (like {})"):  # fmt: skip
            for role in ROLES:
                assert attempt(role, statement.format(f"usersync.{table}")) == "42501", (role, statement)


def test_signed_in_users_read_only_their_own_row(attempt, auth, regime):
    ada, bob = auth.sign_up_email("ada@example.com"), auth.sign_up_email("bob@example.com")
    everybody = "select id from public.users"
    assert attempt("authenticated", everybody, claims={"sub": str(ada)}) == [(ada,)]
    assert attempt("authenticated", everybody, claims={"sub": str(bob), "is_anonymous": False}) == [(bob,)]
    assert attempt("authenticated", everybody, claims={"sub": str(bob), "is_anonymous": True}) == []
    assert attempt("authenticated", everybody) == []
    assert attempt("anon", everybody, claims={"sub": str(ada)}) == "42501"
    assert len(attempt("service_role", everybody)) == 2
    for statement in (
        "insert into public.users (id) values (gen_random_uuid())",
        "update public.users set email = 'mine@example.com'",
        "delete from public.users",
        "truncate public.users",
        "create trigger t before insert on public.users for each row execute function auth.uid()",
    ):
        for role in ("anon", "authenticated", "authenticator", "supabase_auth_admin"):
            assert attempt(role, statement, claims={"sub": str(ada)}) == "42501", (role, statement)


# What somebody may leave about, hoping that code of ours that runs as postgres takes it for the real thing:
# types and tables in the session's own temporary schema, and functions and operators, which PostgreSQL never
# looks for there, in a schema that the auth server's role may create.
TRAP_SCHEMA = """
    create schema trap;
    grant usage on schema trap to public;
    create function trap.sprung() returns integer language plpgsql as
      $$ begin raise exception 'sprung as %', current_user; end $$;
    create function trap.cardinality(uuid[]) returns integer language sql as 'select trap.sprung()';
    create function trap."left"(text, integer) returns text language sql as 'select trap.sprung()::text';
    create function trap.now() returns timestamptz language sql as 'select trap.sprung()::text::timestamptz';
    create function trap.same(uuid, uuid) returns boolean language sql as 'select trap.sprung() = 1';
    create operator trap.= (leftarg = uuid, rightarg = uuid, function = trap.same);
"""
TRAPS = """
    create domain pg_temp.uuid as pg_catalog.int4;
    create domain pg_temp.text as pg_catalog.int4;
    create domain pg_temp.jsonb as pg_catalog.int4;
    create domain pg_temp.record as pg_catalog.int4;
    create temp table pg_trigger (tgrelid pg_catalog.oid, tginitdeferred pg_catalog.bool);
    create temp table pg_constraint (conrelid pg_catalog.oid);
    create temp table pg_attribute (attrelid pg_catalog.oid);
    create temp table sync_failures (user_id pg_catalog.uuid);
    create temp table users (id pg_catalog.uuid);
    set search_path = trap, pg_temp, public, auth, pg_catalog
"""


@pytest.fixture
def trapped(installed, auth):
    """A session as some role, with every trap set, and a table that has a use for every function of ours."""
    with installed.connect("postgres") as owner:
        owner.execute("""
            alter table public.users add constraint rule check (email not like 'bad%');
            create table public.n (name text primary key);
            alter table public.users add foreign key (avatar_url) references public.n
              deferrable initially deferred;
        """)
    auth.connection.execute(TRAP_SCHEMA)

    def session(role):
        connection = installed.connect(role)
        connection.execute(TRAPS)
        return connection

    return session


def test_a_hostile_auth_session_changes_nothing_about_what_our_functions_do(trapped, attempt, regime):
    insert = "insert into auth.users (id, email) values (pg_catalog.gen_random_uuid(), %s)"
    with trapped("supabase_auth_admin") as connection:
        for address in ("ada@example.com", "bad@example.com"):
            connection.execute(insert, [address])
        connection.execute("update auth.users set email = 'x' || email")
        connection.execute("delete from auth.users where email = 'xbad@example.com'")
    rows = attempt("postgres", "select email, deleted_at is not null from public.users order by 1")
    assert rows == [("xada@example.com", False), (None, True)]
    assert attempt("postgres", "select from usersync.sync_failures") == []


def test_a_hostile_service_session_changes_nothing_either(trapped, auth, attempt, regime):
    user = auth.sign_up_email("bad@example.com")
    attempt("postgres", "delete from public.users")
    with trapped("service_role") as connection:
        call = "public.ensure_user_exists(%s), public.sync_existing_auth_users(), public.user_sync_status()"
        ensured, synced, status = connection.execute(f"select {call}", [user]).fetchone()
    assert (ensured, synced["errors"], status["degraded"]) == (True, 1, 1)
    (failure,) = attempt("postgres", "select sqlstate, constraint_name from usersync.sync_failures")
    assert failure == ("23514", "rule")


@pytest.mark.usefixtures("regime")
@pytest.mark.parametrize(
    ("body", "symptom"),
    [
        ("begin perform cardinality(ids); end", "sprung as postgres"),
        ("begin perform from public.users where id = any(ids) or id = ids[1]; end", "sprung as postgres"),
        ("declare word text := 'ada'; begin end", "invalid input syntax for type integer"),
    ],
)
def test_a_function_with_the_search_path_of_the_session_runs_hostile_code(
    trapped, auth, attempt, body, symptom
):
    """What the two tests above are about is real."""
    auth.sign_up_email()
    attempt(
        "postgres",
        "create function public.careless(ids uuid[]) returns void language plpgsql security definer as"
        f" $$ {body} $$; grant execute on function public.careless to public",
    )
    with trapped("service_role") as connection, pytest.raises(psycopg.Error, match=symptom):
        connection.execute("select public.careless(array[pg_catalog.gen_random_uuid()])")


def test_the_auth_server_cannot_use_the_trigger_functions_for_its_own_table(attempt, regime):
    statement = (
        "create table auth.bait (id uuid);"
        "create trigger t after insert on auth.bait for each row execute function usersync.handle_new_user()"
    )
    assert attempt("supabase_auth_admin", statement) == "42501"
