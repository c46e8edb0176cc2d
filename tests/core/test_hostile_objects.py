"""Objects that another role creates run no code with the privileges of usersync's owner."""

from __future__ import annotations

import psycopg
import pytest

from usersync.config.settings import parse_settings
from usersync.schema import installation
from usersync.transports.run import run


def test_service_role_cannot_create_a_trigger_on_the_users_table(installed, database):
    installed()
    with database.connect("service_role") as service:
        service.execute(
            "create function pg_temp.evil() returns trigger language plpgsql as 'begin return new; end'"
        )
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            service.execute(
                "create trigger z before insert on public.users for each row execute function pg_temp.evil()"
            )


def test_plan_names_the_roles_that_may_create_triggers_on_an_existing_table(postgres):
    postgres.execute("create table public.users (id uuid primary key, email text)")
    planned = run(installation.plan(parse_settings({"columns": {"email": "email"}})), postgres)
    (found,) = [each for each in planned.findings if "may create triggers" in each.message]
    postgres.execute(found.hint)
    again = run(installation.plan(parse_settings({"columns": {"email": "email"}})), postgres)
    assert not [each for each in again.findings if "may create triggers" in each.message]


def test_plan_runs_no_code_of_a_schema_usersync_of_another_role(database, postgres):
    with database.connect("supabase_auth_admin") as stranger:
        stranger.execute("""
            create schema usersync; grant usage on schema usersync to public;
            create function usersync.evil() returns jsonb language plpgsql as $$
            begin create table public.pwned (); return '{}'; end $$;
            create view usersync.settings as select true as only_row, usersync.evil() as settings;
            create view usersync.functions as select ''::text as signature, '' as checksum, '' as fingerprint;
            create view usersync.schema_version as select 1 as version, ''::text as checksum where false;
            grant select on all tables in schema usersync to public
        """)
    assert run(installation.plan(parse_settings({})), postgres).errors
    assert postgres.execute("select to_regclass('public.pwned')").fetchone() == (None,)


def test_plan_calls_no_function_that_another_role_put_on_the_search_path(installed, database, postgres):
    installed()
    with database.connect("supabase_auth_admin") as stranger:
        stranger.execute("""
            create schema postgres; grant usage on schema postgres to public;
            create function postgres.format(text, name, name, text) returns text language plpgsql as $$
            begin execute 'create table public.pwned ()'; return ''; end $$
        """)
    run(installation.plan(parse_settings({})), postgres)
    assert postgres.execute("select to_regclass('public.pwned')").fetchone() == (None,)


def test_a_view_in_the_place_of_auth_users_runs_no_code_as_the_owner(installed, superuser, postgres):
    installed()
    superuser.execute("""
        create function auth.evil() returns boolean language plpgsql as $$
        begin create table public.pwned (); return true; end $$;
        alter table auth.users rename to users_real;
        create view auth.users as select * from auth.users_real where auth.evil();
        grant select on auth.users to public
    """)
    superuser.execute("insert into auth.users_real (id) values (gen_random_uuid())")
    assert postgres.execute("select to_regclass('public.pwned')").fetchone() == (None,)
