"""No content of an event makes recording raise: invalid events are rejected, others are stored."""

from __future__ import annotations

import json
from uuid import uuid4

import psycopg
import pytest
from psycopg.types.json import Jsonb
from sql_log import as_sent, event

LONG = "x" * 201

#: Each malformed event, the SQLSTATE, and the start of its reason.
MALFORMED = {
    "string": ("an event", "22023", "an event must be a JSON object, not a JSON string"),
    "number": (7, "22023", "an event must be a JSON object, not a JSON number"),
    "null": (None, "22023", "an event must be a JSON object, not a JSON null"),
    "array": ([event()], "22023", "an event must be a JSON object, not a JSON array"),
    "empty": ({}, "23514", "action: "),
    "no action": ({"id": str(uuid4())}, "23514", "action: "),
    "null action": (event(action=None), "23514", "action: "),
    "empty action": (event(action=""), "23514", "action: "),
    "long action": (event(action=LONG), "23514", "action: "),
    "bad id": (event(id="product-42"), "22P02", "id: "),
    "id of a wrong type": (event(id={"a": 1}), "22P02", "id: "),
    "bad user id": (event(user_id="ada"), "22P02", "user_id: "),
    "bad time": (event(occurred_at="half past nine"), "22007", "occurred_at: "),
    "no such day": (event(occurred_at="2026-02-30"), "22008", "occurred_at: "),
    "time of a wrong type": (event(occurred_at=1767225600), "22008", "occurred_at: "),
    "infinite time": (event(occurred_at="infinity"), "23514", "occurred_at: "),
    "time before years": (event(occurred_at="4000-01-01 BC"), "23514", "occurred_at: "),
    "time after years": (event(occurred_at="12000-01-01"), "23514", "occurred_at: "),
    "bad address": (event(ip="203.0.113.700"), "22P02", "ip: "),
    "bad outcome": (event(outcome="success"), "23514", "outcome: "),
    "bad actor type": (event(actor_type="robot"), "23514", "actor_type: "),
    "bad source": (event(source="elsewhere"), "23514", "source: "),
    "long actor": (event(actor_id=LONG), "23514", "actor_id: "),
    "long entity type": (event(entity_type=LONG), "23514", "entity_type: "),
    "long entity": (event(entity_id=LONG), "23514", "entity_id: "),
    "long request": (event(request_id=LONG), "23514", "request_id: "),
    "metadata is a list": (event(metadata=[1]), "23514", "metadata: "),
    "metadata is a string": (event(metadata="x"), "23514", "metadata: "),
    "changes are a number": (event(changes=3), "23514", "changes: "),
}


@pytest.mark.parametrize("kind", MALFORMED)
def test_a_malformed_event_is_rejected_and_the_others_are_stored(log, kind):
    bad, sqlstate, reason = MALFORMED[kind]
    good = [event(occurred_at="2026-03-01"), event(occurred_at="2026-03-02")]
    assert log.record(good[0], bad, good[1]) == (2, 0, 1)
    assert [str(row["id"]) for row in log.rows()] == [each["id"] for each in good]
    ((kept, state, why),) = log.rejects()
    assert as_sent(kept) == as_sent(bad)
    assert (state, why[: len(reason)]) == (sqlstate, reason)


@pytest.mark.newest_server
def test_malformed_events_of_every_kind_are_rejected_in_one_batch(log):
    bad = [event for event, _, _ in MALFORMED.values()]
    good = [event() for _ in range(300)]
    mixed = [each for n, each in enumerate(good) for each in ([each, bad[n]] if n < len(bad) else [each])]
    assert log.record(*mixed) == (len(good), 0, len(bad))
    assert {str(row["id"]) for row in log.rows()} == {each["id"] for each in good}
    assert [as_sent(kept) for kept, _, _ in log.rejects()] == [as_sent(each) for each in bad]


@pytest.mark.newest_server
def test_malformed_events_use_no_subtransactions(log, project):
    """Halving the batch for each malformed event would use several subtransactions."""
    events = [event(ip=None if n % 10 else "nowhere") for n in range(2_000)]
    with project.database.connect("supabase_admin") as superuser, superuser.transaction():
        superuser.execute("set local track_functions = 'pl'")
        (counted,) = superuser.execute(
            "select public.record_audit_events(%s)", [json.dumps(events)]
        ).fetchone()
        assert len(counted.pop("rejects")) == 5
        assert counted == {"stored": 1_800, "duplicates": 0, "rejected": 200}
        attempts = "select calls from pg_stat_xact_user_functions where funcname = 'insert_audit_events'"
        assert superuser.execute(attempts).fetchone() == (1,)  # failed subtransactions are not counted


def test_a_rejected_event_with_an_id_is_kept_once(log):
    bad = event(ip="nowhere")
    assert log.record(bad) == (0, 0, 1)
    assert log.record(bad, bad | {"ip": "elsewhere"}) == (0, 0, 2)
    assert [kept["ip"] for kept, _, _ in log.rejects()] == ["nowhere", "elsewhere"]
    # Two events without an id are different events, even with equal content.
    assert log.record({"ip": "nowhere"}, {"ip": "nowhere"}) == (0, 0, 2)
    assert len(log.rejects()) == 4


def test_numbers_are_stored_as_text_and_nulls_as_missing_fields(log):
    given = dict.fromkeys(("outcome", "actor_id", "user_id", "changes", "metadata", "ip", "source"), None)
    assert log.record(event(entity_type="product", entity_id=42, request_id=3.5, **given)) == (1, 0, 0)
    row = log.row()
    assert (row["entity_id"], row["request_id"]) == ("42", "3.5")
    assert (row["outcome"], row["actor_type"], row["source"], row["metadata"]) == (
        "succeeded",
        "system",
        "app",
        {},
    )


def test_unknown_fields_are_ignored(log):
    assert log.record(event(recorded_at="1999-01-01", colour="red")) == (1, 0, 0)
    assert log.row()["recorded_at"].year > 1999  # recorded_at is the time of the server's clock


@pytest.mark.slow
@pytest.mark.newest_server
def test_an_event_of_ten_megabytes_is_stored(log):
    big = event(metadata={"text": "ü" * 5_000_000}, user_agent="z" * 100_000)
    assert log.record(event(), big, event()) == (3, 0, 0)
    assert {len(row["metadata"].get("text", "")) for row in log.rows()} == {0, 5_000_000}


@pytest.mark.newest_server
def test_deeply_nested_json_is_stored(log):
    depth = 2_000
    text = json.dumps([event(), event(metadata={"deep": "here"})]).replace(
        '"here"', "[" * depth + "]" * depth
    )
    stored = log.owner.execute("select public.record_audit_events(%s::jsonb) ->> 'stored'", [text]).fetchone()
    assert stored == ("2",)


@pytest.mark.parametrize("events", [None, "null", "{}", '"x"', "5", '{"0": {"action": "a"}}'])
def test_a_value_other_than_an_array_raises(log, events):
    with pytest.raises(psycopg.errors.InvalidParameterValue, match="expected a JSON array of events"):
        log.owner.execute("select public.record_audit_events(%s::jsonb)", [events])


def test_an_empty_array_stores_no_event(log):
    assert log.record() == (0, 0, 0)
    assert log.rows() == log.rejects() == []


@pytest.mark.newest_server
def test_unknown_keys_are_kept_in_the_metadata_and_counted(log):
    sent = [
        event(entitty_id="42", actor="ada"),
        event(metadata={"note": 1, "unknown": {"before": 2}}, tenant="t"),
        event(metadata={"unknown": 3}, tenant={"id": 4}),
        event(metadata=None, tenant=None),
        event(metadata={"note": 1}),
        event(metadata=[1], tenant="t"),
        "an event",
    ]
    answer = log.owner.execute("select public.record_audit_events(%s)", [Jsonb(sent)]).fetchone()[0]
    assert {name: answer[name] for name in ("stored", "rejected", "duplicates", "unknown")} == {
        "stored": 5, "rejected": 2, "duplicates": 0, "unknown": 4,
    }  # fmt: skip
    kept = {str(row["id"]): row["metadata"] for row in log.rows()}
    assert [kept.get(each["id"]) for each in sent[:5]] == [
        {"unknown": {"entitty_id": "42", "actor": "ada"}},
        {"note": 1, "unknown": {"before": 2, "tenant": "t"}},
        {"unknown": {"unknown": 3, "tenant": {"id": 4}}},
        {"unknown": {"tenant": None}},
        {"note": 1},
    ]
    assert [kept for kept, *_ in log.rejects() if kept not in sent[5:]] == []
    # Sent again, they are duplicates.
    assert log.record(*sent) == (0, 5, 2)
    assert (
        "unknown"
        not in log.owner.execute("select public.record_audit_events(%s)", [Jsonb([event()])]).fetchone()[0]
    )
