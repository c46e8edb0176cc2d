"""The arguments of a search: filters, page sizes and cursors. Invalid ones raise before a query is sent."""

from __future__ import annotations

import re
from base64 import urlsafe_b64encode
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from usersync.audit import models, reading
from usersync.audit.models import EventFilter, EventPosition, Search
from usersync.errors import ArgumentValueError, SettingsError

NOW = datetime(2026, 3, 1, 12, 0, 0, 123456, tzinfo=UTC)
HERE = EventPosition(NOW, str(UUID(int=7)))


@given(
    st.datetimes().map(lambda each: each.replace(tzinfo=UTC)),
    st.one_of(
        st.uuids().map(str),
        st.uuids().map(lambda each: each.hex),
        # PostgreSQL cannot store NUL in text. A test below checks that such a tie is refused.
        st.text(st.characters(codec="utf-8", exclude_characters="\0")),
    ),
)
def test_a_cursor_names_its_position_and_can_be_part_of_a_url(moment, tie):
    cursor = Search().cursor(EventPosition(moment, tie))
    assert re.fullmatch(r"[A-Za-z0-9_-]+", cursor)
    assert Search().position(cursor) == EventPosition(moment, tie)


def test_a_cursor_belongs_to_one_search():
    """Only the times may differ, because "the last hour" changes from page to page."""
    cursor = Search(EventFilter(action="product.*", since=NOW)).cursor(HERE)
    assert Search(EventFilter(action="product.*", since=NOW + timedelta(hours=1))).position(cursor) == HERE
    for other in (
        Search(),
        Search(EventFilter(action="product.created")),
        Search(EventFilter(action="product.*", outcome="denied")),
        Search(EventFilter(action="product.*"), oldest_first=True),
    ):
        with pytest.raises(SettingsError, match="is not a cursor of this search"):
            other.position(cursor)


CURSOR = Search().cursor(HERE)
INVALID_CURSORS = [
    "",
    "~",
    "yesterday",
    "x" * 10_000,
    "é",
    "2026-03-01T00:00:00+00:00~x",
    "AQ",
    CURSOR[:-1],
    CURSOR + "A",
    7,
    b"x",
    NOW,
]


@pytest.mark.parametrize(
    "cursor",
    [*INVALID_CURSORS, *(CURSOR[:at] + "!" + CURSOR[at + 1 :] for at in (0, 9, 30, len(CURSOR) - 1))],
)
def test_an_invalid_cursor_is_refused(cursor):
    with pytest.raises(SettingsError, match="is not a cursor of this search") as caught:
        next(reading.search(EventFilter(), after=cursor))
    assert len(str(caught.value)) < 200


@given(st.binary(min_size=8, max_size=8), st.binary(max_size=30))
@example(b"\x7f" + bytes(7), b"tx")
@example(bytes(8), b"t\0")
def test_a_forged_cursor_is_a_valid_position_or_refused(moment, tie):
    """The check sum is not secret, so anyone can make a cursor."""
    data = models._VERSION + moment + tie
    cursor = urlsafe_b64encode(data + Search()._check(data)).decode().rstrip("=")
    with suppress(ArgumentValueError):
        assert "\0" not in Search().position(cursor).tie


@given(st.binary(max_size=60))
def test_random_bytes_are_refused_as_a_cursor(data):
    with pytest.raises(SettingsError):
        Search().position(data.hex())


@pytest.mark.parametrize("limit", [0, -1, 100_001, 10**30, 2.0, "10", None, True])
def test_an_invalid_limit_is_refused(limit):
    with pytest.raises(SettingsError, match="limit: expected 1 to 100000 events"):
        next(reading.search(EventFilter(), limit=limit))


INVALID_VALUES = {
    "user_id": ["x", 7, b"0" * 16, ""],
    "actor_id": [1.5, object(), True, "\0", "\ud800"],
    "entity_type": [7, "a\0b"],
    "entity_id": [[1], None.__class__],
    "action": ["", "*.x", "a*b", "a**", 7],
    "outcome": ["denid", "", 7],
    "since": ["2026-03-01", 7, NOW.date()],
    "until": ["tomorrow"],
    "request_id": [b"r"],
    "text": [7, "\ud800"],
}


@pytest.mark.parametrize(
    ("name", "value"), [(name, value) for name, values in INVALID_VALUES.items() for value in values]
)
def test_an_invalid_value_of_a_filter_is_refused(name, value):
    with pytest.raises(SettingsError, match=rf"^{name}: ") as caught:
        EventFilter(**{"entity_type": "t"} | {name: value})
    assert len(str(caught.value)) < 200


def test_invalid_periods_and_entities_are_refused():
    with pytest.raises(SettingsError, match="since must be before until"):
        EventFilter(since=NOW, until=NOW)
    with pytest.raises(SettingsError, match="the entity_type is missing"):
        EventFilter(entity_id=42)


def test_values_of_filters_are_normalized():
    some = uuid4()
    made = EventFilter(
        user_id=str(some), actor_id=some, entity_type="t", entity_id=42, since=NOW.replace(tzinfo=None)
    )
    assert (made.user_id, made.actor_id, made.entity_id, made.since) == (some, str(some), "42", NOW)
