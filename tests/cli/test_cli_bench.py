from __future__ import annotations

import click
import psycopg
import pytest
from fix_terminal import Terminal

from fix_catalog import read_catalog
from fix_pooler import SERVERS
from usersync.cli.bench import BenchView
from usersync.connecting import connection_options
from usersync.plans.bench import BenchResult, Operation, Spread
from usersync.settings import Settings, parse_settings
from usersync.testing.install import install

OPERATIONS = ["sign_up", "confirmation", "sign_in", "event", "event_of_batch", "tracked_update"]

TABLES = """
    select format('%I.%I', nspname, relname)
    from pg_class join pg_namespace on pg_namespace.oid = relnamespace
    where relkind in ('r', 'p') and nspname !~ '^(pg_|information_schema$)'
"""


def state(database):
    """Everything that somebody made, every row, and where each sequence is."""
    with database.connect("supabase_admin") as superuser:
        catalog = read_catalog(superuser)
        sequences = superuser.execute("select * from pg_sequences order by 1, 2").fetchall()
        rows = {
            table: superuser.execute(f"select t::text from {table} as t order by 1").fetchall()
            for (table,) in superuser.execute(TABLES).fetchall()
        }
    return catalog, sequences, rows


@pytest.fixture
def bench(usersync, database):
    """Few rounds of it without a question, on a database in which usersync was just installed."""
    install(database, Settings())
    return lambda *words, role="postgres": usersync(
        "bench", "--yes", "--rounds", "10", *words, "--dsn", database.dsn(role)
    )


def test_it_measures_and_leaves_nothing_behind(usersync, project):
    project.auth.sign_up_email("ada@example.com")
    before = state(project.database)
    done = usersync("bench", "--yes", "--json", "--rounds", "10", "--dsn", project.database.dsn())
    assert (done.code, done.err) == (0, "")
    found = done.json
    assert found["rounds"] == 10
    assert found["unit"] == "µs"
    assert found["auth_role"] is None  # `postgres` may not be the auth server
    assert (found["other_triggers"], found["notes"]) == ([], [])
    assert [each["name"] for each in found["operations"]] == OPERATIONS
    for each in found["operations"]:
        assert 0 < each["usersync"]["low"] <= each["usersync"]["median"] <= each["usersync"]["high"]
        assert each["others"] == {"median": 0, "low": 0, "high": 0}
        assert 0 < each["share"] <= 1
        assert (each["without"] is None) == each["name"].startswith("event")
    assert found["round_trip"]["median"] > 0
    assert found["longest_transaction_s"] > 0
    assert state(project.database) == before


@pytest.mark.newest_server
def test_for_people(bench, database):
    done = bench()
    assert done.code == 0
    assert "10 rounds" in done.out
    assert "sign-up: the INSERT" in done.out
    assert "A round trip from here takes" in " ".join(done.out.split())
    assert database.name in done.out
    assert database.passwords["postgres"] not in done.out + done.err


def test_it_fits_into_80_columns():
    """With a slow machine's figures; and one part in the sentence may be longer than the other."""
    slow, quick = Spread(1234, 1111, 2222), Spread(100, 90, 110)
    operations = tuple(Operation(name, slow, slow, slow, slow) for name in OPERATIONS)
    view = BenchView(BenchResult(10, operations, quick, 0.1, None, (), ()), "127.0.0.1:5432/postgres", 10)
    lines = list(view.lines(80))
    assert max(len(click.unstyle(line)) for line in lines) <= 80
    assert "the INSERT of a sign-up is 12.3 times that." in " ".join(lines)


@pytest.mark.newest_server
def test_it_ends_in_time(bench, monkeypatch):
    """Far away, with fewer rounds than were asked for, and says so."""
    monkeypatch.setattr("usersync.plans.bench._RUN_S", 0)
    monkeypatch.setattr("usersync.plans.bench._TRANSACTION_S", 0)
    assert "2 rounds of 10: the minute was over" in bench().out


@pytest.mark.newest_server
def test_the_auth_servers_statements_are_sent_as_it_sends_them(bench, superuser):
    """By its role and on its search path where that can be had; what others' triggers take is not ours."""
    superuser.execute("""
        create function public.check_caller() returns trigger language plpgsql as $$ begin
            assert current_user = 'supabase_auth_admin' and current_setting('search_path') = 'auth';
            assert new.role = '' and new.confirmation_token = '';
            return new;
        end $$;
        create trigger check_caller before insert or update on auth.users
            for each row execute function public.check_caller();
    """)
    found = bench("--json", role="supabase_admin").json
    assert found["auth_role"] == "supabase_auth_admin"
    assert found["other_triggers"] == ["check_caller"]
    others = {each["name"]: each["others"]["median"] for each in found["operations"]}
    assert {name for name in others if others[name]} == {"sign_up", "confirmation", "sign_in"}


@pytest.mark.newest_server
def test_through_a_pooler(usersync, pooled, database):
    install(database, Settings())
    before = state(database)
    assert usersync("bench", "--yes", "--rounds", "10", "--dsn", pooled).code == 0
    assert state(database) == before
    with psycopg.connect(pooled, **connection_options()) as connection:
        for _ in range(SERVERS * 2):
            shown = connection.execute(
                "select current_setting('lock_timeout'), current_setting('search_path'), current_user"
            ).fetchone()
            assert shown == ("0", '"$user", public, extensions', "postgres")


TRIGGER = """
    create schema if not exists net;
    create function net.http_post(url text) returns bigint language sql as 'select 1::bigint';
    create function public.http_post(url text) returns bigint language sql as 'select 1::bigint';
    create function public.hook() returns trigger language plpgsql as $$ begin {body} return new; end $$;
    create trigger hook after insert on {table} for each row execute function public.hook();
    grant usage on schema net to public;
"""

REFUSED = {
    "a trigger raises": (
        TRIGGER.format(table="auth.users", body="raise exception 'the application says no';"),
        "US203",
        "INSERT into auth.users fails: the application says no",
    ),
    "a trigger raises where somebody signs in": (
        TRIGGER.format(table="auth.users", body="raise exception 'frozen';").replace(
            "after insert", "before update"
        ),
        "US203",
        "UPDATE of auth.users fails: frozen",
    ),
    "a trigger leaves the new user out": (
        TRIGGER.format(table="auth.users", body="return null;").replace("after insert", "before insert"),
        "US303",
        "INSERT into auth.users succeeds, and the row is as before",
    ),
    "a trigger leaves the change out": (
        TRIGGER.format(table="auth.users", body="return null;").replace("after insert", "before update"),
        "US303",
        "UPDATE of auth.users succeeds, and the row is as before",
    ),
    "a trigger asks the network": (
        TRIGGER.format(table="auth.users", body="perform public.http_post('https://example.com');"),
        "US303",
        "the trigger hook on auth.users, in public.hook(), asks the network",
    ),
    "a trigger of the log asks the network": (
        TRIGGER.format(table="public.audit_logs", body="perform public.http_post('https://example.com');"),
        "US303",
        "the trigger hook on public.audit_logs, in public.hook(), asks the network",
    ),
    "a function that a trigger calls asks the network": (
        """create function public.ask() returns void language plpgsql as $$ begin
            perform public.http_post('https://example.com'); end $$;
        """
        + TRIGGER.format(table="auth.users", body="perform public.ask();"),
        "US303",
        "the trigger hook on auth.users, in public.ask(), asks the network",
    ),
    "a trigger of a table that a trigger writes to asks the network": (
        TRIGGER.format(
            table="public.profiles", body="perform public.http_post('https://example.com');"
        ).replace("create schema", "create table public.profiles (id uuid); create schema", 1)
        + """create function public.add_profile() returns trigger language plpgsql as $$ begin
            insert into public.profiles values (new.id); return new; end $$;
        create trigger add_profile after insert on public.users
            for each row execute function public.add_profile();""",
        "US303",
        "the trigger add_profile on public.users, in public.hook(), asks the network",
    ),
    "the role may not": ("revoke insert on auth.users from postgres", "US202", "permission denied"),
    "our trigger is off": (
        "alter table auth.users disable trigger on_auth_user_created",
        "US303",
        "trigger did not fire on the auth server's INSERT into auth.users",
    ),
    "our trigger for changes is off": (
        "alter table auth.users disable trigger on_auth_user_updated",
        "US303",
        "trigger did not fire on the auth server's UPDATE of auth.users",
    ),
    "the log takes nothing": (
        "alter table public.audit_logs add constraint nothing check (false) not valid",
        "US303",
        "public.audit_logs takes no event",
    ),
    "usersync is gone": ("drop schema usersync cascade", "US301", "not installed"),
    "it is read only": (
        "alter role postgres in database {database} set default_transaction_read_only = on",
        "US303",
        "set to read only",
    ),
}


@pytest.mark.newest_server
@pytest.mark.parametrize("why", REFUSED)
def test_where_nothing_can_be_measured(bench, database, superuser, why):
    script, code, words = REFUSED[why]
    superuser.execute(script.replace("{database}", database.name))
    done = bench("--json")
    assert done.code == 1
    assert done.json["error"]["code"] == code
    assert words in done.json["error"]["message"]
    assert superuser.execute("select count(*) from auth.users").fetchone() == (0,)


NOTED = {
    "a deferred trigger of the auth server's table": (
        """create function public.late() returns trigger language plpgsql as $$ begin return null; end $$;
        create constraint trigger late after insert on auth.users deferrable initially deferred
            for each row execute function public.late();""",
        "The trigger late on auth.users is the application's and deferred",
    ),
    "requests through pg_net": (
        TRIGGER.format(table="auth.users", body="perform net.http_post('https://example.com');"),
        "sends requests through pg_net",
    ),
    "a trigger of the users table": (
        TRIGGER.format(table="public.users", body=""),
        "The trigger hook on public.users is the application's",
    ),
    "a sequence": (
        "alter table public.users add column number bigint generated always as identity",
        "The sequence public.users_number_seq goes on",
    ),
    "a sequence that a default names": (
        """create sequence public.numbers; grant all on sequence public.numbers to postgres;
        alter table public.users add column number bigint default nextval('public.numbers')""",
        "The sequence public.numbers goes on",
    ),
    "a sequence of a table that a trigger writes to": (
        """create table auth.greetings (id bigserial, user_id uuid);
        create function public.greet() returns trigger language plpgsql security definer as $$ begin
            insert into auth.greetings (user_id) values (new.id); return new; end $$;
        create trigger greet after insert on auth.users for each row execute function public.greet();""",
        "names the sequence auth.greetings_id_seq or its table",
    ),
    "a sequence that a trigger names": (
        """create sequence public.numbers; grant all on sequence public.numbers to public;
        """
        + TRIGGER.format(table="auth.users", body="perform nextval('public.numbers');"),
        "names the sequence public.numbers or its table",
    ),
    "a table that refuses": (
        "alter table public.users add column team text not null",
        "The users table refuses who signs up (SQLSTATE 23502)",
    ),
}


@pytest.mark.newest_server
@pytest.mark.parametrize("what", NOTED)
def test_what_is_worth_knowing(bench, superuser, what):
    script, words = NOTED[what]
    superuser.execute(script)
    done = bench("--json")
    assert done.code == 0, done.out
    (note,) = done.json["notes"]
    assert words in note


@pytest.mark.newest_server
def test_a_table_that_is_locked_is_not_waited_for(bench, database):
    with database.connect("supabase_auth_admin") as other, other.transaction():
        other.execute("lock table auth.users")
        done = bench("--json")
    assert (done.code, done.json["error"]["code"]) == (1, "US204")


@pytest.mark.newest_server
def test_where_no_table_may_be_made_no_sign_up_is_tried(bench, superuser):
    superuser.execute("""
        alter table public.users add column number bigint generated always as identity;
        create function public.refuse() returns event_trigger language plpgsql as $$ begin
            raise exception 'no migrations today'; end $$;
        create event trigger refuse on ddl_command_start execute function public.refuse();
    """)
    done = bench("--json")
    assert (done.code, done.json["error"]["code"]) == (1, "US203")
    assert "no migrations today" in done.json["error"]["message"]
    assert superuser.execute(
        "select last_value from pg_sequences where schemaname = 'public'"
    ).fetchall() == [(None,)]


@pytest.mark.newest_server
def test_others_may_not(bench):
    done = bench(role="supabase_auth_admin")
    assert done.code == 1
    assert "US202" in done.err
    assert "belongs to postgres" in done.err


@pytest.mark.newest_server
def test_an_auth_server_elsewhere(usersync, database):
    install(database, parse_settings({"source_table": "usersync.auth_users"}))
    done = usersync("bench", "--yes", "--dsn", database.dsn())
    assert done.code == 1
    assert "the auth server has a database of its own" in done.err


@pytest.mark.newest_server
@pytest.mark.usefixtures("bench")
def test_it_asks_and_names_the_database(usersync, database):
    dsn = database.dsn()
    with Terminal("bench", "--rounds", "10", "--dsn", dsn) as terminal:
        terminal.wait_for("[y/N]")
        asked = " ".join(terminal.text.split())
        assert f"{database.host}:{database.port}/{database.name}" in asked
        assert "Try 13 sign-ups" in asked  # three are warm-ups, which nobody else counts
        assert "364 dead rows" in asked
        terminal.type("n\n")
        assert terminal.end() == 1
        assert "10 rounds" not in terminal.text
    with Terminal("bench", "--rounds", "10", "--dsn", dsn) as terminal:
        terminal.wait_for("[y/N]")
        terminal.type("y\n")
        assert terminal.end() == 0
        assert "10 rounds" in terminal.text
    done = usersync("bench", "--dsn", dsn)
    assert done.code == 2
    assert "add --yes" in done.err
