"""The state of an entity at a time, and the difference between its states at two times."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from usersync.audit import entity_state

pytestmark = pytest.mark.newest_server

DAY = datetime(2026, 3, 1, 10, tzinfo=UTC)


@pytest.fixture
def bolt(audited):
    """Events of a product on five days, of a later product with the same id, and of other entities."""
    told = [
        ("product.created", {"changes": {"name": [None, "Bolt"], "stock": [None, 10]}}),
        ("stock.adjusted", {"changes": {"stock": [10, 7]}, "actor_id": "ada"}),
        ("product.renamed", {"changes": {"name": ["Bolt", "no"]}, "outcome": "denied"}),
        ("product.priced", {"changes": {"price": [5, 6]}}),
        ("product.deleted", {"changes": {"name": ["Bolt", None]}}),
        ("product.created", {"changes": {"name": [None, "Nut"]}}),
    ]
    for day, (action, fields) in enumerate(told):
        audited.record(action, entity=("product", 42), occurred_at=DAY + timedelta(days=day), **fields)
    audited.record("stock.adjusted", entity=("product", 4), occurred_at=DAY, changes={"stock": [1, 2]})
    return audited


def at(audited, day, *more, entity="product/42"):
    time = (DAY + timedelta(days=day)).isoformat()
    return audited("history", entity, "--at", time, *more, "--json").json


def values(found):
    return {name: each["value"] for name, each in found["fields"].items()}


#: The day, whether the product exists on it, and its fields.
STATES = [
    (-1, False, {}),
    (0, True, {"name": "Bolt", "stock": 10, "price": 5}),
    (0.9, True, {"name": "Bolt", "stock": 10, "price": 5}),
    (1, True, {"name": "Bolt", "stock": 7, "price": 5}),
    (3.5, True, {"name": "Bolt", "stock": 7, "price": 6}),
    (4, False, {}),
    (5, True, {"name": "Nut"}),
    (3e5, True, {"name": "Nut"}),
]


def test_a_state_includes_the_changes_until_its_time(bolt):
    for day, exists, expected in STATES:
        found = at(bolt, day)
        assert (found["exists"], values(found)) == (exists, expected), day


def test_a_state_has_notes_on_events_that_the_log_lacks(bolt, monkeypatch):
    assert at(bolt, -1)["notes"] == ["Did not exist: created at 2026-03-01T10:00:00Z."]
    assert at(bolt, 4.5)["notes"] == ["Did not exist: deleted at 2026-03-05T10:00:00Z."]
    found = at(bolt, -1, entity="product/4")
    assert (found["exists"], values(found)) == (None, {"stock": 1})
    assert "The log has no event of this entity before this time: its oldest" in found["notes"][0]
    assert at(bolt, 1, entity="product/4")["notes"][0].startswith("The log does not contain the creation.")
    assert at(bolt, 1, entity="product/5")["notes"] == ["The audit log has no event of this entity."]
    monkeypatch.setattr(entity_state, "MOST_READ", 1)
    monkeypatch.setattr(entity_state, "_PAGE", 1)
    found = at(bolt, 2.5)
    assert values(found) == {"price": 5}
    assert found["notes"][-1].startswith("Only the 1 events before and after this time were read.")


def test_the_difference_between_two_times_lists_changed_fields(bolt):
    early = (DAY + timedelta(hours=1)).isoformat()
    assert at(bolt, 3, "--from", early)["changes"] == {"stock": [10, 7], "price": [5, 6]}
    assert at(bolt, 4, "--from", early)["changes"] == {
        "name": ["Bolt", None], "stock": [10, None], "price": [5, None],
    }  # fmt: skip
    assert bolt("history", "product/42", "--from", early, "--json").json["changes"]["name"] == ["Bolt", "Nut"]
    assert at(bolt, 0.5, "--from", early)["changes"] == {}


def test_the_output_of_a_state_and_of_a_difference(bolt, monkeypatch):
    done = bolt("history", "product/42", "--at", "2026-03-02T12:00")
    assert done.code == 0
    lines = done.out.splitlines()
    assert lines[:3] == [
        "product/42  at 2026-03-02 12:00:00",
        "Existed: created at 2026-03-01T10:00:00Z.",
        "",
    ]
    assert "  stock  7       2026-03-02 10:00:00  ada" in lines
    assert "  price  5       from a later event" in lines
    bolt.record("x.made", entity=("product", 42), changes={"n" * 60: [None, "\u202e" + "long " * 60]})
    for width in (60, 80):
        monkeypatch.setenv("COLUMNS", str(width))
        done = bolt("history", "product/42", "--from", "2026-03-01T12:00")
        assert "→" in done.out
        for shown in (done, bolt("history", "product/42", "--at", "2099-01-01")):
            assert all(len(line) <= width for line in shown.out.splitlines())
            assert "\u202e" not in shown.out
    assert bolt("history", "product/5", "--at", "1h").code == 1
    for wrong in (["--at", "1h", "--limit", "3"], ["--from", "1h", "--at", "2h"], ["--at", "soon"]):
        assert bolt("history", "product/42", *wrong).code == 2


def test_a_number_and_a_boolean_are_different_values():
    def state(value):
        fields = (entity_state.FieldState("paid", value, None),)
        return entity_state.EntityState(DAY, fields, None, None, has_events=True, is_cut=False)

    (change,) = entity_state.difference(state([1]), state([True]))
    assert (change.name, change.before, change.after) == ("paid", [1], [True])
    assert entity_state.difference(state({"a": 1, "b": None}), state({"b": None, "a": 1})) == ()
