"""What a trial observes, and that it changes nothing in the database."""

from __future__ import annotations

from pathlib import Path

import pytest
from written_by_hand import trigger

from usersync.gotrue import GoTrue
from usersync.schema.trial.flows import FLOWS
from usersync.schema.trial.observation import VARIES, is_constant, source_of

SCHEMAS = Path(__file__).parent.parent / "schemas"
SIGN_UP = "sign-up by e-mail"

pytestmark = pytest.mark.newest_server


def only(rows):
    (row,) = rows
    return row


def test_an_empty_project_accepts_every_flow(run_trial):
    trial = run_trial("select")
    assert {each.flow: each.state for each in trial} == dict.fromkeys(FLOWS, "accepted"), [
        str(each.fault or each.reason) for each in trial if each.state != "accepted"
    ]
    assert [each.flow for each in trial if each.written] == []
    assert trial.tried_as == "postgres"
    assert trial[SIGN_UP].statements == ("INSERT", "UPDATE", "UPDATE", "UPDATE", "UPDATE")


@pytest.mark.slow
def test_the_row_of_a_copying_trigger_is_observed(run_trial):
    trial = run_trial((SCHEMAS / "user_management.sql").read_text())
    assert trial.tables_of_users() == {"public.profiles": {"id"}}
    row = only(trial[SIGN_UP].written["public.profiles"].rows)
    assert row.kind == "made"
    assert row.values == {
        "id": "<id>",
        "full_name": "<user_metadata.full_name>",
        "avatar_url": "<user_metadata.avatar_url>",
        "username": None,
        "website": None,
        "updated_at": None,
    }
    assert source_of(row.values["full_name"]) == "user_metadata.full_name"
    # The foreign key deletes the row with the user. A soft deletion leaves it unchanged.
    assert only(trial["hard deletion"].written["public.profiles"].rows).kind == "removed"
    assert trial["soft deletion"].written == {}
    kept = only(trial["soft deletion"].tables["public.profiles"].rows)
    assert (kept.kind, kept.values["full_name"]) == ("kept", "<user_metadata.full_name before>")


@pytest.mark.slow
def test_rows_of_dependent_tables_are_observed(run_trial):
    trial = run_trial((SCHEMAS / "marketplace.sql").read_text())
    seen = trial[SIGN_UP]
    assert set(seen.written) == {"public.users", "public.wallets"}
    assert only(seen.written["public.wallets"].rows).values == {"user_id": "<id>", "balance": 0}
    assert only(seen.written["public.users"].rows).values["kind"] == "buyer"
    again = trial["sign-up by SSO with an address that another user has"]
    assert (again.state, again.fault.sqlstate, again.failed_statement) == (
        "refused",
        "23505",
        "INSERT INTO auth.users",
    )
    assert again.fault.raised_in == "public.handle_new_user()"
    assert again.fault.trigger == "on_auth_user_created on auth.users"
    followed = only(trial["change of e-mail"].written["public.users"].rows)
    assert followed.changed_columns == {"email"}
    assert (followed.before["email"], followed.values["email"]) == ("<email before>", "<email>")


def test_a_row_without_the_users_key_is_observed(run_trial):
    """The table's key is random. Its name and e-mail come from the user."""
    sql = (
        "create table public.teams (id uuid primary key default gen_random_uuid(), name text, email text,"
        " made_at timestamptz default now(), number bigint generated always as identity);"
        + trigger("insert into public.teams (name, email) values ('Team of ' || new.email, new.email);")
    )
    trial = run_trial(sql, SIGN_UP, "hard deletion", call_out=True)  # the team's number is no key
    assert only(trial[SIGN_UP].written["public.teams"].rows).values == {
        "id": VARIES,
        "name": "Team of <email>",
        "email": "<email>",
        "made_at": "<now>",
        "number": VARIES,
    }
    assert trial.tables_of_users() == {}
    assert trial["hard deletion"].written == {}


def test_a_row_created_at_the_confirmation_is_observed(run_trial):
    sql = "create table public.people (id uuid primary key, email text);" + trigger(
        "if old.email_confirmed_at is null and new.email_confirmed_at is not null then "
        "insert into public.people values (new.id, new.email); end if;",
        when="after update",
    )
    trial = run_trial(sql, SIGN_UP, "confirmation", "anonymous sign-up", "sign-up by e-mail with autoconfirm")
    assert {each.flow for each in trial if each.written} == {
        "confirmation",
        "sign-up by e-mail with autoconfirm",
    }


def test_constants_are_distinguished_from_computed_values(run_trial):
    sql = (
        "create table public.people (id uuid primary key, role text, bio text not null, name text, code text,"
        " tenant uuid, at timestamptz);"
        + trigger(
            "insert into public.people values (new.id, 'client', '', left(new.id::text, 8),"
            " md5(random()::text), '11111111-1111-4111-8111-111111111111', new.created_at);"
        )
    )
    row = only(run_trial(sql, SIGN_UP)[SIGN_UP].written["public.people"].rows).values
    assert row == {
        "id": "<id>",
        "role": "client",
        "bio": "",
        "name": VARIES,
        "code": VARIES,
        "tenant": "11111111-1111-4111-8111-111111111111",
        "at": "<created_at>",
    }
    assert {name for name, value in row.items() if is_constant(value)} == {"role", "bio", "tenant"}


def test_rows_are_found_through_other_tables(run_trial):
    """The user has an account, the account has preferences, and a log has no keys."""
    sql = (
        "create table public.accounts (number bigint generated always as identity primary key,"
        " owner uuid references auth.users on delete cascade);"
        "create table public.preferences (account bigint primary key references public.accounts"
        " on delete cascade, theme text default 'dark');"
        "create table public.noted (what text);"
        + trigger(
            "insert into public.accounts (owner) values (new.id);"
            "insert into public.preferences select number from public.accounts where owner = new.id;"
            "insert into public.noted values ('a sign-up');"
        )
    )
    trial = run_trial(sql, SIGN_UP, "hard deletion")
    seen = trial[SIGN_UP].written
    assert only(seen["public.preferences"].rows).values == {"account": VARIES, "theme": "dark"}
    assert (seen["public.noted"].inserted, seen["public.noted"].rows) == (1, ())
    gone = trial["hard deletion"].written
    assert {name: table.deleted for name, table in gone.items()} == {
        "public.accounts": 1,
        "public.preferences": 1,
    }


def test_a_large_table_is_read_only_through_an_index(run_trial):
    sql = (
        "create table public.people (id uuid primary key, email text, filler text);"
        "create table public.notes (about uuid, filler text);"
        "insert into public.people select gen_random_uuid(), n::text, repeat('x', 300)"
        " from generate_series(1, 5000) as n;"
        "insert into public.notes select gen_random_uuid(), repeat('x', 300) from generate_series(1, 5000);"
        + trigger(
            "insert into public.people (id, email) values (new.id, new.email);"
            "insert into public.notes (about) values (new.id);"
        )
    )
    seen = run_trial(sql, SIGN_UP)[SIGN_UP].written
    assert only(seen["public.people"].rows).values["email"] == "<email>"
    assert seen["public.notes"].rows is None
    assert seen["public.notes"].inserted == 1


def test_a_change_of_the_row_in_auth_users_is_observed(run_trial):
    sql = trigger(
        'new.raw_user_meta_data := new.raw_user_meta_data || \'{"plan": "free"}\';', when="before insert"
    )
    row = only(run_trial(sql, SIGN_UP)[SIGN_UP].tables["auth.users"].rows)
    assert row.values["raw_user_meta_data"]["plan"] == "free"
    assert row.values["raw_user_meta_data"]["full_name"] == "<user_metadata.full_name>"


def test_metadata_that_a_trigger_requires_is_sent_if_the_flow_has_metadata(run_trial):
    sql = "create table public.people (id uuid primary key, handle text not null);" + trigger(
        "insert into public.people values (new.id, new.raw_user_meta_data ->> 'handle');"
    )
    trial = run_trial(sql, SIGN_UP, "sign-up by wallet (Web3)")
    assert only(trial[SIGN_UP].written["public.people"].rows).values["handle"] == "<user_metadata.handle>"
    assert "handle" in trial.metadata_keys[SIGN_UP]
    assert trial["sign-up by wallet (Web3)"].fault.column == "handle"


def test_metadata_that_must_be_a_number_is_not_sent(run_trial):
    sql = "create table public.people (id uuid primary key, age integer);" + trigger(
        "insert into public.people values (new.id, (new.raw_user_meta_data ->> 'age')::integer);"
    )
    trial = run_trial(sql, SIGN_UP)
    assert trial[SIGN_UP].state == "accepted"
    assert trial.metadata_keys[SIGN_UP] == ("full_name", "name")


def test_a_trial_without_an_accepted_sign_up_observes_nothing(run_trial):
    trial = run_trial(trigger("raise exception 'no invitation';"))
    assert trial.observed_nothing
    assert {each.state for each in trial.of_kind("sign-up")} <= {"refused", "not tried"}
    assert trial[SIGN_UP].fault.message == "no invitation"
    assert trial["confirmation"].reason == "it requires: sign-up by e-mail, which fails"


def test_a_trigger_that_writes_to_a_dropped_table_refuses_the_flow(run_trial):
    sql = (
        "create table public.people (id uuid primary key);"
        + trigger("insert into public.people values (new.id);")
        + "drop table public.people;"
    )
    trial = run_trial(sql, SIGN_UP)
    assert [each.fault.sqlstate for each in trial.refused] == ["42P01"]


def test_flows_that_an_older_auth_server_does_not_have_are_not_tried(run_trial, superuser):
    superuser.execute(
        "alter table auth.users drop column is_anonymous, drop column is_sso_user cascade;"
        "drop table auth.one_time_tokens, auth.mfa_factors"
    )
    trial = run_trial("select")
    assert {each.state for each in trial} == {"accepted", "not tried"}
    assert trial["anonymous sign-up"].reason == "this auth server has no column is_anonymous yet"
    assert trial["soft deletion"].state == "accepted"


@pytest.mark.slow
def test_a_slow_flow_is_not_tried_and_the_trial_continues(run_trial):
    sql = trigger("if new.is_anonymous then perform pg_sleep(30); end if;")
    trial = run_trial(sql, "anonymous sign-up", SIGN_UP)
    assert (trial["anonymous sign-up"].state, trial[SIGN_UP].state) == ("not tried", "accepted")
    assert trial["anonymous sign-up"].reason == "it took longer than 3 s"


@pytest.mark.slow
def test_a_flow_that_another_session_blocks_is_not_tried(run_trial, superuser):
    sql = "create table public.people (id uuid primary key);" + trigger(
        "insert into public.people values (new.id);"
    )
    run_trial(sql, SIGN_UP)
    with superuser.transaction():
        superuser.execute("lock table public.people")
        trial = run_trial("select", SIGN_UP)
    assert trial[SIGN_UP].state == "not tried"
    assert "another session blocked it" in trial[SIGN_UP].reason


@pytest.mark.slow
def test_a_trial_leaves_no_row_no_setting_and_no_lock(run_trial, postgres, superuser):
    sql = "create table public.people (id uuid primary key, email text);" + trigger(
        "insert into public.people values (new.id, new.email);"
        "perform set_config('statement_timeout', '0', false), pg_advisory_lock(7);"
    )
    before = postgres.execute("show statement_timeout").fetchone()
    trial = run_trial(sql)
    assert not trial.observed_nothing
    assert postgres.execute("select count(*) from public.people").fetchone() == (0,)
    assert superuser.execute("select count(*) from auth.users").fetchone() == (0,)
    assert superuser.execute("select count(*) from auth.identities").fetchone() == (0,)
    assert postgres.execute("show statement_timeout").fetchone() == before
    # Only locks in this database, because the suite has other locks on the same server.
    locks = (
        "select count(*) from pg_locks join pg_database on pg_database.oid = database "
        "where locktype = 'advisory' and datname = current_database()"
    )
    assert postgres.execute(locks).fetchone() == (0,)


def test_a_superuser_runs_the_trial_as_the_auth_servers_role(run_trial, superuser):
    trial = run_trial("select", SIGN_UP, connection=superuser)
    assert (trial.tried_as, trial.was_assumed) == ("supabase_auth_admin", True)


def test_existing_users_are_not_changed(run_trial, database, superuser):
    with GoTrue(database.dsn("supabase_auth_admin")) as auth:
        user_id = auth.sign_up_email("ada@example.com")
    before = superuser.execute("select xmin, * from auth.users where id = %s", [user_id]).fetchone()
    run_trial("select")
    assert superuser.execute("select xmin, * from auth.users where id = %s", [user_id]).fetchone() == before


def test_a_random_key_also_varies_in_rows_that_the_flow_does_not_write(run_trial):
    """The requests before the flow create the rows, with another key each time."""
    sql = (
        "create table public.people (id uuid primary key);"
        "create table public.plans (id uuid primary key default gen_random_uuid(),"
        " owner uuid references public.people);"
        + trigger(
            "insert into public.people values (new.id); insert into public.plans (owner) values (new.id);"
        )
    )
    seen = run_trial(sql, "sign-in")["sign-in"]
    assert seen.written == {}
    assert only(seen.tables["public.plans"].rows).values == {"id": VARIES, "owner": "<id>"}
