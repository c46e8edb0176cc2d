"""Privileges on auth.users, equal to those measured on Supabase's own images."""

from __future__ import annotations

import pytest
from psycopg import errors

FUNCTION = """
    create function public.hook() returns trigger language plpgsql security definer set search_path = ''
    as $$ begin return null; end $$
"""
TRIGGER = "create or replace trigger hook after insert on auth.users execute function public.hook()"


@pytest.fixture
def with_trigger(postgres):
    postgres.execute(FUNCTION)
    postgres.execute(TRIGGER)
    return postgres


def test_postgres_bypasses_row_security_and_is_not_a_superuser(postgres):
    attributes = "select rolsuper, rolbypassrls, rolcreaterole, rolcreatedb, rolreplication from pg_roles"
    row = postgres.execute(f"{attributes} where rolname = current_user").fetchone()
    assert row == (False, True, True, True, True)


def test_the_privileges_on_auth_users_equal_the_platforms(postgres):
    acl = "select relacl::text, relowner::regrole::text from pg_class where oid = 'auth.users'::regclass"
    granted, owner = postgres.execute(acl).fetchone()
    assert owner == "supabase_auth_admin"
    # PostgreSQL 17 added MAINTAIN, the m at the end.
    assert granted.replace("Dxtm", "Dxt") == (
        "{supabase_auth_admin=arwdDxt/supabase_auth_admin,"
        "postgres=ar*wdDxt/supabase_auth_admin,dashboard_user=arwdDxt/supabase_auth_admin}"
    )


def test_postgres_can_create_and_replace_a_trigger(with_trigger):
    with_trigger.execute(TRIGGER)


def test_postgres_can_reference_auth_users(postgres):
    postgres.execute(
        "create table public.profile (id uuid primary key references auth.users on delete cascade)"
    )


def test_dropping_a_function_with_cascade_drops_its_trigger(with_trigger):
    with_trigger.execute("drop function public.hook() cascade")
    triggers = "select count(*) from pg_trigger where tgrelid = 'auth.users'::regclass and not tgisinternal"
    assert with_trigger.execute(triggers).fetchone() == (0,)


@pytest.mark.parametrize(
    "forbidden",
    [
        "drop trigger hook on auth.users",
        "alter table auth.users disable trigger hook",
        "alter table auth.users enable always trigger hook",
        "alter trigger hook on auth.users rename to other",
        "comment on trigger hook on auth.users is 'mine'",
        "alter table auth.users add column mine text",
        "create index on auth.users (updated_at)",
        "create table auth.mine ()",
        "create publication mine for table auth.users",
        "set role supabase_auth_admin",
        "set session_replication_role = replica",
    ],
)
def test_postgres_is_not_allowed_to_change_auth_users_itself(with_trigger, forbidden):
    with pytest.raises(errors.InsufficientPrivilege):
        with_trigger.execute(forbidden)


@pytest.mark.parametrize("role", ["anon", "authenticated", "service_role"])
def test_the_api_roles_cannot_read_auth_users(database, role):
    with database.connect(role) as connection:
        assert connection.execute("select current_user, session_user").fetchone() == (role, "authenticator")
        with pytest.raises(errors.InsufficientPrivilege):
            connection.execute("select from auth.users")


def test_a_trigger_function_without_security_definer_has_no_privileges(postgres, auth):
    """The most common error of users: supabase_auth_admin runs the trigger, and permission is denied."""
    postgres.execute("create table public.users (id uuid)")
    postgres.execute("""
        create function public.hook() returns trigger language plpgsql as $$
        begin insert into public.users values (new.id); return null; end $$
    """)
    postgres.execute(
        "create trigger hook after insert on auth.users for each row execute function public.hook()"
    )
    with pytest.raises(Exception, match="Database error saving new user") as refused:
        auth.sign_up_email()
    assert refused.value.sqlstate == "42501"


@pytest.mark.parametrize(
    ("role", "setting", "value"),
    [
        ("postgres", "statement_timeout", "2min"),
        ("postgres", "search_path", '"$user", public, extensions'),
        ("supabase_auth_admin", "statement_timeout", "2min"),
        ("supabase_auth_admin", "search_path", "auth"),
        ("supabase_auth_admin", "idle_in_transaction_session_timeout", "1min"),
        ("anon", "statement_timeout", "3s"),
        ("authenticated", "statement_timeout", "8s"),
        ("service_role", "statement_timeout", "8s"),
        ("service_role", "lock_timeout", "8s"),
    ],
)
def test_each_role_has_its_session_settings(database, role, setting, value):
    with database.connect(role) as connection:
        assert connection.execute("select current_setting(%s)", [setting]).fetchone() == (value,)


def test_auth_uid_reads_both_forms_of_the_claims(database):
    claims = (
        "select set_config('request.jwt.claims', %s, true), set_config('request.jwt.claim.sub', %s, true)"
    )
    one, two = "a" * 8 + "-0000-4000-8000-" + "0" * 12, "b" * 8 + "-0000-4000-8000-" + "0" * 12
    with database.connect("authenticated") as connection, connection.transaction():
        assert connection.execute("select auth.uid(), auth.role(), auth.jwt()").fetchone() == (
            None,
            None,
            None,
        )
        connection.execute(claims, [f'{{"sub": "{one}", "role": "authenticated"}}', ""])
        uid, role = connection.execute("select auth.uid()::text, auth.role()").fetchone()
        assert (uid, role) == (one, "authenticated")
        connection.execute(claims, ["", two])
        assert connection.execute("select auth.uid()::text").fetchone() == (two,)


def test_auth_users_has_its_columns_and_indexes(superuser):
    columns = """
        select count(*), count(*) filter (where attnotnull), count(*) filter (where attgenerated <> '')
        from pg_attribute where attrelid = 'auth.users'::regclass and attnum > 0
    """
    assert superuser.execute(columns).fetchone() == (35, 3, 1)
    indexes = """
        select count(*), count(*) filter (where indisunique), count(*) filter (where indpred is not null)
        from pg_index where indrelid = 'auth.users'::regclass
    """
    assert superuser.execute(indexes).fetchone() == (11, 8, 6)
    security = "select relrowsecurity, relforcerowsecurity from pg_class where oid = 'auth.users'::regclass"
    assert superuser.execute(security).fetchone() == (True, False)


@pytest.mark.parametrize(("table", "columns"), [("auth.sessions", 15), ("auth.mfa_factors", 13)])
def test_tables_have_the_columns_of_a_current_auth_server(superuser, table, columns):
    counted = "select count(*) from pg_attribute where attrelid = %s::regclass and attnum > 0"
    assert superuser.execute(counted, [table]).fetchone() == (columns,)
