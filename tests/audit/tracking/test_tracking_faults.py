"""Promise P4 for row tracking: the application's statement succeeds in any state of the log."""

from __future__ import annotations

import time

import pytest

from usersync.audit import upkeep
from usersync.config.redaction import _LAST, _PAIRS, _STRONG, Redactor
from usersync.schema import installation
from usersync.transports.run import run


@pytest.fixture
def tracker(tracker):
    tracker.execute("create table products (id int primary key, name text, qty int)")
    tracker.track("products")
    return tracker


def write_all(tracker):
    tracker.execute("insert into products values (1, 'Bolt', 5)")
    tracker.execute("update products set qty = 6")
    tracker.execute("delete from products")
    tracker.execute("truncate products")


REJECTED = [
    ("products.inserted", "1", {"id": [None, 1], "name": [None, "Bolt"], "qty": [None, 5]}),
    ("products.updated", "1", {"qty": [5, 6]}),
    ("products.deleted", "1", {"id": [1, None], "name": ["Bolt", None], "qty": [6, None]}),
    ("products.truncated", None, None),
]


FAULTS = {
    "missing": "alter table public.audit_logs rename to gone",
    "renamed column": "alter table public.audit_logs rename column actor_id to who",
    "required column": (
        "alter table public.audit_logs add column must_have text not null default 'x'; "
        "alter table public.audit_logs alter column must_have drop default"
    ),
    "constraint": "alter table public.audit_logs add check (false) not valid",
    "failing trigger": (
        "create function public.fail() returns trigger language plpgsql as "
        "$$ begin assert false, 'no'; end $$; create trigger fail before insert on public.audit_logs "
        "for each row execute function public.fail()"
    ),
}


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS.keys())
def test_changes_that_the_log_does_not_accept_are_rejected(tracker, fault):
    tracker.execute(fault)
    write_all(tracker)
    assert [row[:3] for row in tracker.rejects()] == REJECTED


def test_rejected_changes_can_be_retried(tracker):
    tracker.execute("alter table public.audit_logs rename to gone")
    write_all(tracker)
    tracker.execute("alter table public.gone rename to audit_logs")
    assert run(upkeep.retry_rejects(), tracker.project.owner).stored == len(REJECTED)
    assert tracker.events() == REJECTED


def test_if_a_change_cannot_be_stored_there_is_a_warning(tracker):
    heard = []
    tracker.execute("drop table public.audit_logs cascade; drop table usersync.audit_rejects")
    tracker.project.owner.add_notice_handler(lambda notice: heard.append(notice.message_primary))
    write_all(tracker)
    assert len(heard) == 4
    assert all(
        message.startswith("usersync: changes of public.products were not recorded") for message in heard
    )


def test_a_lock_on_the_log_delays_a_statement_at_most_by_the_lock_timeout(tracker):
    with tracker.session() as locking:
        locking.execute("lock table public.audit_logs in access exclusive mode")
        started = time.monotonic()
        tracker.execute("insert into products values (1, 'Bolt', 5)")
        # No figure: the lock is released only afterwards.
        assert time.monotonic() - started < 60
    assert [row[3] for row in tracker.rejects()] == ["55P03"]


@pytest.mark.slow
def test_a_transaction_waits_once_for_all_its_statements(tracker):
    with tracker.session() as locking, tracker.session() as writing:
        locking.execute(
            "lock table public.audit_logs in access exclusive mode; "
            "lock table usersync.audit_rejects in share mode"
        )
        writing.execute("insert into products values (1, 'Bolt', 5)")
        assert writing.execute("show usersync.has_waited").fetchone() == ("yes",)
        writing.execute("set local statement_timeout = '30s'")  # a quarter of a second each is more
        writing.execute(
            "do $$ begin for n in 1..130 loop update products set qty = qty + 1; end loop; end $$"
        )


def test_a_lock_on_the_users_table_does_not_delay_a_statement_longer(tracker):
    user_id = tracker.project.auth.sign_up_email("ada@example.com")
    with tracker.session() as locking, tracker.session(usersync__actor_id=str(user_id)) as writing:
        locking.execute(f"lock table {tracker.project.users} in access exclusive mode")
        writing.execute("insert into products values (1, 'Bolt', 5)")
        writing.commit()
    assert [row[:2] for row in tracker.rejects()] == [("products.inserted", "1")]


def test_cancelling_a_statement_raises_query_canceled(tracker):
    # A session requests query_canceled. It is not an error of recording.
    tracker.execute(
        "create function public.slow() returns trigger language plpgsql as "
        "$$ begin perform pg_sleep(60); return new; end $$; "
        "create trigger slow before insert on public.audit_logs for each row execute function public.slow()"
    )
    with (
        tracker.session(statement_timeout="200ms") as session,
        pytest.raises(Exception, match="statement timeout"),
    ):
        session.execute("insert into products values (1, 'Bolt', 5)")


def test_a_dropped_or_renamed_column_fails_no_statement(tracker):
    tracker.execute(
        "alter table products drop column name; alter table products rename column qty to quantity"
    )
    tracker.execute("alter table products add column size int default 3")
    tracker.execute("insert into products values (1, 5)")
    tracker.execute("update products set quantity = 6")
    tracker.execute("delete from products")
    assert tracker.events() == [
        ("products.inserted", "1", {"id": [None, 1], "quantity": [None, 5], "size": [None, 3]}),
        ("products.updated", "1", {"quantity": [5, 6]}),
        ("products.deleted", "1", {"id": [1, None], "quantity": [6, None], "size": [3, None]}),
    ]
    assert set(tracker.events("metadata ->> 'tracking'")) == {"stale"}
    assert not tracker.rejects()
    (table,) = tracker.tracked()
    assert table.state == "stale"
    assert "quantity, size" in table.reasons[0]
    assert "name, qty" in table.reasons[1]
    tracker.track("products")
    tracker.execute("insert into products values (1, 5)")
    assert tracker.events("changes")[-1] == {"id": [None, 1], "quantity": [None, 5], "size": [None, 3]}
    assert (tracker.tracked()[0].reasons, tracker.tracked()[0].state) == ((), "current")


def test_remaining_columns_are_recorded_with_a_stale_definition(tracker):
    tracker.execute("alter table products drop column name")
    tracker.execute("insert into products values (1, 5), (2, 6)")
    tracker.execute("update products set qty = qty * 2, id = id + 1 where id = 2")
    assert tracker.events("entity_id, metadata ->> 'previous_entity_id', changes")[-1] == (
        "3",
        "2",
        {"id": [2, 3], "qty": [6, 12]},
    )


def test_columns_are_recorded_from_the_first_statement_on(tracker):
    """The session has cached its query plans before another session alters the table."""
    tracker.execute("create table noted (id int primary key, name text, note text, pin text)")
    tracker.execute("create table chosen (id int primary key, name text, qty int)")
    tracker.track("noted", exclude=("note",), reveal=("pin",))
    tracker.track("chosen", columns=("name",))
    with tracker.project.database.connect("postgres") as session:
        session.execute(
            "insert into noted values (1, 'a', 'private', '0'); insert into chosen values (1, 'a', 1)"
        )
        tracker.execute(
            "alter table noted add column size int, add column api_token text, add column has_secret bool; "
            "alter table noted rename column name to label; alter table chosen add column size int"
        )
        session.execute(
            "update noted set label = 'b', size = 3, api_token = 'x', has_secret = true, pin = '1'"
        )
        session.execute("update noted set note = 'still private'")
        session.execute("update chosen set size = 3")
        session.execute("update chosen set name = 'b'")
        tracker.execute("alter table chosen rename column name to title")
        session.execute("update chosen set title = 'c'")
        tracker.execute("alter table noted rename column id to noted_id; alter table noted rename to notes")
        session.execute("update notes set size = 4")
    changed = tracker.events("entity_type, entity_id, changes, metadata ->> 'tracking'")[2:]
    altered = {"label": ["a", "b"], "size": [None, 3], "has_secret": [None, True], "pin": ["0", "1"]}
    assert changed == [
        ("noted", "1", {**altered, "api_token": [None, "[redacted]"]}, "stale"),
        ("chosen", "1", {"name": ["a", "b"]}, None),
        ("noted", "1", {"size": [3, 4]}, "stale"),
    ]
    assert not tracker.rejects()


def test_apply_updates_the_functions_after_the_columns_have_changed(tracker):
    tracker.execute("alter table products add column api_token text, add column size int, drop column name")
    run(installation.apply(tracker.project.settings), tracker.project.owner)
    (table,) = tracker.tracked()
    assert (table.state, table.columns) == ("current", ("id", "qty", "api_token", "size"))
    assert table.redacted == ("api_token",)
    tracker.execute("insert into products values (1, 5, 'secret', 3)")
    tracker.execute("alter table products alter size type text")
    tracker.execute("update products set size = 'XL'")
    assert tracker.tracked()[0].reasons[0].startswith("the type of a column changed since")
    assert tracker.events("changes, metadata ->> 'tracking'") == [
        ({"id": [None, 1], "qty": [None, 5], "api_token": [None, "[redacted]"], "size": [None, 3]}, None),
        ({"size": ["3", "XL"]}, "stale"),
    ]
    assert not tracker.rejects()


def test_the_database_redacts_at_least_the_names_that_python_redacts(tracker):
    befores = {word for words in _PAIRS.values() for word in words}
    lasts = {*_PAIRS, *_LAST, *_STRONG}
    names = [f"{before}_{last}" for before in befores for last in _PAIRS]
    names += [
        each for last in lasts for each in (last, f"user_{last}", f"user{last.title()}", f"{last}_hash")
    ]
    names += [
        each
        for strong in _STRONG
        for each in (f"user{strong}", f"{strong}s", f"{strong}2", f"API{strong.title()}")
    ]
    names += [
        "encrypted_x",
        "slack_webhook_url",
        "APIKey",
        "apiKey",
        "api-key",
        "\uff41\uff50\uff49_key",
        "token2",
    ]
    found = tracker.execute(
        "select name from unnest(%s::text[]) as name where not usersync.may_be_secret(name)", names
    )
    recorded = {name for (name,) in found}
    assert [name for name in names if Redactor().is_secret(name) and name in recorded] == []
    harmless = [
        "name",
        "quantity",
        "created_at",
        "shipping",
        "author",
        "company",
        "passenger",
        "note",
        "números",
    ]
    asked = tracker.execute("select usersync.may_be_secret(name) from unnest(%s::text[]) as name", harmless)
    assert {may for (may,) in asked} == {False}


@pytest.mark.parametrize("type", ["text", "json", "bigint", "point", "bytea"])
def test_a_changed_column_type_fails_no_statement(tracker, type):  # noqa: A002
    using = "null" if type in {"point", "bytea"} else f"qty::text::{type}"
    value = {"point": "'(1,2)'", "json": "'8'", "bytea": r"'\x01'"}.get(type, "8")
    tracker.execute(
        f"insert into products values (1, 'Bolt', 5); "
        f"alter table products alter qty type {type} using {using}"
    )
    tracker.execute(f"update products set qty = {value}")
    assert tracker.events("action") == ["products.inserted", "products.updated"]
    assert tracker.events("metadata ->> 'tracking'") == [None, "stale"]
    assert not tracker.rejects()


def test_every_column_is_read_correctly_with_a_stale_definition(tracker):
    tracker.execute("create type mood as enum ('glad', 'very, \"sad\"')")
    tracker.execute("create domain price as numeric")
    tracker.execute(
        "create table kinds (id bigint primary key, gone int, price price, ok bool, at timestamptz, "
        "mood mood, moods mood[], note text, empty text, nothing text, doc json, docb jsonb, alien json, "
        "n float8)"
    )
    tracker.track("kinds")
    tracker.execute("alter table kinds drop column gone")
    note = 'a,b "c" \\ (d)\n'
    tracker.execute(
        "insert into kinds values (1, 1.50, true, '2026-01-01 12:00+02', 'very, \"sad\"', '{glad}', %s, '', "
        "null, '{\"a\": [1]}', '{\"b\": \"\\\\\"}', '1e400000', 'NaN')",
        note,
    )
    (changes,) = tracker.events("changes")
    assert {name: new for name, (_, new) in changes.items()} == {
        "id": 1,
        "price": 1.5,
        "ok": True,
        "at": "2026-01-01T10:00:00+00:00",
        "mood": 'very, "sad"',
        "moods": "{glad}",
        "note": note,
        "empty": "",
        "doc": {"a": [1]},
        "docb": {"b": "\\"},
        "alien": "1e400000",
        "n": "NaN",
    }
    assert not tracker.rejects()


def test_secrets_stay_redacted_with_a_stale_definition(tracker):
    tracker.execute("create table accounts (id int primary key, password text, other int, note text)")
    tracker.track("accounts", exclude=("note",))
    tracker.execute("alter table accounts drop column other")
    tracker.execute("insert into accounts values (1, 'hunter2', 'private')")
    assert tracker.events("changes") == [{"id": [None, 1], "password": [None, "[redacted]"]}]
