"""What somebody hostile found, each of it mended: the tests that failed before."""

from __future__ import annotations

import uuid

import psycopg
import pytest

from usersync import UserSync
from usersync.config.settings import parse_settings
from usersync.schema import installation
from usersync.testing import GoTrue
from usersync.testing.install import install
from usersync.transports.run import run

DEFERRED_ELSEWHERE = """
    create table public.plans (id int primary key);
    create table public.profiles (
        user_id uuid, plan_id int default 1 references public.plans deferrable initially deferred
    );
    create function public.make_profile() returns trigger language plpgsql as $$
    begin insert into public.profiles (user_id) values (new.id); return new; end $$;
    create trigger make_profile after insert on public.users
        for each row execute function public.make_profile();
"""


@pytest.fixture
def installed(database, postgres):
    """Install with these settings, after this SQL; return the auth server and a client."""
    opened = []

    def prepare(before="", **settings):
        if before:
            postgres.execute(before)
        install(database, parse_settings(settings))
        opened.extend([GoTrue(database.dsn("supabase_auth_admin")), UserSync(database.dsn())])
        return opened[-2:]

    yield prepare
    for each in opened:
        each.close()


def test_a_value_that_fits_no_type_stops_neither_reconciling_nor_status(installed, postgres):
    age = {"from": "user_metadata.age", "type": "integer"}
    auth, client = installed(columns={"email": "email", "age": age})
    lost, hostile = auth.sign_up_email(), auth.sign_up_email(data={"age": "5"})
    auth.update_user_metadata(hostile, age="abc")
    postgres.execute("delete from public.users where id = %s", [lost])
    client.reconcile()
    assert client.user_exists(lost)
    assert [(each.user_id, each.column) for each in client.failures()] == [(hostile, "age")]
    assert client.status().degraded == 1
    assert "abc" not in client.failures()[0].message


def test_a_trigger_that_writes_to_a_deferred_constraint_fails_no_sign_up(installed, postgres):
    auth, client = installed()
    postgres.execute(DEFERRED_ELSEWHERE)
    user_id = auth.sign_up_email()
    assert [(each.user_id, each.sqlstate) for each in client.failures()] == [(user_id, "23503")]


def test_a_cascade_into_a_deferred_constraint_fails_no_deletion(installed, postgres):
    auth, client = installed(on_delete="delete")
    postgres.execute("""
        create table public.orders (
            id int primary key, user_id uuid references public.users on delete cascade
        );
        create table public.items (
            id int, order_id int references public.orders deferrable initially deferred
        )
    """)
    user_id = auth.sign_up_email()
    postgres.execute("insert into public.orders values (1, %s)", [user_id])
    postgres.execute("insert into public.items values (1, 1)")
    auth.hard_delete(user_id)
    assert [each.sqlstate for each in client.failures()] == ["23503"]


def test_a_deferred_constraint_on_a_partition_fails_no_sign_up(installed):
    auth, client = installed(
        """
        create table public.users (id uuid primary key, email text) partition by hash (id);
        create table public.users_0 partition of public.users for values with (modulus 1, remainder 0);
        alter table public.users_0 add unique (email) deferrable initially deferred
        """,
        columns={"email": "email"},
    )
    auth.sign_up_email("ada@example.com")
    twin = auth.sign_up_sso("ada@example.com")
    assert [(each.user_id, each.outcome) for each in client.failures()] == [(twin, "degraded")]


def test_personal_columns_that_are_no_text_are_emptied_too(installed, postgres):
    columns = {"email": "email", "meta": "user_metadata", "deleted_at": "deleted_at"}
    auth, client = installed(columns=columns)
    user_id = auth.sign_up_email(data={"secret": "of mine"})
    assert client.sync_auth_user(user_id)
    auth.hard_delete(user_id)
    assert postgres.execute("select email, meta from public.users").fetchone() == (None, None)
    assert not client.failures()


def test_the_service_role_may_make_no_trigger_that_would_run_as_the_owner(installed, database):
    installed()
    with database.connect("service_role") as service:
        service.execute(
            "create function pg_temp.evil() returns trigger language plpgsql as 'begin return new; end'"
        )
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            service.execute(
                "create trigger z before insert on public.users for each row execute function pg_temp.evil()"
            )


def test_plan_names_who_may_make_triggers_on_an_adopted_table(postgres):
    postgres.execute("create table public.users (id uuid primary key, email text)")
    planned = run(installation.plan(parse_settings({"columns": {"email": "email"}})), postgres)
    (found,) = [each for each in planned.findings if "may create triggers" in each.message]
    postgres.execute(found.hint)
    again = run(installation.plan(parse_settings({"columns": {"email": "email"}})), postgres)
    assert not [each for each in again.findings if "may create triggers" in each.message]


def test_plan_runs_no_code_of_a_strangers_schema_usersync(database, postgres):
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


def test_plan_calls_no_function_that_a_stranger_put_on_the_path(installed, database, postgres):
    installed()
    with database.connect("supabase_auth_admin") as stranger:
        stranger.execute("""
            create schema postgres; grant usage on schema postgres to public;
            create function postgres.format(text, name, name, text) returns text language plpgsql as $$
            begin execute 'create table public.pwned ()'; return ''; end $$
        """)
    run(installation.plan(parse_settings({})), postgres)
    assert postgres.execute("select to_regclass('public.pwned')").fetchone() == (None,)


def test_an_applications_own_pending_checks_wait_for_its_commit(installed, database, postgres):
    auth, _ = installed()
    postgres.execute(
        "create table public.orders (user_id uuid references public.users deferrable initially deferred)"
    )
    ada, grace = auth.sign_up_email(), auth.sign_up_email()
    postgres.execute("delete from public.users")
    with database.connect("postgres", autocommit=False) as work:
        work.execute("insert into public.orders values (%s), (%s)", [ada, grace])
        ensured = "select public.ensure_user_exists(%s), public.ensure_user_exists(%s)"
        assert work.execute(ensured, [ada, grace]).fetchone() == (True, True)
        work.commit()


def test_a_value_that_its_column_cuts_is_named_and_not_written_again(installed, postgres):
    auth, client = installed(
        "create table public.users (id uuid primary key, full_name varchar(5))",
        columns={"full_name": "user_metadata.full_name"},
    )
    auth.sign_up_email(data={"full_name": "Ada     "})
    client.reconcile()
    written = postgres.execute("select xmin::text from public.users").fetchone()
    client.reconcile()
    assert postgres.execute("select xmin::text from public.users").fetchone() == written
    (failure,) = client.failures()
    assert failure.sqlstate == "US001"
    assert "Changed by: the type of the column" in failure.message


def test_a_clients_date_style_decides_nothing(installed, database, postgres):
    born = {"from": "user_metadata.birthday", "type": "date"}
    auth, client = installed(columns={"email": "email", "birthday": born})
    auth.sign_up_email(data={"birthday": "03/04/2000"})
    with UserSync(database.dsn() + "?options=-c%20datestyle%3DISO,DMY") as elsewhere:
        assert [each.reconcile().counts.stale for each in (elsewhere, client)] == [0, 0]


def test_rows_that_were_never_linked_do_not_count_against_the_cap(installed):
    auth, client = installed(
        """
        create table public.members (
            id bigserial primary key, auth_id uuid unique, email text, deleted_at timestamptz
        );
        insert into public.members (email) select n from generate_series(1, 100) as n
        """,
        users_table="public.members",
        key="auth_id",
        columns={"email": "email", "deleted_at": "deleted_at"},
    )
    auth.sign_up_email()
    assert client.reconcile().counts.examined == 1


@pytest.mark.parametrize("address", ["o'brien@example.com", '"john doe"@example.com', "a=b@example.com"])
def test_no_form_of_an_address_gets_into_the_failures_table(installed, postgres, address):
    auth, client = installed()
    postgres.execute("""
        create function public.refuse() returns trigger language plpgsql as $$
        begin raise 'not %', new.email using column = new.email, constraint = new.email; end $$;
        create trigger refuse before insert on public.users for each row execute function public.refuse()
    """)
    auth.sign_up_email(address)
    (failure,) = client.failures()
    kept = f"{failure.message} {failure.column} {failure.constraint}"
    assert not any(part in kept for part in ("brien", "john", "doe", "a=", "example"))


def test_a_transaction_waits_for_a_lock_once(installed, database):
    auth, client = installed(lock_timeout_ms=250)
    users = auth.import_users(8)
    with database.connect("postgres", autocommit=False) as somebody:
        somebody.execute("alter table public.users add column z int")
        # Eight rows at 250 ms each would take two seconds.
        auth.connection.execute("set statement_timeout = '1500ms'")
        auth.connection.execute("update auth.users set banned_until = now()")
        somebody.rollback()
    assert {each.user_id for each in client.failures()} == set(users)


def test_a_failures_table_line_of_nobody_goes_with_the_page_that_it_follows(installed, postgres):
    auth, client = installed()
    third = sorted(auth.sign_up_email() for _ in range(6))[2]
    postgres.execute(
        "insert into usersync.sync_failures (user_id, outcome, sqlstate, message) "
        "values (%s, 'failed', 'x', 'y')",
        [uuid.UUID(int=third.int + 1)],
    )
    client.reconcile(page_size=3)
    assert not client.failures()


def test_rollback_takes_no_function_that_only_carries_our_comment(installed, postgres):
    installed()
    postgres.execute("""
        create table public.orders (id int);
        create function public.handle_orders() returns trigger language plpgsql as 'begin return new; end';
        comment on function public.handle_orders() is 'usersync: makes sure the buyer exists';
        create trigger t after insert on public.orders for each row execute function public.handle_orders()
    """)
    run(installation.rollback(parse_settings({})), postgres)
    assert postgres.execute("select count(*) from pg_trigger where tgname = 't'").fetchone() == (1,)


def test_rollback_that_cannot_go_to_its_end_does_not_begin(installed, postgres):
    auth, client = installed()
    postgres.execute("create view public.watching as select * from usersync.sync_failures")
    with pytest.raises(Exception, match="depend"):
        run(installation.rollback(parse_settings({})), postgres)
    assert client.user_exists(auth.sign_up_email())


def test_another_relation_in_the_tables_place_runs_nothing_as_our_owner(installed, superuser, postgres):
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


def test_the_first_plan_counts_what_would_be_overwritten(auth, postgres):
    user_id = auth.sign_up_email("ada@example.com", data={"full_name": "Ada"})
    postgres.execute("create table public.users (id uuid primary key, full_name text)")
    postgres.execute("insert into public.users values (%s, 'Countess')", [user_id])
    columns = {"full_name": "user_metadata.full_name"}
    planned = run(installation.plan(parse_settings({"columns": columns})), postgres)
    assert any("overwrite values in 1 (full_name in 1)" in each.message for each in planned.findings)


def test_a_slip_in_the_name_of_the_users_table_is_noticed(postgres):
    postgres.execute("create table public.users (id uuid primary key, email text)")
    no_schema = run(installation.plan(parse_settings({"users_table": "publik.users"})), postgres)
    assert "schema publik does not exist" in no_schema.errors[0].message
    near = run(installation.plan(parse_settings({"users_table": "public.user"})), postgres)
    assert any("public.users" in each.message for each in near.findings)


def test_a_column_that_some_users_cannot_fill_is_noticed_before(postgres):
    postgres.execute("create table public.users (id uuid primary key, email text not null)")
    planned = run(installation.plan(parse_settings({"columns": {"email": "email"}})), postgres)
    assert any("email is NOT NULL" in each.message for each in planned.findings)


@pytest.mark.newest_server
@pytest.mark.parametrize("on_delete", ["anonymize", "soft", "keep", "delete"])
@pytest.mark.parametrize("delete_without_triggers", ["hard_delete", "soft_delete"])
def test_a_user_without_a_row_leaves_the_failures_table_with_the_deletion(
    installed, postgres, on_delete, delete_without_triggers
):
    auth, client = installed(on_delete=on_delete)
    postgres.execute("alter table public.users add constraint nobody check (false) not valid")
    user = auth.sign_up_email()
    assert [each.user_id for each in client.failures()] == [user]
    getattr(auth, delete_without_triggers)(user)
    assert not client.failures()
