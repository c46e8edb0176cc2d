"""Tail: following the log returns every event once, also events of transactions that commit late."""

from __future__ import annotations

import pytest
from sql_log import event, send

from usersync.audit import reading
from usersync.audit.models import EventFilter
from usersync.transports.run import run


@pytest.fixture
def look(log):
    """A function that returns the actions of the new events."""
    cursor = run(reading.tail(), log.owner).cursor

    def look(wanted=None):
        nonlocal cursor
        batch = run(reading.tail(cursor, wanted), log.owner)
        cursor = batch.cursor
        return [each.action for each in batch.events]

    return look


def test_tail_returns_an_event_once(log, look):
    assert look() == []
    log.record(event(action="a"))
    log.record(event(action="b", occurred_at="1999-01-01"))  # has an old time, but was stored just now
    assert look() == ["a", "b"]
    assert look() == []
    log.record(event(action="c"))
    assert look() == ["c"]


def test_a_transaction_that_commits_late_is_not_missed(log, look, session):
    slow = session()
    with slow.transaction():
        send(slow, event(action="late"))
        log.record(event(action="one"))
        assert look() == ["one"]
        log.record(event(action="two"))
        assert look() == ["two"]
        assert look() == []
    assert look() == ["late"]
    log.record(event(action="three"))
    assert look() == ["three"]
    assert look() == []


def test_overlapping_transactions_are_returned_once_each(log, look, session):
    """The position advances with the first event, past events that were already returned."""
    first, second = session(), session()
    first.execute("begin")
    send(first, event(action="first"))
    log.record(event(action="between"))
    second.execute("begin")
    send(second, event(action="second"))
    log.record(event(action="after"))
    assert look() == ["between", "after"]
    first.execute("commit")
    assert look() == ["first"]
    second.execute("commit")
    assert look() == ["second"]
    assert look() == []


def test_events_of_a_rolled_back_transaction_are_not_returned(log, look, session):
    slow = session()
    with slow.transaction(force_rollback=True):
        send(slow, event(action="never"))
        assert look() == []
    assert look() == []


def test_more_events_than_a_call_returns_are_returned_by_the_next_calls(log, look, monkeypatch):
    monkeypatch.setattr(reading, "TAIL_SIZE", 10)
    log.record(*(event(action="a") for _ in range(25)))  # all with the same time
    log.record(event(action="b"))
    seen = [look() for _ in range(4)]
    assert [len(each) for each in seen] == [10, 10, 6, 0]
    assert sorted(action for each in seen for action in each) == ["a"] * 25 + ["b"]


def test_tail_returns_only_events_that_match_the_filter(log, look):
    log.record(event(action="a.b"), event(action="c.d"))
    assert look(EventFilter(action="c.*")) == ["c.d"]
