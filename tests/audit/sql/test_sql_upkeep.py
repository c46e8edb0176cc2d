"""Upkeep of the audit log: pruning, and retries of rejected events."""

from __future__ import annotations

from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import psycopg
import pytest
from sql_log import as_sent, event

from usersync.audit import upkeep
from usersync.audit.models import RecordResult
from usersync.errors import ArgumentValueError, BusyError
from usersync.transports import lock_retry
from usersync.transports.run import run

CUT = datetime(2020, 3, 15, tzinfo=UTC)


@pytest.fixture
def old_events(log):
    """Months of 2020 with 1, 2, 3 and 4 events, and five events of 2019 and one of 2021 in the default
    partition.
    """
    log.owner.execute(
        "select usersync.make_audit_partition(make_date(2020, n, 1)) from generate_series(1, 4) n"
    )
    for month in range(1, 5):
        log.record(*(event(occurred_at=f"2020-{month:02}-10") for _ in range(month)))
    log.record(*(event(occurred_at="2019-06-01") for _ in range(5)), event(occurred_at="2021-01-01"))
    recorded_when_they_happened(log)
    assert len(log.rows()) == 16


def recorded_when_they_happened(log):
    """Set recorded_at of all events to occurred_at."""
    with log.owner.transaction():
        log.owner.execute("set local usersync.maintaining = 'audit'")
        log.owner.execute(f"update {log.table} set recorded_at = occurred_at")


def test_partitions_are_listed_with_their_bounds_and_rows(log, old_events):
    parts = {part.name: part for part in run(upkeep.partitions(), log.owner)}
    assert sorted(parts) == log.partitions()
    default, march = parts["audit_logs_default"], parts["audit_logs_2020_03"]
    assert (default.is_default, default.starts_at, default.ends_at) == (True, None, None)
    assert (march.starts_at, march.ends_at) == (
        datetime(2020, 3, 1, tzinfo=UTC),
        datetime(2020, 4, 1, tzinfo=UTC),
    )
    assert (march.is_own, march.is_default, march.estimated_rows) == (True, False, None)
    assert march.bytes > 0


@pytest.mark.parametrize("zone", ["UTC", "America/New_York"])
def test_pruning_drops_whole_months_and_old_rows_of_the_default_partition(log, old_events, monkeypatch, zone):
    monkeypatch.setattr(upkeep, "DELETE_BATCH", 2)
    log.owner.execute(f"set timezone = '{zone}'")
    before, heard = log.rows(), []
    planned = run(upkeep.prune(CUT, dry_run=True), log.owner)
    assert log.rows() == before
    result = run(upkeep.prune(CUT, on_part=heard.append), log.owner)
    assert result.before == datetime(2020, 3, 1, tzinfo=UTC)
    assert [(part.name, part.rows, part.dropped) for part in result.parts] == [
        ("audit_logs_default", 5, False),
        ("audit_logs_2020_01", 1, True),
        ("audit_logs_2020_02", 2, True),
    ]
    assert result.parts == planned.parts == tuple(heard)
    assert (result.rows, planned.dry_run, result.dry_run) == (8, True, False)
    assert log.rows() == [row for row in before if row["occurred_at"] >= result.before]
    assert run(upkeep.prune(CUT), log.owner).parts == ()
    with pytest.raises(psycopg.errors.InsufficientPrivilege):  # the maintenance mode has ended
        log.owner.execute(f"delete from {log.table}")


def test_pruning_retries_a_locked_partition_with_short_waits(log, old_events, session, monkeypatch):
    monkeypatch.setattr(lock_retry, "_ATTEMPTS", 2)
    monkeypatch.setattr(lock_retry, "_MAX_PAUSE_S", 0.06)
    with reading(session, "usersync.audit_logs_2020_02"), pytest.raises(BusyError, match="the audit log"):
        run(upkeep.prune(CUT), log.owner)
    # Earlier partitions have already been dropped. The next call drops the rest.
    assert [part.name for part in run(upkeep.prune(CUT), log.owner).parts] == ["audit_logs_2020_02"]


@contextmanager
def reading(session, table):
    with session() as reader, reader.transaction():
        reader.execute(f"select from {table}")
        yield


def test_pruning_keeps_a_partition_that_was_attached_by_hand(log, old_events):
    log.owner.execute(f"create table public.archive (like {log.table} including all)")
    bounds = "for values from ('2018-01-01Z') to ('2019-01-01Z')"
    log.owner.execute(f"alter table {log.table} attach partition public.archive {bounds}")
    log.record(event(occurred_at="2018-05-05"))
    run(upkeep.prune(CUT), log.owner)
    assert "archive" in log.partitions()
    assert log.rows()[0]["occurred_at"].year == 2018


def test_pruning_keeps_recently_recorded_events_with_old_times(log, old_events):
    """A caller could backdate an event to have it removed, and a spool may be delivered a year late."""
    late = [event(occurred_at="2020-01-20"), event(occurred_at="1970-01-01")]
    log.record(*late)
    planned = run(upkeep.prune(CUT, dry_run=True), log.owner)
    result = run(upkeep.prune(CUT), log.owner)
    assert result.parts == planned.parts
    assert {part.name: (part.rows, part.dropped) for part in result.parts} == {
        "audit_logs_default": (5, False),
        "audit_logs_2020_01": (1, False),
        "audit_logs_2020_02": (2, True),
    }
    kept = {str(row["id"]) for row in log.rows()}
    assert {each["id"] for each in late} <= kept


def test_an_event_stored_just_before_the_drop_is_kept(log, old_events, monkeypatch):
    """The event arrives between counting a partition's events and dropping the partition."""
    late = event(occurred_at="2020-02-20")
    retry_while_locked = upkeep.retry_while_locked

    def record_meanwhile(*arguments):
        log.record(late)
        return retry_while_locked(*arguments)

    monkeypatch.setattr(upkeep, "retry_while_locked", record_meanwhile)
    run(upkeep.prune(CUT), log.owner)
    assert late["id"] in {str(row["id"]) for row in log.rows()}


def test_pruning_also_deletes_old_rejected_events(log):
    log.record(event(ip="nowhere"), event(ip="elsewhere"))
    log.owner.execute(
        "update usersync.audit_rejects set rejected_at = '2019-01-01' where event ->> 'ip' = 'nowhere'"
    )
    result = run(upkeep.prune(CUT), log.owner)
    assert [(part.name, part.rows, part.dropped) for part in result.parts] == [("audit_rejects", 1, False)]
    assert [kept["ip"] for kept, _, _ in log.rejects()] == ["elsewhere"]


def test_pruning_in_the_future_is_refused(log):
    with pytest.raises(ArgumentValueError, match="is in the future"):
        run(upkeep.prune(datetime.now(UTC) + timedelta(days=2)), log.owner)


def test_pruning_keeps_future_partitions(log, old_events):
    run(upkeep.prune(datetime.now(UTC)), log.owner)
    (made,) = log.owner.execute("select usersync.make_audit_partitions()").fetchone()
    assert made == 0
    assert log.rows() == []
    assert log.record(event(occurred_at="now"), event()) == (2, 0, 0)


def test_rejected_events_are_listed_in_order(log):
    bad = [event(ip=f"nowhere {n}") for n in range(3)]
    log.record(*bad)
    first, *_ = run(upkeep.rejects(limit=1), log.owner)
    assert (first.event, first.sqlstate, first.reason[:4]) == (bad[0], "22P02", "ip: ")
    assert [each.event for each in run(upkeep.rejects(after=first.reject_id), log.owner)] == bad[1:]


def test_rejected_events_are_retried(log, monkeypatch):
    monkeypatch.setattr(upkeep, "RETRY_BATCH", 2)
    known = event()
    log.record(known)
    good, bad = [event() for _ in range(3)], [event(ip="nowhere"), {"action": ""}]
    put = "insert into usersync.audit_rejects (event, sqlstate, reason) values (%s, '22P02', 'was')"
    for each in (good[0], bad[0], known, good[1], bad[1], good[2]):
        log.owner.execute(put, [psycopg.types.json.Jsonb(each)])
    assert run(upkeep.retry_rejects(), log.owner) == RecordResult(stored=3, duplicates=1, rejected=2)
    assert [as_sent(kept) for kept, _, _ in log.rejects()] == bad
    assert len(log.rows()) == 4
    # Events with a fingerprint are also rejected again.
    log.record(bad[0])
    kept = log.rejects()
    assert run(upkeep.retry_rejects(), log.owner).rejected == len(kept)
    assert [each for each, _, _ in log.rejects()] == [each for each, _, _ in kept]


def test_a_retry_without_rejected_events_does_nothing(log):
    assert run(upkeep.retry_rejects(), log.owner) == RecordResult()


def test_an_error_during_a_retry_loses_no_rejected_event(log):
    log.record(event(ip="nowhere", id=str(uuid4())))
    kept = log.rejects()
    log.owner.execute(f"revoke insert on {log.table} from postgres")
    log.owner.execute("update usersync.audit_rejects set event = event || '{\"ip\": null}'")
    with pytest.raises(Exception, match="permission denied"):
        run(upkeep.retry_rejects(), log.owner)
    log.owner.execute(f"grant insert on {log.table} to postgres")
    assert len(log.rejects()) == len(kept)
    assert run(upkeep.retry_rejects(), log.owner) == RecordResult(stored=1)
