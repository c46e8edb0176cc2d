"""The feed: every event once, in the order in which transactions commit, with numbers."""

from __future__ import annotations

import threading
from datetime import UTC, datetime
from threading import Thread
from time import monotonic

import psycopg
import pytest
from sql_log import event, send

from audit_settings import with_audit_log
from usersync.audit import feed, upkeep
from usersync.audit.models import EventFilter
from usersync.errors import ArgumentTypeError, ArgumentValueError, DatabaseError
from usersync.schema import installation
from usersync.transports.run import run


class Follower:
    """A reader that stores its position."""

    def __init__(self, connection, **wanted):
        self.connection, self.wanted = connection, EventFilter(**wanted)
        self.position = None
        self.read()

    def read(self, limit=100):
        page = run(feed.feed(self.position, self.wanted, limit), self.connection)
        self.position = page.position
        numbers = [each.number for each in page.events]
        assert numbers == sorted(set(numbers))
        return [each.action for each in page.events]


def number(connection):
    connection.execute("set transaction isolation level read committed")
    return connection.execute("select usersync.number_events()").fetchone()[0]


@pytest.fixture
def follower(log, session):
    return Follower(session())


def test_an_event_is_returned_once(log, follower):
    assert follower.read() == []
    log.record(event(action="a"))
    log.record(event(action="b", occurred_at="1999-01-01"))
    assert follower.read() == ["a", "b"]
    assert follower.read() == []
    log.record(event(action="c"))
    assert follower.read() == ["c"]


def test_the_feed_starts_with_its_first_reader(log, follower, session):
    before = follower.position
    log.record(event(action="a"))
    later = Follower(session())
    assert later.read() == []
    later.position = before
    assert later.read() == ["a"]


def test_a_transaction_that_commits_late_comes_late_and_holds_nobody_up(log, follower, session):
    slow, prepared_or_not = session(), session()
    with slow.transaction():
        send(slow, event(action="late"))
        with prepared_or_not.transaction(force_rollback=True):
            send(prepared_or_not, event(action="never"))
            log.record(event(action="one"))
            assert follower.read() == ["one"]
            log.record(event(action="two"))
            assert follower.read() == ["two"]
        assert follower.read() == []
    log.record(event(action="three"))
    assert follower.read() == ["late", "three"]
    assert follower.read() == []


def test_an_event_of_a_subtransaction(log, follower, session):
    writer = session()
    with writer.transaction():
        send(writer, event(action="outer"))
        with writer.transaction():
            send(writer, event(action="inner"))
            log.record(event(action="between"))
            assert follower.read() == ["between"]
        with writer.transaction(force_rollback=True):
            send(writer, event(action="undone"))
    assert follower.read() == ["outer", "inner"]


def test_nobody_waits_for_another_who_numbers(log, follower, session):
    other = session()
    log.record(event(action="a"))
    with other.transaction():
        assert number(other) == 1
        log.record(event(action="b"))
        assert follower.read() == []
    assert follower.read() == ["a", "b"]


def test_a_rolled_back_numbering_loses_nothing(log, follower, session):
    other = session()
    log.record(event(action="a"))
    with other.transaction(force_rollback=True):
        assert number(other) == 1
    log.record(event(action="b"))
    assert follower.read() == ["a", "b"]


def test_a_filter_looks_at_a_page_only(log, follower):
    log.record(*(event(action=f"a.{n}") for n in range(25)))
    log.record(event(action="b"))
    pages = [run(feed.feed(follower.position, EventFilter(action="b"), 10), follower.connection)]
    while pages[-1].more:
        pages.append(run(feed.feed(pages[-1].position, EventFilter(action="b"), 10), follower.connection))
    assert [[each.action for each in page.events] for page in pages] == [[], [], ["b"]]


def test_idle_readers_write_nothing(log, follower):
    log.record(event(action="a"))
    assert follower.read() == ["a"]
    state = "select snapshot::text, xmin::text from usersync.feed"
    before = log.owner.execute(state).fetchone()
    log.owner.execute("create temporary table something (a integer)")  # another transaction
    assert follower.read() == []
    assert log.owner.execute(state).fetchone() == before


def test_a_snapshot_of_before_the_numbering_is_refused(log, session):
    connection = session()
    connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
    with connection.transaction(), pytest.raises(psycopg.Error, match="READ COMMITTED"):
        connection.execute("select usersync.number_events()")


@pytest.mark.parametrize(
    ("position", "error"),
    [
        (-1, ArgumentValueError),
        (2**63, ArgumentValueError),
        (True, ArgumentTypeError),
        ("1", ArgumentTypeError),
    ],
)
def test_an_invalid_position(position, error):
    with pytest.raises(error, match="position: expected a number"):
        feed.feed(position, EventFilter(), 10)


def test_after_a_restore_into_another_cluster(log, follower):
    """Transaction ids mean nothing there. Every event without a number gets one, once."""
    log.record(event(action="numbered"))
    assert follower.read() == ["numbered"]
    log.record(event(action="not numbered yet"))
    # The ids of the old cluster were higher; a pg_dump has kept them and the snapshots.
    log.owner.execute("update usersync.feed set cluster = 'another'")
    log.record(event(action="new"))
    assert follower.read() == ["not numbered yet", "new"]
    assert follower.read() == []
    log.record(event(action="newer"))
    assert follower.read() == ["newer"]


def test_a_position_of_another_feed(log, follower):
    """As after a failover that lost the newest events. Its reader would skip the next events."""
    log.record(event(action="a"))
    assert follower.read() == ["a"]
    log.owner.execute("truncate usersync.event_numbers")  # as after a prune of all events
    assert follower.read() == []
    follower.position += 1
    with pytest.raises(
        DatabaseError, match="the position 2 is not of this feed: its last number is 1"
    ) as caught:
        follower.read()
    assert "usersync audit search" in caught.value.hint
    planned = run(installation.plan_rollback(with_audit_log()), log.owner).changes
    assert "table usersync.event_numbers" in {each.subject for each in planned}


def test_the_index_is_completed_unless_somebody_else_maintains_the_log(log, follower, session):
    other = session()
    log.owner.execute("update usersync.feed set unsummarized = 1000000")
    with other.transaction():
        other.execute(f"lock table {log.table} in share update exclusive mode")
        log.record(event(action="a"))
        assert follower.read() == ["a"]
    log.record(event(action="b"))
    assert follower.read() == ["b"]
    assert log.owner.execute("select unsummarized from usersync.feed").fetchone() == (1,)


def test_pruning_removes_the_numbers_of_the_removed_events(log, follower):
    start = follower.position
    log.record(event(action="old", occurred_at="2020-01-01"))
    log.record(event(action="new", occurred_at="now"))
    assert follower.read() == ["old", "new"]
    log.owner.execute("set usersync.maintaining = 'audit'")
    log.owner.execute(f"delete from {log.table} where action = 'old'")
    run(upkeep.prune(datetime(2021, 1, 1, tzinfo=UTC)), log.owner)
    assert log.owner.execute("select count(*) from usersync.event_numbers").fetchone() == (1,)
    follower.position = start
    assert follower.read() == ["new"]


def write(connection, writer, committed):
    """Commit, or roll back, transactions with some events."""
    for number in range(15):
        actions = [f"{writer}.{number}.{each}" for each in range(1 + number % 3)]
        undone = number % 5 == writer
        with connection.transaction(force_rollback=undone):
            for action in actions:
                send(connection, event(action=action))
        if not undone:
            committed.extend(actions)


def read(reader, seen, committed, stop):
    """Read until everything is seen: another reader may still be numbering the last events."""
    deadline = monotonic() + 60
    while not stop.is_set() or len(seen) < sum(map(len, committed)):
        assert monotonic() < deadline
        seen.extend(reader.read(7))


def test_many_writers_and_readers(log, session):
    """Each reader sees every event once, in the same order, and those of a writer in the order of writing."""
    stop = threading.Event()
    committed: list[list[str]] = [[] for _ in range(4)]
    seen: list[list[str]] = [[], []]
    writers = [Thread(target=write, args=(session(), n, each)) for n, each in enumerate(committed)]
    readers = [Thread(target=read, args=(Follower(session()), each, committed, stop)) for each in seen]
    for each in [*readers, *writers]:
        each.start()
    for each in writers:
        each.join()
    stop.set()
    for each in readers:
        each.join()
    assert seen[0] == seen[1]
    for writer, actions in enumerate(committed):
        assert [each for each in seen[0] if each.startswith(f"{writer}.")] == actions
    assert len(seen[0]) == sum(map(len, committed))
