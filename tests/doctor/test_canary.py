"""The canary tries each kind of sign-up and change, and changes nothing in the database."""

from __future__ import annotations

import json
from pathlib import Path

import psycopg
import pytest

from fixtures_catalog import read_catalog
from fixtures_pooler import pgbouncer
from usersync.cli.main import run
from usersync.config.settings import load_settings
from usersync.doctor import judge
from usersync.errors import ConnectionFailedError
from usersync.schema import installation
from usersync.schema.trial import observer
from usersync.schema.trial.canary import run_canary
from usersync.schema.trial.flows import FLOWS
from usersync.testing import broken_users_table
from usersync.transports.run import run as run_plan

SCHEMAS = Path(__file__).parent.parent / "schemas"


@pytest.fixture
def canary(checked):
    """Run the canary on the project; return its results."""
    return lambda connection=None, **options: run_canary(
        connection or checked.project.owner, checked.settings, **options
    )


@pytest.fixture
def change(checked):
    return lambda text: checked.project.owner.execute(text.replace("{users}", checked.project.users))


def verdicts(found):
    return {check.code: check for check in judge(found)}


def states(found):
    return {each.flow: each.row_state or each.state for each in found}


def snapshot(connection):
    """The catalog, every row of every table, and the state of each sequence."""
    catalog = read_catalog(connection)  # sets a search path with which every name is qualified
    tables = connection.execute(
        "select oid::regclass::text from pg_class where relkind in ('r', 'm') "
        "and relnamespace::regnamespace::text !~ '^(pg_|information_schema)'"
    ).fetchall()
    rows = "select md5(string_agg(each::text, ' ' order by each::text)) from {} as each"
    # A rollback does not reset the sequence of the failures' ids.
    sequences = connection.execute(
        "select oid::regclass::text from pg_class "
        "where relkind = 'S' and relname <> 'sync_failures_failure_id_seq'"
    ).fetchall()
    return (
        catalog,
        {name: connection.execute(rows.format(name)).fetchone() for (name,) in tables},
        {
            name: connection.execute(f"select last_value, is_called from {name}").fetchone()
            for (name,) in sequences
        },
    )


@pytest.mark.slow
def test_a_healthy_project_accepts_each_request_and_is_unchanged(checked, canary, root):
    checked.project.auth.sign_up_email("ada@example.com")
    before = snapshot(root)
    for connection in (checked.project.owner, root):
        found = canary(connection)
        assert states(found) == dict.fromkeys(FLOWS, "ok")
        assert {check.status for check in judge(found) if check.code != "D037"} == {"ok"}, judge(found)
        assert found.moved == ()
    assert snapshot(root) == before


@pytest.mark.slow
def test_the_canary_takes_the_auth_servers_role_if_it_is_allowed(checked, canary, root):
    """On Supabase ``postgres`` is not allowed to take the auth server's role. A superuser is."""
    as_owner, as_superuser = canary(), canary(root)
    assert (as_owner.tried_as, as_superuser.tried_as) == ("postgres", "supabase_auth_admin")
    assert "may not take the role supabase_auth_admin" in verdicts(as_owner)["D033"].detail
    assert "may not" not in verdicts(as_superuser)["D033"].detail


#: The state of the row after each breakage, and the SQLSTATE.
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


@pytest.mark.slow
@pytest.mark.newest_server
@pytest.mark.parametrize("how", BROKEN)
def test_a_broken_users_table_is_reported_and_fails_no_request(checked, canary, root, how):
    table, column = checked.settings.users_table, checked.project.columns["email"]
    with broken_users_table(checked.project.database.dsn(), how, table=table, column=column):
        before = snapshot(root)
        found = canary()
        assert snapshot(root) == before
    assert "refused" not in states(found).values()
    assert BROKEN[how] in {(each.row_state, each.row_fault.sqlstate) for each in found if each.row_fault}
    check = verdicts(found)["D034"]
    assert check.status == "problem"
    assert BROKEN[how][1] in check.detail
    assert check.fix


@pytest.mark.newest_server
def test_one_cause_is_reported_once_with_its_fix(change, canary):
    change("alter table {users} add column demanded text not null")
    check = verdicts(canary())["D034"]
    assert "column demanded" in check.detail
    assert "hard deletion," not in check.detail.replace(
        "after a hard deletion", ""
    )  # a deleted user has no missing row
    assert len(check.detail.splitlines()) == 1
    assert check.fix == "usersync doctor --only D008,D012,D015"


HAND_WRITTEN = """
    create table public.profiles (id uuid primary key, handle text not null);
    create function public.make_profile() returns trigger language plpgsql security definer as
    $$ begin
        insert into public.profiles values (new.id, new.raw_user_meta_data ->> 'handle');
        return new;
    end $$;
    create trigger make_profile after insert on auth.users
        for each row execute function public.make_profile();
"""


@pytest.mark.slow
@pytest.mark.newest_server
def test_a_hand_written_trigger_that_fails_the_sign_up_is_a_warning(change, canary):
    change(HAND_WRITTEN)
    found = canary()
    assert set(states(found).values()) == {"ok", "refused"}
    check = verdicts(found)["D033"]
    assert check.status == "warning"
    assert (
        "refused with SQLSTATE 23502, column handle, raised in public.make_profile() "
        "(trigger make_profile on auth.users)" in check.detail
    )
    assert "Without usersync's triggers it is refused, too." in check.detail
    assert "select pg_get_functiondef('public.make_profile()'::regprocedure);" in check.fix
    # The trial's users have the metadata keys that the trigger reads, if the flow accepts metadata.
    assert states(found)["sign-up by e-mail"] == "ok"
    assert states(found)["sign-up by wallet (Web3)"] == "refused"


@pytest.mark.slow
@pytest.mark.newest_server
def test_a_flow_that_fails_because_of_usersync_is_a_problem(checked, change, canary):
    """The trigger inserts the row when the e-mail is confirmed. With usersync the row exists already."""
    email = checked.project.column("email")
    change(
        "create function public.late() returns trigger language plpgsql security definer as $$ begin"
        " if new.email_confirmed_at is not null and old.email_confirmed_at is null then"
        f' insert into {{users}} ("{checked.settings.key}", {email}) values (new.id, new.email);'
        " end if; return new; end $$;"
        "create trigger late after update on auth.users for each row execute function public.late();"
    )
    check = verdicts(canary())["D033"]
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
class TestMissingPrivilegeOfTheAuthServer:
    @pytest.mark.slow
    def test_it_is_found_in_the_auth_servers_role(self, change, canary, root):
        change(LOGGING + "revoke all on public.seen from supabase_auth_admin, public")
        check = verdicts(canary(root))["D033"]
        assert "SQLSTATE 42501, raised in public.note() (trigger note on auth.users)" in check.detail

    @pytest.mark.slow
    def test_it_is_looked_up_if_the_role_cannot_be_taken(self, change, canary):
        change(LOGGING + "revoke all on public.seen from supabase_auth_admin, public")
        found = canary()
        assert set(states(found).values()) == {"ok"}
        check = verdicts(found)["D033"]
        assert check.status == "problem"
        assert "who lacks INSERT on table public.seen" in check.detail
        change("\n".join(line for line in check.fix.splitlines() if not line.startswith("--")))
        change("alter table public.seen enable row level security")
        check = verdicts(canary())["D033"]
        assert "no policy of public.seen lets INSERT" in check.detail
        change("create policy auth_server on public.seen for insert to supabase_auth_admin with check (true)")
        assert verdicts(canary())["D033"].status == "ok"

    @pytest.mark.slow
    def test_it_is_found_on_auth_users(self, canary, root):
        root.execute("revoke update on auth.users from supabase_auth_admin")
        check = verdicts(canary())["D033"]
        assert "supabase_auth_admin lacks UPDATE on table auth.users" in check.detail


@pytest.mark.slow
@pytest.mark.newest_server
def test_a_deferred_constraint_that_would_fail_at_commit_is_found(change, canary, root):
    change(
        "create table public.invited (id uuid primary key);"
        "create table public.guests (id uuid constraint invited_only references public.invited"
        " deferrable initially deferred);"
        "create function public.guest() returns trigger language plpgsql security definer as"
        " 'begin insert into public.guests values (new.id); return new; end';"
        "create trigger guest after insert on auth.users for each row execute function public.guest();"
    )
    found = canary()
    assert states(found)["sign-up by e-mail"] == "refused"
    assert "SQLSTATE 23503, constraint invited_only" in verdicts(found)["D033"].detail


@pytest.mark.slow
@pytest.mark.newest_server
def test_a_foreign_key_that_blocks_a_deletion_is_found(checked, change, canary):
    key = '"' + checked.settings.key + '"'
    change(f"alter table {{users}} add constraint holds foreign key ({key}) references auth.users (id)")
    found = canary()
    assert [step for step, state in states(found).items() if state == "refused"] == ["hard deletion"]
    assert states(found)["sign-up again after a hard deletion"] == "not tried"
    assert "constraint holds" in verdicts(found)["D033"].detail
    assert verdicts(found)["D033"].fix == "usersync doctor --only D013,D016"


@pytest.mark.slow
@pytest.mark.newest_server
def test_only_a_sequence_that_a_trigger_uses_is_reported(checked, change, canary, root):
    change(
        "create sequence public.others; create table public.numbers (n bigint generated always as identity);"
        "create function public.count() returns trigger language plpgsql security definer as"
        " 'begin insert into public.numbers default values; return new; end';"
        "create trigger count after insert on auth.users for each row execute function public.count();"
        # This sequence is used outside the trial.
        "select nextval('public.others');"
    )
    found = canary(root)
    assert found.moved == ()
    check = verdicts(found)["D035"]
    assert check.status == "warning"
    number = "a number of the sequence public.numbers_n_seq is used for public.numbers.n"
    assert number in check.detail
    asked = canary(root, call_out=True)
    (moved,) = asked.moved
    assert (moved.name, moved.by >= len(FLOWS)) == ("public.numbers_n_seq", True)
    assert f"public.numbers_n_seq by {moved.by}" in verdicts(asked)["D035"].detail
    assert set(states(asked).values()) == {"ok"}


TRIGGER_WITH_LOCKS_AND_SETTINGS = """
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
def test_locks_and_settings_of_a_trigger_end_with_the_canary(checked, change, canary):
    change(TRIGGER_WITH_LOCKS_AND_SETTINGS)
    change("select pg_advisory_lock(9)")
    found = canary()
    assert set(states(found).values()) == {"ok"}
    held = change("select objid::bigint from pg_locks where locktype = 'advisory' and pid = pg_backend_pid()")
    assert held.fetchall() == [(9,)]


CALLS_ANOTHER_SERVER = """
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


@pytest.mark.slow
@pytest.mark.newest_server
def test_calls_to_another_server_require_call_out(checked, change, canary):
    change(CALLS_ANOTHER_SERVER)
    found = canary()
    assert set(states(found).values()) == {"not tried"}
    checks = verdicts(found)
    assert [checks[code].status for code in ("D033", "D034", "D035")] == ["warning", "skipped", "warning"]
    assert "in public.tell(), sends a request to another server" in checks["D035"].detail
    assert "--call-out" in checks["D035"].fix
    asked = canary(call_out=True)
    assert set(states(asked).values()) == {"ok"}
    assert verdicts(asked)["D035"].status == "warning"
    assert checked.check("D030").status == "warning"
    change("drop trigger welcome on {users}")
    assert checked.check("D030").status == "ok"


@pytest.mark.newest_server
def test_sign_ups_are_tried_if_only_a_delete_trigger_calls_another_server(checked, change, canary):
    """The trigger fires AFTER DELETE on a table that a sign-up inserts into."""
    change(CALLS_ANOTHER_SERVER.replace("tell after insert on", "tell after delete on"))
    assert checked.check("D030").status == "ok"
    assert states(canary())["sign-up by e-mail"] == "ok"


@pytest.mark.newest_server
def test_a_read_only_database_is_a_problem(checked, canary):
    options = {"options": "-c default_transaction_read_only=on"}
    with checked.project.database.connect("postgres", **options) as connection:
        check = verdicts(canary(connection))["D033"]
    assert check.status == "problem"
    assert "does not accept writes" in check.detail


@pytest.mark.newest_server
def test_a_role_without_privileges_still_checks_those_of_the_auth_server(checked, canary, root):
    root.execute("revoke insert on auth.users from postgres")
    root.execute("revoke delete on auth.users from supabase_auth_admin")
    check = verdicts(canary())["D033"]
    assert "nothing was tried: postgres may not insert" in check.detail
    assert "supabase_auth_admin lacks DELETE on table auth.users" in check.detail


@pytest.mark.slow
@pytest.mark.newest_server
def test_a_killed_connection_leaves_no_change(checked, canary, root):
    root.execute(
        "create function public.kill() returns trigger language plpgsql security definer as"
        " 'begin perform pg_terminate_backend(pg_backend_pid()); return old; end';"
        "create trigger kill after delete on auth.users for each row execute function public.kill();"
    )
    before = snapshot(root)
    with (
        checked.project.database.connect("postgres") as connection,
        pytest.raises(ConnectionFailedError),
    ):
        canary(connection)
    assert snapshot(root) == before


@pytest.mark.newest_server
def test_the_canary_ends_at_its_time_limit(canary, monkeypatch):
    monkeypatch.setattr(observer, "MOST_SECONDS", 0)
    found = canary()
    assert set(states(found).values()) == {"not tried"}
    assert verdicts(found)["D033"].status == "warning"


@pytest.mark.slow
@pytest.mark.newest_server
def test_a_locked_users_table_ends_the_canary_at_its_time_limit(checked, canary, root, monkeypatch):
    """Each request ends at its lock time-out."""
    monkeypatch.setattr(observer, "MOST_SECONDS", 2)
    table, column = checked.settings.users_table, checked.project.columns["email"]
    with broken_users_table(checked.project.database.dsn(), "locked", table=table, column=column):
        found = canary()
    first, *_, last = found
    assert (first.row_state, first.row_fault.sqlstate) == ("failed", "55P03")
    assert last.state == "not tried"
    assert "the trial has taken 2 s already" in verdicts(found)["D033"].detail
    assert "Another session held a lock" in verdicts(found)["D034"].fix


@pytest.mark.newest_server
def test_the_canary_works_with_an_older_auth_server(checked, canary, root):
    """The statements leave out columns and tables that this auth server does not have."""
    root.execute("drop table auth.one_time_tokens; alter table auth.users drop column reauthentication_token")
    assert set(states(canary()).values()) == {"ok"}


@pytest.mark.slow
@pytest.mark.newest_server
def test_the_canary_works_through_a_pooler_in_transaction_mode(checked, canary, root):
    before = snapshot(root)
    with pgbouncer(checked.project.database) as dsn, psycopg.connect(dsn, autocommit=True) as connection:
        assert set(states(canary(connection)).values()) == {"ok"}
    assert snapshot(root) == before


#: The findings in each sample project with usersync: state, SQLSTATE, column. All are real faults: a NOT NULL
#: column of an anonymous user, a duplicate e-mail, a value that only the application's form sends.
FOUND = {
    "marketplace": {("refused", "23505", "users_email_key")},
    "multi_tenant": {("failed", "23502", "tenant_id")},
    "nextjs_saas": {("refused", "23503", "users_id_fkey")},
    "required_columns": {("failed", "23502", "email"), ("failed", "23505", "email")},
    "text_ids": {("failed", "23502", "email"), ("failed", "23505", "email")},
}


#: SQL in place of a person's answers to init. With its proposed settings alone, no user could get a row.
ANSWERS_TO_INIT = {
    "required_columns": """
        alter table public.users alter column country drop not null, alter column tier drop not null,
            alter column terms_accepted_at drop not null, alter column referral_code drop not null
    """
}


@pytest.mark.slow
@pytest.mark.newest_server
@pytest.mark.parametrize("name", sorted(path.stem for path in SCHEMAS.glob("*.sql")))
def test_the_canary_finds_the_known_faults_of_a_sample_project(database, postgres, superuser, name):
    postgres.execute((SCHEMAS / f"{name}.sql").read_text())
    postgres.execute(ANSWERS_TO_INIT.get(name, ""))
    settings = load_settings(SCHEMAS / f"{name}.toml")
    run_plan(installation.apply(settings, adopt=True), postgres)
    before = snapshot(superuser)
    found = run_canary(superuser, settings, call_out=True)
    moved = {each.name for each in found.moved}
    after = snapshot(superuser)
    assert after[:2] == before[:2]
    assert {each for each in after[2] if after[2][each] != before[2][each]} == moved
    faults = [(each, each.fault or each.row_fault) for each in found]
    found_faults = {
        (each.flow, each.row_state or each.state, fault.sqlstate, fault.column or fault.constraint)
        for each, fault in faults
        if fault
    }
    assert {each[1:] for each in found_faults} == FOUND.get(name, set()), found_faults


@pytest.mark.newest_server
class TestTheCommand:
    @pytest.fixture
    def doctor(self, checked, tmp_path, monkeypatch, capsys):
        monkeypatch.chdir(tmp_path)
        monkeypatch.setenv("SUPABASE_DB_URL", checked.project.database.dsn())

        def call(*options):
            code = run(["doctor", *options])
            return code, capsys.readouterr()

        return call

    @pytest.mark.slow
    def test_a_healthy_project_has_no_problems(self, doctor):
        code, output = doctor("--canary")
        assert code == 0, output.out
        assert "38 ok, no warnings, no problems" in output.out
        assert "✓ D035  Canary: what a rollback does not undo: nothing" in output.out

    def test_the_other_checks_are_reported_if_the_canary_times_out(self, doctor, monkeypatch):
        """This happens on a loaded machine, if one statement takes too long."""
        slow = "set local statement_timeout = '1ms'; select pg_sleep(1)"
        monkeypatch.setattr(observer, "_SHORT", slow)
        _, output = doctor("--canary", "--json")
        checks = {check["code"]: check for check in json.loads(output.out)["checks"]}
        assert set(checks) == {f"D{number:03}" for number in range(1, 39)}
        assert [checks[code]["status"] for code in ("D001", "D032")] == ["ok", "ok"]
        assert "the trial was not finished" in checks["D033"]["detail"]

    @pytest.mark.slow
    def test_the_json_has_the_attempts_of_the_canary(self, doctor, change):
        change("alter table {users} add column demanded text not null")
        code, output = doctor("--canary", "--only", "D034", "--json")
        document = json.loads(output.out)
        assert code == 1
        assert [check["code"] for check in document["checks"]] == ["D034"]
        assert {attempt["step"] for attempt in document["canary"]["attempts"]} == set(FLOWS)
        assert document["canary"]["attempts"][0]["fault"]["column"] == "demanded"

    def test_a_check_of_the_canary_requires_the_option(self, doctor):
        code, output = doctor("--only", "D033")
        assert code == 2
        assert "need --canary" in output.err

    def test_options_without_effect_are_rejected(self, doctor):
        assert doctor("--call-out")[0] == doctor("--yes")[0] == 2
