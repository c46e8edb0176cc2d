"""The feed returns every event once, with numbers, in the order in which transactions commit."""

from __future__ import annotations

from datetime import UTC, datetime

import psycopg
import pytest
from following import Follower, check_many_writers_and_readers
from sql_log import event, send

from audit_settings import with_audit_log
from usersync.audit import feed, upkeep
from usersync.audit.models import EventFilter
from usersync.errors import ArgumentTypeError, ArgumentValueError, DatabaseError
from usersync.schema import installation
from usersync.transports.run import run


def number(connection):
    connection.execute("set transaction isolation level read committed")
    return connection.execute("select usersync.number_events()").fetchone()[0]


@pytest.fixture
def follower(log, session):
    return Follower(session())


def test_the_feed_returns_an_event_once(log, follower):
    assert follower.read() == []
    log.record(event(action="a"))
    log.record(event(action="b", occurred_at="1999-01-01"))
    assert follower.read() == ["a", "b"]
    assert follower.read() == []
    log.record(event(action="c"))
    assert follower.read() == ["c"]


@pytest.mark.newest_server
def test_a_page_looks_up_its_events_alone_even_if_many_have_the_same_time(log, follower):
    def reads():
        """How many index scans there were, and how many rows were read."""
        return log.owner.execute(
            "select sum(idx_scan)::int, sum(idx_tup_fetch + seq_tup_read)::int "
            "from pg_stat_xact_user_tables where relname ~ '^audit_logs'"
        ).fetchone()

    log.record(*(event(action="imported", occurred_at="2026-05-01T10:00:00Z") for _ in range(1_000)))
    run(feed.number_events(), log.owner)
    with log.owner.transaction():
        scans, rows = reads()
        page = run(feed.read_events(follower.position, EventFilter(action="imported"), 100), log.owner)
        assert reads() == (scans + 100, rows + 100)
    assert len(page.events) == 100


def test_a_new_reader_gets_only_later_events(log, follower, session):
    before = follower.position
    log.record(event(action="a"))
    later = Follower(session())
    assert later.read() == []
    later.position = before
    assert later.read() == ["a"]


def test_events_of_a_late_commit_are_returned_late_and_delay_no_others(log, follower, session):
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


def test_events_of_subtransactions_are_returned_after_the_commit(log, follower, session):
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


def test_readers_do_not_wait_for_a_session_that_numbers_events(log, follower, session):
    other = session()
    log.record(event(action="a"))
    with other.transaction():
        assert number(other) == 1
        log.record(event(action="b"))
        assert follower.read() == []
    assert follower.read() == ["a", "b"]


def test_a_rolled_back_numbering_loses_no_event(log, follower, session):
    other = session()
    log.record(event(action="a"))
    with other.transaction(force_rollback=True):
        assert number(other) == 1
    log.record(event(action="b"))
    assert follower.read() == ["a", "b"]


def test_a_call_with_a_filter_reads_one_page(log, follower):
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
    log.owner.execute("create temporary table something (a integer)")  # in another transaction
    assert follower.read() == []
    assert log.owner.execute(state).fetchone() == before


def test_numbering_requires_read_committed(log, session):
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
def test_an_invalid_position_is_refused(position, error):
    with pytest.raises(error, match="position: expected a number"):
        feed.feed(position, EventFilter(), 10)


def test_after_a_restore_into_another_cluster_every_event_is_numbered_once(log, follower):
    """Transaction ids of the old cluster have no meaning in the new one.

    Each event without a number gets one.
    """
    log.record(event(action="numbered"))
    assert follower.read() == ["numbered"]
    log.record(event(action="not numbered yet"))
    # The old cluster's transaction ids were higher. pg_dump has kept them and the snapshots.
    log.owner.execute("update usersync.feed set cluster = 'another'")
    log.record(event(action="new"))
    assert follower.read() == ["not numbered yet", "new"]
    assert follower.read() == []
    log.record(event(action="newer"))
    assert follower.read() == ["newer"]


def test_a_position_beyond_the_end_of_the_feed_is_refused(log, follower):
    """After a failover that lost events, a reader with this position would skip the next ones."""
    log.record(event(action="a"))
    assert follower.read() == ["a"]
    log.owner.execute("truncate usersync.event_numbers")  # the state after all events were pruned
    assert follower.read() == []
    follower.position += 1
    with pytest.raises(
        DatabaseError, match="the position 2 is not of this feed: its last number is 1"
    ) as caught:
        follower.read()
    assert "usersync audit search" in caught.value.hint
    planned = run(installation.plan_rollback(with_audit_log()), log.owner).changes
    assert "table usersync.event_numbers" in {each.subject for each in planned}


def test_the_index_is_completed_unless_another_session_maintains_the_log(log, follower, session):
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


def test_many_readers_see_every_event_once_in_the_same_order(log, session):
    """Events of one writer are in the order in which it wrote them."""
    check_many_writers_and_readers(session, lambda connection, action: send(connection, event(action=action)))
