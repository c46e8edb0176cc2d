"""How the audit log reads the time of an event."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from sql_log import event
from test_sql_once import SEVEN, without_time

from usersync.audit import reading
from usersync.audit.models import EventFilter
from usersync.transports.run import run

#: Spellings of a time, and their meaning.
SPELLINGS = {
    "2026-02-28": datetime(2026, 2, 28, tzinfo=UTC),
    "2026-03-01T12:00:00+05:30": datetime(2026, 3, 1, 6, 30, tzinfo=UTC),
    "2026-03-01T12:00:00": datetime(2026, 3, 1, 12, tzinfo=UTC),
    "2026-03-01 12:00:00.123456": datetime(2026, 3, 1, 12, 0, 0, 123456, tzinfo=UTC),
    "04/03/2026": datetime(2026, 4, 3, tzinfo=UTC),
}


@pytest.mark.parametrize("zone", ["UTC", "America/New_York", "Asia/Kolkata"])
def test_a_time_without_zone_is_utc_in_any_session(log, zone):
    log.owner.execute(f"set timezone = '{zone}'; set datestyle = 'German, DMY'")
    assert log.record(*(event(occurred_at=text) for text in SPELLINGS)) == (len(SPELLINGS), 0, 0)
    log.owner.execute("reset datestyle")
    assert [row["occurred_at"] for row in log.rows()] == list(SPELLINGS.values())


def test_an_event_without_a_time_has_the_time_of_its_id(log):
    assert log.record(without_time(id=SEVEN)) == (1, 0, 0)
    assert log.row()["occurred_at"] == datetime(2025, 9, 13, 12, 59, 18, 395000, tzinfo=UTC)


def test_an_event_without_any_time_has_the_current_time(log):
    with log.owner.transaction():
        log.record(without_time(), {"action": "a"}, without_time(id="ffffffff-ffff-7fff-bfff-ffffffffffff"))
        (now,) = log.owner.execute("select now()").fetchone()
    assert [row["occurred_at"] for row in log.rows()] == [now] * 3


@pytest.mark.parametrize("year", [1, 1969, 2000, 2060, 9999])
def test_times_in_the_far_past_and_future_are_stored(log, year):
    at = datetime(year, 6, 15, 12, tzinfo=UTC)
    assert log.record(event(occurred_at=at.isoformat())) == (1, 0, 0)
    assert log.row()["occurred_at"] == at
    assert log.row()["partition"].endswith("audit_logs_default")


EDGES = ["0001-01-01T00:00:00Z", "9999-12-31T23:59:59.999999Z"]


@pytest.mark.parametrize("zone", ["Pacific/Kiritimati", "America/New_York"])
def test_the_earliest_and_latest_times_are_stored_in_every_time_zone(log, zone):
    assert log.record(*(event(occurred_at=each) for each in EDGES)) == (2, 0, 0)
    log.owner.execute(f"set timezone = '{zone}'")
    found = run(reading.search(EventFilter()), log.owner).events
    assert [each.occurred_at for each in found] == [datetime.fromisoformat(each) for each in reversed(EDGES)]
    after = run(reading.search(EventFilter(), after=found[0].position), log.owner).events
    assert [each.occurred_at for each in after] == [datetime.fromisoformat(EDGES[0])]


def test_infinity_is_rejected(log):
    assert log.record(event(occurred_at="infinity"), event(occurred_at="-infinity")) == (0, 0, 2)


def test_events_of_a_clock_that_jumps_are_stored_with_their_times(log):
    days = ["2026-03-05", "2026-03-01", "2031-01-01", "2026-03-05", "1970-01-01"]
    assert log.record(*(event(occurred_at=day) for day in days)) == (5, 0, 0)
    assert [row["occurred_at"].date().isoformat() for row in log.rows()] == sorted(days)


def test_recorded_at_is_the_servers_time(log):
    (before,) = log.owner.execute("select now()").fetchone()
    log.record(event(recorded_at="1999-01-01"))
    assert log.row()["recorded_at"] >= before
