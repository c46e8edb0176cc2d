"""The formats in which usersync sends an event: JSON, CloudEvents and OCSF."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import jsonschema_rs
import pytest

from event_receivers import BARE, EVENT, HOSTILE
from usersync.events.formats import FORMATS

#: The classes of the published schema, as JSON Schema without unknown properties.
OCSF = json.loads((Path(__file__).parent / "ocsf-1.8.0.json").read_text())

SAMPLES = {
    "update": EVENT,
    "create": replace(EVENT, action="user.created", changes=None, ip=None, actor_id=None),
    "delete": replace(EVENT, action="user.deleted", outcome="failed", severity=None),
    "tracked": replace(EVENT, action="products.deleted", entity_type="products", entity_id="42"),
    "other": replace(
        EVENT, action="order.paid", entity_type=None, entity_id=None, request_id=None, user_agent=None
    ),
    "bare": BARE,
    "hostile": HOSTILE,
    "hostile user": replace(HOSTILE, action="user.\x00"),
}


def refuse(text):
    raise ValueError(text)


def parsed(format_name, event):
    text, content_type = FORMATS[format_name](event)
    text.encode()
    return json.loads(text, parse_constant=refuse), content_type


@pytest.mark.parametrize("name", SAMPLES)
def test_ocsf_events_satisfy_the_published_schema(name):
    found, content_type = parsed("ocsf", SAMPLES[name])
    is_account = found["class_uid"] == 3001
    assert is_account == (name in {"update", "create", "delete", "hostile user"})
    jsonschema_rs.validate(OCSF["account_change" if is_account else "api_activity"], found)
    assert content_type == "application/json"


def test_ocsf_has_the_activity_of_the_action_and_the_events_fields():
    activities = {name: parsed("ocsf", each)[0]["activity_id"] for name, each in SAMPLES.items()}
    assert activities == {
        "update": 99, "create": 1, "delete": 6, "tracked": 4, "other": 99, "bare": 99, "hostile": 99,
        "hostile user": 99,
    }  # fmt: skip
    found, _ = parsed("ocsf", EVENT)
    assert found["activity_name"] == "user.updated"
    assert found["type_uid"] == 300199
    assert found["time"] == 1_777_638_600_250
    assert found["severity_id"] == 2
    assert found["status_id"] == 1
    assert found["user"] == {"uid": EVENT.entity_id}
    assert found["metadata"]["uid"] == str(EVENT.id)
    assert found["unmapped"]["changes"] == EVENT.changes


def test_a_cloudevent_has_its_attributes_and_the_stored_event_as_data():
    found, content_type = parsed("cloudevents", EVENT)
    assert content_type == "application/cloudevents+json; charset=utf-8"
    data = found.pop("data")
    assert found == {
        "specversion": "1.0",
        "id": str(EVENT.id),
        "source": "usersync:sync",
        "type": "user.updated",
        "subject": f"user/{EVENT.entity_id}",
        "time": "2026-05-01T12:30:00.250000+00:00",
        "datacontenttype": "application/json",
        "traceparent": EVENT.traceparent,
    }
    assert data == parsed("json", EVENT)[0]
    assert data["changes"] == EVENT.changes
    assert data["user_id"] == str(EVENT.user_id)
    assert data["severity"] == "low"
    assert data["on_behalf_of"] is None
    assert not {"number", "tie"} & data.keys()


def test_a_cloudevent_omits_optional_attributes_and_fills_required_ones():
    found, _ = parsed("cloudevents", BARE)
    assert (found["type"], found["source"]) == ("unknown", "usersync:log")
    assert not {"subject", "traceparent"} & found.keys()
    assert datetime.fromisoformat(found["time"]) == BARE.occurred_at


@pytest.mark.parametrize("format_name", FORMATS)
def test_hostile_values_become_valid_json(format_name):
    found, _ = parsed(format_name, HOSTILE)
    metadata = (found.get("unmapped") or found.get("data") or found)["metadata"]
    assert metadata["half"] == "�"
    assert metadata["nul"] == "\x00"
    assert metadata["huge"] == "inf"
    assert len(metadata["big"]) == 3_000_000
    if format_name == "cloudevents":
        assert found["source"] == "usersync:a%20b%2F%C3%BC%3F%23"
        assert found["type"] == "order.paid��x-injected: 1"
        assert found["data"]["action"] == HOSTILE.action
