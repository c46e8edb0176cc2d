"""Flows with effects that a rollback does not undo are tried only on request; other flows are tried."""

from __future__ import annotations

import pytest
from written_by_hand import trigger

from usersync.config.settings import parse_settings
from usersync.schema.trial import observer
from usersync.schema.trial.observer import observe
from usersync.schema.trial.rehearsal import rehearse

pytestmark = pytest.mark.newest_server

#: A function that, by its text, calls another server.
HTTP = """
    create schema if not exists extensions;
    create function extensions.http_get(url text) returns int language plpgsql as 'begin return 200; end';
    create function public.tell() returns trigger language plpgsql as
        $$ begin perform extensions.http_get('https://example.com'); return null; end $$;
"""
SIGN_UP, DELETION = "sign-up by e-mail", "hard deletion"


def test_sign_ups_are_tried_if_only_a_delete_trigger_calls_another_server(run_trial):
    """Sign-ups insert into the table, and its trigger fires when a row of it is deleted."""
    sql = (
        HTTP
        + "create table public.people (id uuid primary key references auth.users on delete cascade);"
        + "create trigger tell after delete on public.people for each row execute function public.tell();"
        + trigger("insert into public.people values (new.id);")
    )
    trial = run_trial(sql, SIGN_UP, "sign-in", DELETION)
    assert [trial[flow].state for flow in (SIGN_UP, "sign-in", DELETION)] == [
        "accepted",
        "accepted",
        "not tried",
    ]
    assert trial[DELETION].reason.startswith(
        "the trigger tell on public.people, in extensions.http_get(text)"
    )
    assert trial[DELETION].lasts
    assert run_trial("select", DELETION, call_out=True)[DELETION].state == "accepted"


def test_dynamic_sql_counts_as_firing_any_trigger(run_trial):
    sql = (
        HTTP
        + "create table public.people (id uuid primary key);"
        + "create trigger tell after delete on public.people for each row execute function public.tell();"
        + trigger("execute 'delete from public.' || 'people';")
    )
    assert run_trial(sql, SIGN_UP)[SIGN_UP].state == "not tried"


def test_a_flow_with_calls_through_pg_net_is_tried(run_trial):
    sql = (
        "create schema net; create table net.http_request_queue (url text);"
        "create function net.http_post(url text) returns void language sql as"
        " 'insert into net.http_request_queue values ($1)';"
        + trigger("perform net.http_post('https://example.com');")
    )
    seen = run_trial(sql, SIGN_UP)[SIGN_UP]
    assert seen.state == "accepted"
    assert seen.written["net.http_request_queue"].inserted == 1


def test_sequence_numbers_that_are_data_are_used_only_on_request(run_trial, postgres):
    """Member numbers must have no gaps; keys may have gaps."""
    sql = (
        "create table public.users (id uuid primary key, member_no bigserial);"
        "create table public.noted (id bigserial primary key, about uuid);"
        + trigger(
            "insert into public.users (id) values (new.id); insert into public.noted (about) values (new.id);"
        )
    )
    trial = run_trial(sql, SIGN_UP)
    assert trial[SIGN_UP].state == "not tried"
    assert trial.lasting == (
        "a number of the sequence public.users_member_no_seq is used for public.users.member_no",
    )
    last = "select last_value, is_called from public.users_member_no_seq"
    assert postgres.execute(last).fetchone() == (1, False)
    trial = run_trial("select", SIGN_UP, call_out=True)
    assert trial[SIGN_UP].state == "accepted"
    assert {each.name for each in trial.moved} == {"public.users_member_no_seq", "public.noted_id_seq"}


def test_a_flow_whose_trigger_uses_a_sequence_is_not_tried(run_trial):
    sql = (
        "create sequence public.invoices; create table public.bills (who uuid primary key, number text);"
        + trigger("insert into public.bills values (new.id, 'INV-' || nextval('public.invoices'));")
    )
    trial = run_trial(sql, SIGN_UP)
    assert trial.lasting == ("a number of the sequence public.invoices is used",)
    assert trial[SIGN_UP].state == "not tried"


def test_a_time_out_before_the_first_flow_raises_nothing(run_trial, monkeypatch):
    """The trial reports that it was not finished."""
    slow = "set local statement_timeout = '1ms'; select pg_sleep(1)"
    monkeypatch.setattr(observer, "_SHORT", slow)
    trial = run_trial("select", SIGN_UP)
    assert trial.observations == {}
    assert "the trial was not finished" in trial.obstacle.message


@pytest.mark.slow
def test_a_rehearsal_measures_the_time_that_usersync_adds(postgres, install):
    postgres.execute("create table public.users (id uuid primary key, email text)")
    settings = parse_settings({"columns": {"email": "email"}})
    changes = install(settings)
    before = observe(postgres, settings)
    done = rehearse(postgres, settings, before, changes)
    assert [each.message for each in done.to_accept] == []
    assert [each.flow for each in done.timings] == [
        "sign-up by e-mail with autoconfirm",
        "sign-in",
        "change of e-mail",
        "hard deletion",
    ]
    assert all(0 < each.usersync < each.total for each in done.timings), done.timings
