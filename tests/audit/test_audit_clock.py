"""Ids, times and waits when the wall clock jumps by hours, back and forth."""

from __future__ import annotations

import threading
import time
import uuid
from datetime import UTC, datetime, timedelta

import pytest

from usersync.audit.delivery import writer as writing
from usersync.audit.event.clock import Clock

HOUR_NS = 3600 * 1_000_000_000
NOON = int(datetime(2026, 3, 1, 12, tzinfo=UTC).timestamp()) * 1_000_000_000


class WallClock:
    """Replaces ``time.time_ns()``. The test sets the time, and each call advances it by one microsecond."""

    def __init__(self):
        self.now = NOON

    def __call__(self):
        self.now += 1_000
        return self.now


@pytest.fixture
def wall(monkeypatch):
    wall = WallClock()
    monkeypatch.setattr("usersync.audit.event.clock.time.time_ns", wall)
    return wall


JUMPS = (0, 3, -5, 1, -12, 48, -72, 24 * 365, -24 * 365 * 2, 0)


def test_ids_are_unique_and_in_order_although_the_clock_jumps(wall):
    clock, found = Clock(), []
    for jump in JUMPS:
        wall.now += jump * HOUR_NS
        found += [clock.read() for _ in range(200)]
    ids = [event_id for event_id, _ in found]
    assert len(set(ids)) == len(ids)
    assert ids == sorted(ids)
    assert {uuid.UUID(each).version for each in ids} == {7}


def test_ids_are_unique_while_the_clock_stands_still(monkeypatch):
    monkeypatch.setattr("usersync.audit.event.clock.time.time_ns", lambda: NOON)
    clock = Clock()
    ids = [clock.read()[0] for _ in range(10_000)]
    assert ids == sorted(set(ids))


def test_the_time_of_an_event_is_the_clocks_time(wall):
    clock = Clock()
    for jump in JUMPS:
        wall.now += jump * HOUR_NS
        for _ in range(3):
            _, moment = clock.read()
            expected = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=wall.now // 1000)
            assert datetime.fromisoformat(moment) == expected
            assert moment == expected.isoformat(timespec="microseconds")


def test_events_are_stored_unchanged_while_the_clock_jumps(wall, log, store):
    ids, times = [], []
    for jump in JUMPS:
        wall.now += jump * HOUR_NS
        for _ in range(5):
            ids.append(log.record("a.b"))
            times.append(wall.now)
    assert log.flush()
    # The events are in the order of their ids, which is the order of recording.
    events = store.events()
    assert [event["id"] for event in events] == ids
    for event, nanoseconds in zip(events, times, strict=True):
        # The clock is read again after the event gets its time.
        apart = nanoseconds / 1e9 - datetime.fromisoformat(event["occurred_at"]).timestamp()
        assert 0 <= apart < 1
    assert log.stats().rejected == 0


@pytest.mark.slow
@pytest.mark.newest_server
def test_waits_during_an_outage_do_not_depend_on_the_wall_clock(
    wall, make_log, store, eventually, monkeypatch
):
    """The sender waits by a monotonic clock."""
    monkeypatch.setattr(writing, "_FIRST_WAIT_S", 0.05)
    monkeypatch.setattr(writing, "_LONGEST_WAIT_S", 0.1)
    log = make_log("postgresql://u@127.0.0.1:1/nowhere")
    ids = [log.record("a.b")]
    for hours in (5, -30, 100, -300):
        failures = eventually(lambda: log.stats().consecutive_failures)
        wall.now += hours * HOUR_NS
        monkeypatch.setattr("time.time", lambda: wall.now / 1e9)
        ids.append(log.record("a.b"))
        eventually(lambda failures=failures: log.stats().consecutive_failures > failures + 2)
        assert log.stats().oldest_age >= 0
    log._engine._writer.sender._source = store.dsn
    assert log.flush()
    assert sorted(store.ids()) == sorted(ids)


def test_ids_of_several_threads_are_unique_and_in_order():
    clock, found = Clock(), []

    def work():
        mine = [clock.read()[0] for _ in range(2000)]
        assert mine == sorted(mine)
        found.extend(mine)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(found)) == 16_000


def test_the_clock_returns_the_current_time():
    before = time.time()
    _, moment = Clock().read()
    assert before - 1 <= datetime.fromisoformat(moment).timestamp() <= time.time() + 1
