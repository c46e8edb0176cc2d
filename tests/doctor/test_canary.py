"""The canary: every kind of sign-up and change, tried on this database, with nothing left behind."""

from __future__ import annotations

import json
from pathlib import Path

import psycopg
import pytest

from fix_catalog import read_catalog
from fix_pooler import pgbouncer
from usersync.cli.main import run
from usersync.config.settings import load_settings
from usersync.doctor import judge
from usersync.errors import ConnectionFailedError
from usersync.schema import installation
from usersync.schema.trial import observer
from usersync.schema.trial.canary import run_canary as fly_over
from usersync.schema.trial.flows import FLOWS
from usersync.testing import broken_users_table
from usersync.transports.run import run as run_plan

SCHEMAS = Path(__file__).parent.parent / "schemas"


@pytest.fixture
def fly(clinic):
    """Try everything on the clinic's project, and return what became of it."""
    return lambda connection=None, **options: fly_over(
        connection or clinic.project.owner, clinic.settings, **options
    )


@pytest.fixture
def change(clinic):
    return lambda text: clinic.project.owner.execute(text.replace("{users}", clinic.project.users))


def verdicts(found):
    return {check.code: check for check in judge(found)}


def states(found):
    return {each.flow: each.row_state or each.state for each in found}


def everything(connection):
    """The catalog, every row of every table, and where each sequence is."""
    catalog = read_catalog(connection)  # which sets a search path that leaves every name qualified
    tables = connection.execute(
        "select oid::regclass::text from pg_class where relkind in ('r', 'm') "
        "and relnamespace::regnamespace::text !~ '^(pg_|information_schema)'"
    ).fetchall()
    rows = "select md5(string_agg(each::text, ' ' order by each::text)) from {} as each"
    sequences = connection.execute("select oid::regclass::text from pg_class where relkind = 'S'").fetchall()
    return (
        catalog,
        {name: connection.execute(rows.format(name)).fetchone() for (name,) in tables},
        {
            name: connection.execute(f"select last_value, is_called from {name}").fetchone()
            for (name,) in sequences
        },
    )


def test_a_healthy_project_takes_every_request_and_keeps_nothing(clinic, fly, root):
    clinic.project.auth.sign_up_email("ada@example.com")
    before = everything(root)
    for connection in (clinic.project.owner, root):
        found = fly(connection)
        assert states(found) == dict.fromkeys(FLOWS, "ok")
        assert {check.status for check in judge(found) if check.code != "D037"} == {"ok"}, judge(found)
        assert found.moved == ()
    assert everything(root) == before


def test_as_whom(clinic, fly, root):
    """A platform's ``postgres`` may not take the auth server's role, and says so; a superuser may."""
    ours, theirs = fly(), fly(root)
    assert (ours.tried_as, theirs.tried_as) == ("postgres", "supabase_auth_admin")
    assert "may not take the role supabase_auth_admin" in verdicts(ours)["D033"].detail
    assert "may not" not in verdicts(theirs)["D033"].detail


#: What each makes of a row, and the SQLSTATE by which.
BROKEN = {
    "missing": ("failed", "42P01"),
    "column_renamed": ("degraded", "42703"),
    "bad_type": ("degraded", "42804"),
    "not_null": ("failed", "23502"),
    "unique_email": ("degraded", "23505"),
    "deferred_unique_email": ("degraded", "23505"),
    "check": ("failed", "23514"),
    "trigger_raises": ("failed", "P0001"),
    "trigger_asserts": ("failed", "P0004"),
    "trigger_skips": ("failed", "US002"),
}


@pytest.mark.newest_server
@pytest.mark.parametrize("how", BROKEN)
def test_a_broken_users_table_is_named_and_fails_no_request(clinic, fly, root, how):
    table, column = clinic.settings.users_table, clinic.project.columns["email"]
    with broken_users_table(clinic.project.database.dsn(), how, table=table, column=column):
        before = everything(root)
        found = fly()
        assert everything(root) == before
    assert "refused" not in states(found).values()
    assert BROKEN[how] in {(each.row_state, each.row_fault.sqlstate) for each in found if each.row_fault}
    check = verdicts(found)["D034"]
    assert check.status == "problem"
    assert BROKEN[how][1] in check.detail
    assert check.fix


@pytest.mark.newest_server
def test_one_cause_is_told_once_with_what_mends_it(change, fly):
    change("alter table {users} add column demanded text not null")
    check = verdicts(fly())["D034"]
    assert "column demanded" in check.detail
    assert "hard deletion," not in check.detail.replace(
        "after a hard deletion", ""
    )  # nobody is left to miss a row
    assert len(check.detail.splitlines()) == 1
    assert check.fix == "usersync doctor --only D008,D012,D015"


RECIPE = """
    create table public.profiles (id uuid primary key, handle text not null);
    create function public.a_recipe() returns trigger language plpgsql security definer as
    $$ begin
        insert into public.profiles values (new.id, new.raw_user_meta_data ->> 'handle');
        return new;
    end $$;
    create trigger a_recipe after insert on auth.users for each row execute function public.a_recipe();
"""


@pytest.mark.newest_server
def test_a_recipe_that_fails_the_sign_up(change, fly):
    change(RECIPE)
    found = fly()
    assert set(states(found).values()) == {"ok", "refused"}
    check = verdicts(found)["D033"]
    assert check.status == "warning"
    assert (
        "refused with SQLSTATE 23502, column handle, raised in public.a_recipe() "
        "(trigger a_recipe on auth.users)" in check.detail
    )
    assert "Without usersync's triggers it is refused, too." in check.detail
    assert "select pg_get_functiondef('public.a_recipe()'::regprocedure);" in check.fix
    # The trial's users have the keys that the trigger names, where the auth server lets a form send them.
    assert states(found)["sign-up by e-mail"] == "ok"
    assert states(found)["sign-up by wallet (Web3)"] == "refused"


@pytest.mark.newest_server
def test_a_flow_that_fails_because_of_usersync_is_told_from_one_that_always_did(clinic, change, fly):
    """A plain INSERT once the address is confirmed: with usersync the row is there already."""
    email = clinic.project.column("email")
    change(
        "create function public.late() returns trigger language plpgsql security definer as $$ begin"
        " if new.email_confirmed_at is not null and old.email_confirmed_at is null then"
        f' insert into {{users}} ("{clinic.settings.key}", {email}) values (new.id, new.email);'
        " end if; return new; end $$;"
        "create trigger late after update on auth.users for each row execute function public.late();"
    )
    check = verdicts(fly())["D033"]
    assert check.status == "problem"
    assert "SQLSTATE 23505" in check.detail
    assert "Without usersync's triggers it is accepted." in check.detail


LOGGING = """
    create table public.seen (id uuid);
    create function public.note() returns trigger language plpgsql as
        'begin insert into public.seen values (new.id); return new; end';
    create trigger note after insert on auth.users for each row execute function public.note();
"""


@pytest.mark.newest_server
class TestARightThatTheAuthServerLacks:
    def test_is_met_in_its_role(self, change, fly, root):
        change(LOGGING + "revoke all on public.seen from supabase_auth_admin, public")
        check = verdicts(fly(root))["D033"]
        assert "SQLSTATE 42501, raised in public.note() (trigger note on auth.users)" in check.detail

    def test_is_looked_up_where_that_role_cannot_be_taken(self, change, fly):
        change(LOGGING + "revoke all on public.seen from supabase_auth_admin, public")
        found = fly()
        assert set(states(found).values()) == {"ok"}
        check = verdicts(found)["D033"]
        assert check.status == "problem"
        assert "who lacks INSERT on table public.seen" in check.detail
        change("\n".join(line for line in check.fix.splitlines() if not line.startswith("--")))
        change("alter table public.seen enable row level security")
        check = verdicts(fly())["D033"]
        assert "no policy of public.seen lets INSERT" in check.detail
        change("create policy auth_server on public.seen for insert to supabase_auth_admin with check (true)")
        assert verdicts(fly())["D033"].status == "ok"

    def test_of_its_own_table(self, fly, root):
        root.execute("revoke update on auth.users from supabase_auth_admin")
        check = verdicts(fly())["D033"]
        assert "supabase_auth_admin lacks UPDATE on table auth.users" in check.detail


@pytest.mark.newest_server
def test_what_only_commit_would_check(change, fly, root):
    """A deferred constraint of the application's: the request seems to go through, and COMMIT fails."""
    change(
        "create table public.invited (id uuid primary key);"
        "create table public.guests (id uuid constraint invited_only references public.invited"
        " deferrable initially deferred);"
        "create function public.guest() returns trigger language plpgsql security definer as"
        " 'begin insert into public.guests values (new.id); return new; end';"
        "create trigger guest after insert on auth.users for each row execute function public.guest();"
    )
    found = fly()
    assert states(found)["sign-up by e-mail"] == "refused"
    assert "SQLSTATE 23503, constraint invited_only" in verdicts(found)["D033"].detail


@pytest.mark.newest_server
def test_a_foreign_key_that_forbids_deleting(clinic, change, fly):
    key = '"' + clinic.settings.key + '"'
    change(f"alter table {{users}} add constraint holds foreign key ({key}) references auth.users (id)")
    found = fly()
    assert [step for step, state in states(found).items() if state == "refused"] == ["hard deletion"]
    assert states(found)["sign-up again after a hard deletion"] == "not tried"
    assert "constraint holds" in verdicts(found)["D033"].detail
    assert verdicts(found)["D033"].fix == "usersync doctor --only D013,D016"


@pytest.mark.newest_server
def test_a_sequence_that_a_trigger_draws_from_is_named_and_others_are_not(clinic, change, fly, root):
    change(
        "create sequence public.others; create table public.numbers (n bigint generated always as identity);"
        "create function public.count() returns trigger language plpgsql security definer as"
        " 'begin insert into public.numbers default values; return new; end';"
        "create trigger count after insert on auth.users for each row execute function public.count();"
        # Somebody else draws meanwhile, from another session.
        "select nextval('public.others');"
    )
    found = fly(root)
    assert found.moved == ()
    check = verdicts(found)["D035"]
    assert check.status == "warning"
    number = "a number of the sequence public.numbers_n_seq is used up for public.numbers.n"
    assert number in check.detail
    asked = fly(root, call_out=True)
    (moved,) = asked.moved
    assert (moved.name, moved.by >= len(FLOWS)) == ("public.numbers_n_seq", True)
    assert f"public.numbers_n_seq by {moved.by}" in verdicts(asked)["D035"].detail
    assert set(states(asked).values()) == {"ok"}


OVERSTEPPING = """
    create function public.overstep() returns trigger language plpgsql security definer as $$ begin
        if current_setting('statement_timeout') = '0' or current_setting('lock_timeout') = '0' then
            raise 'nothing ends this any more';
        end if;
        perform set_config('statement_timeout', '0', true), set_config('lock_timeout', '0', true);
        perform pg_advisory_lock(-1), pg_advisory_lock(-1), pg_advisory_lock_shared(7),
            pg_advisory_lock(-2, 3), pg_advisory_xact_lock(8);
        return new;
    end $$;
    create trigger overstep after insert on auth.users for each row execute function public.overstep();
"""


@pytest.mark.newest_server
def test_what_a_trigger_takes_for_the_session_or_sets_for_the_transaction(clinic, change, fly):
    change(OVERSTEPPING)
    change("select pg_advisory_lock(9)")
    found = fly()
    assert set(states(found).values()) == {"ok"}
    held = change("select objid::bigint from pg_locks where locktype = 'advisory' and pid = pg_backend_pid()")
    assert held.fetchall() == [(9,)]


CALLING = """
    create schema if not exists extensions;
    create table public.asked (url text);
    create function extensions.http_get(url text) returns int language plpgsql as
        'begin insert into public.asked values (url); return 200; end';
    create function public.tell() returns trigger language plpgsql as
        $$ begin perform extensions.http_get('https://example.com'); return new; end $$;
    create table public.welcomed (id uuid);
    create trigger tell after insert on public.welcomed for each row execute function public.tell();
    create function public.welcome() returns trigger language plpgsql as
        'begin insert into public.welcomed values (gen_random_uuid()); return new; end';
    create trigger welcome after insert on {users} for each row execute function public.welcome();
"""


@pytest.mark.newest_server
def test_what_no_rollback_takes_back_is_not_tried_unasked(clinic, change, fly):
    change(CALLING)
    found = fly()
    assert set(states(found).values()) == {"not tried"}
    checks = verdicts(found)
    assert [checks[code].status for code in ("D033", "D034", "D035")] == ["warning", "skipped", "warning"]
    assert "in public.tell(), asks the network" in checks["D035"].detail
    assert "--call-out" in checks["D035"].fix
    asked = fly(call_out=True)
    assert set(states(asked).values()) == {"ok"}
    assert verdicts(asked)["D035"].status == "warning"
    assert clinic.check("D030").status == "warning"
    change("drop trigger welcome on {users}")
    assert clinic.check("D030").status == "ok"


@pytest.mark.newest_server
def test_a_call_that_only_a_deletion_makes_holds_up_no_sign_up(clinic, change, fly):
    """Input: AFTER DELETE on a table that a sign-up inserts into, which calls the network."""
    change(CALLING.replace("tell after insert on", "tell after delete on"))
    assert clinic.check("D030").status == "ok"
    assert states(fly())["sign-up by e-mail"] == "ok"


@pytest.mark.newest_server
def test_a_database_that_takes_no_writes(clinic, fly):
    options = {"options": "-c default_transaction_read_only=on"}
    with clinic.project.database.connect("postgres", **options) as connection:
        check = verdicts(fly(connection))["D033"]
    assert check.status == "problem"
    assert "takes no writes at the moment" in check.detail


@pytest.mark.newest_server
def test_a_role_that_may_do_nothing(clinic, fly, root):
    """Nothing can be tried then, and what can be looked up is."""
    root.execute("revoke insert on auth.users from postgres")
    root.execute("revoke delete on auth.users from supabase_auth_admin")
    check = verdicts(fly())["D033"]
    assert "nothing was tried: postgres may not insert" in check.detail
    assert "supabase_auth_admin lacks DELETE on table auth.users" in check.detail


@pytest.mark.newest_server
def test_a_connection_that_is_killed_leaves_nothing(clinic, fly, root):
    root.execute(
        "create function public.kill() returns trigger language plpgsql security definer as"
        " 'begin perform pg_terminate_backend(pg_backend_pid()); return old; end';"
        "create trigger kill after delete on auth.users for each row execute function public.kill();"
    )
    before = everything(root)
    with (
        clinic.project.database.connect("postgres") as connection,
        pytest.raises(ConnectionFailedError),
    ):
        fly(connection)
    assert everything(root) == before


@pytest.mark.newest_server
def test_it_ends_before_it_is_in_anybodys_way(fly, monkeypatch):
    monkeypatch.setattr(observer, "MOST_SECONDS", 0)
    found = fly()
    assert set(states(found).values()) == {"not tried"}
    assert verdicts(found)["D033"].status == "warning"


@pytest.mark.newest_server
def test_a_locked_users_table(clinic, fly, root, monkeypatch):
    """An ALTER TABLE of somebody else's: each request gives up waiting, and after a while the canary does."""
    monkeypatch.setattr(observer, "MOST_SECONDS", 2)
    table, column = clinic.settings.users_table, clinic.project.columns["email"]
    with broken_users_table(clinic.project.database.dsn(), "locked", table=table, column=column):
        found = fly()
    first, *_, last = found
    assert (first.row_state, first.row_fault.sqlstate) == ("failed", "55P03")
    assert last.state == "not tried"
    assert "the trial has taken 2 s already" in verdicts(found)["D033"].detail
    assert "Another session was in the way" in verdicts(found)["D034"].fix


@pytest.mark.newest_server
def test_an_older_auth_server(clinic, fly, root):
    """Columns and tables that it has not made yet are left out of its statements."""
    root.execute("drop table auth.one_time_tokens; alter table auth.users drop column reauthentication_token")
    assert set(states(fly()).values()) == {"ok"}


@pytest.mark.newest_server
def test_through_a_pooler_in_transaction_mode(clinic, fly, root):
    before = everything(root)
    with pgbouncer(clinic.project.database) as dsn, psycopg.connect(dsn, autocommit=True) as connection:
        assert set(states(fly(connection)).values()) == {"ok"}
    assert everything(root) == before


#: What the canary finds in projects as they are found, once usersync is there: state, SQLSTATE, column. Each
#: is true: an anonymous user has no address for a column that requires one, and a second user with the same
#: one is refused there; what the application's own form sends comes from nowhere else.
FOUND = {
    "marketplace": {("refused", "23505", "users_email_key")},
    "multi_tenant": {("failed", "23502", "tenant_id")},
    "nextjs_saas": {("refused", "23503", "users_id_fkey")},
    "required_columns": {("failed", "23502", "email"), ("failed", "23502", "country")},
    "text_ids": {("failed", "23502", "email"), ("failed", "23505", "email")},
}


@pytest.mark.newest_server
@pytest.mark.parametrize("name", sorted(path.stem for path in SCHEMAS.glob("*.sql")))
def test_projects_as_they_are_found(database, postgres, superuser, name):
    postgres.execute((SCHEMAS / f"{name}.sql").read_text())
    settings = load_settings(SCHEMAS / f"{name}.toml")
    run_plan(installation.apply(settings, adopt=True), postgres)
    before = everything(superuser)
    found = fly_over(superuser, settings, call_out=True)
    moved = {each.name for each in found.moved}
    after = everything(superuser)
    assert after[:2] == before[:2]
    assert {each for each in after[2] if after[2][each] != before[2][each]} == moved
    faults = [(each, each.fault or each.row_fault) for each in found]
    troubles = {
        (each.flow, each.row_state or each.state, fault.sqlstate, fault.column or fault.constraint)
        for each, fault in faults
        if fault
    }
    assert {each[1:] for each in troubles} == FOUND.get(name, set()), troubles


@pytest.mark.newest_server
class TestTheCommand:
    @pytest.fixture
    def doctor(self, clinic, tmp_path, monkeypatch, capsys):
        monkeypatch.chdir(tmp_path)
        monkeypatch.setenv("SUPABASE_DB_URL", clinic.project.database.dsn())

        def call(*options):
            code = run(["doctor", *options])
            return code, capsys.readouterr()

        return call

    def test_all_of_it(self, doctor):
        code, said = doctor("--canary")
        assert code == 0, said.out
        assert "37 ok, no warnings, no problems" in said.out
        assert "✓ D035  Canary: what a rollback does not undo: nothing, no sequence moved" in said.out

    def test_a_time_out_while_it_prepares_hides_no_other_check(self, doctor, monkeypatch):
        """Input: a loaded machine, where one statement takes longer than it may."""
        slow = "set local statement_timeout = '1ms'; select pg_sleep(1)"
        monkeypatch.setattr(observer, "_SHORT", slow)
        _, said = doctor("--canary", "--json")
        checks = {check["code"]: check for check in json.loads(said.out)["checks"]}
        assert set(checks) == {f"D{number:03}" for number in range(1, 38)}
        assert [checks[code]["status"] for code in ("D001", "D032")] == ["ok", "ok"]
        assert "the trial was not finished" in checks["D033"]["detail"]

    def test_for_programs(self, doctor, change):
        change("alter table {users} add column demanded text not null")
        code, said = doctor("--canary", "--only", "D034", "--json")
        document = json.loads(said.out)
        assert code == 1
        assert [check["code"] for check in document["checks"]] == ["D034"]
        assert {attempt["step"] for attempt in document["canary"]["attempts"]} == set(FLOWS)
        assert document["canary"]["attempts"][0]["fault"]["column"] == "demanded"

    def test_a_check_of_the_canarys_needs_it(self, doctor):
        code, said = doctor("--only", "D033")
        assert code == 2
        assert "are made with --canary" in said.err

    def test_options_that_would_do_nothing(self, doctor):
        assert doctor("--call-out")[0] == doctor("--yes")[0] == 2
