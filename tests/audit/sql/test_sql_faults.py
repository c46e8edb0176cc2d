"""Errors of the database raise, so that the sender retries. No batch is stored in part."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime
from uuid import UUID

import psycopg
import pytest
from sql_log import event, send, wait_until_blocked

from usersync.audit import upkeep
from usersync.transports.run import run
from waiting import wait_for_locks

#: Two valid events and an invalid one. After an error, neither an event nor a rejected event may be stored.
BATCH = (event(), event(ip="nowhere"), event())


@contextmanager
def table_gone(log, session):
    name = psycopg.sql.Identifier(log.project.settings.audit_table.schema, "elsewhere").as_string()
    log.owner.execute(f"alter table {log.table} rename to elsewhere")
    yield
    log.owner.execute(f"alter table {name} rename to {log.table.rpartition('.')[2]}")


@contextmanager
def table_locked(log, session):
    with session() as other, other.transaction():
        other.execute(f"lock table {log.table} in access exclusive mode")
        yield


@contextmanager
def read_only(log, session):
    log.owner.execute("set default_transaction_read_only = on")
    yield
    log.owner.execute("set default_transaction_read_only = off")


@contextmanager
def no_privilege(log, session):
    log.owner.execute(f"revoke insert on {log.table} from postgres")
    yield
    log.owner.execute(f"grant insert on {log.table} to postgres")


@contextmanager
def no_partition(log, session):
    log.owner.execute(f"alter table {log.table} detach partition usersync.audit_logs_default")
    yield
    log.owner.execute(f"alter table {log.table} attach partition usersync.audit_logs_default default")


@contextmanager
def rejects_gone(log, session):
    log.owner.execute("alter table usersync.audit_rejects rename to elsewhere")
    yield
    log.owner.execute("alter table usersync.elsewhere rename to audit_rejects")


FAULTS = {
    table_gone: psycopg.DatabaseError,  # US301
    table_locked: psycopg.errors.LockNotAvailable,
    read_only: psycopg.errors.ReadOnlySqlTransaction,
    no_privilege: psycopg.errors.InsufficientPrivilege,
    no_partition: psycopg.errors.ObjectNotInPrerequisiteState,
    rejects_gone: psycopg.errors.UndefinedTable,
}


@pytest.mark.slow
@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
def test_an_error_raises_and_stores_no_event(log, session, fault):
    with fault(log, session), pytest.raises(FAULTS[fault]):
        log.record(*BATCH)
    assert log.rows() == log.rejects() == []
    assert log.record(*BATCH) == (2, 0, 1)


def test_a_partition_created_before_the_retry_receives_the_events(log, session):
    wait_for_locks(log.owner)
    maker, writer, now = session(), session(), datetime.now(UTC)
    log.owner.execute(f"drop table usersync.audit_logs_{now:%Y_%m}")
    with ThreadPoolExecutor(1) as pool:
        with maker.transaction():
            maker.execute("select usersync.make_audit_partitions()")
            sent = pool.submit(send, writer, event(occurred_at=now.isoformat()))
            wait_until_blocked(log.owner, writer)
        assert sent.result() == (1, 0, 0)
    assert log.row()["partition"] == f"usersync.audit_logs_{now:%Y_%m}"


def test_a_check_violation_without_a_name_is_not_a_missing_partition(log):
    log.owner.execute(
        "create function public.refuse() returns trigger language plpgsql as "
        "$$ begin raise check_violation; end $$; "
        f"create trigger refuse before insert on {log.table} for each row when (new.action = 'bad') "
        "execute function public.refuse()"
    )
    assert log.record(event(), event(action="bad")) == (1, 0, 1)


def test_an_error_does_not_end_the_callers_transaction(log):
    with log.owner.transaction():
        with pytest.raises(psycopg.errors.InvalidParameterValue), log.owner.transaction():
            log.owner.execute("select public.record_audit_events('5')")
        assert log.record(event()) == (1, 0, 0)
    assert len(log.rows()) == 1


def test_cancelling_a_call_raises_and_rejects_no_event(log, session):
    """A cancellation must not be handled as an error of an event."""
    with session() as other, other.transaction():
        other.execute(f"lock table {log.table} in access exclusive mode")
        log.owner.execute("set statement_timeout = '50ms'")
        with pytest.raises(psycopg.errors.QueryCanceled):
            log.record(event())
    assert log.rejects() == []


SWALLOW = """
    create function public.swallow() returns trigger language plpgsql as
    $$ begin if new.action = 'swallowed' then return null; end if; return new; end $$;
    create trigger swallow before insert on {} for each row execute function public.swallow()
"""


def test_an_event_that_a_trigger_suppresses_is_not_reported_as_a_duplicate(log):
    """The event is in no table, but a duplicate would be reported as stored."""
    log.owner.execute(SWALLOW.replace("{}", log.table))
    lost, good, timeless = event(action="swallowed"), event(), {"action": "swallowed"}
    assert log.record(lost, good, timeless) == (1, 0, 2)
    assert log.record(lost, good) == (0, 1, 1)
    (first, state, reason), (second, *_) = log.rejects()
    assert (first, second["action"]) == (lost, "swallowed")
    assert (state, "returned null" in reason) == ("27000", True)
    log.owner.execute(f"drop trigger swallow on {log.table}")
    assert run(upkeep.retry_rejects(), log.owner).stored == 2
    assert len(log.rows()) == 3


def test_an_event_without_an_id_can_be_retried(log):
    assert log.record({"action": "a", "outcome": "perhaps"}) == (0, 0, 1)
    ((kept, *_),) = log.rejects()
    assert UUID(kept["id"])
    assert log.record(kept) == (0, 0, 1)
    assert len(log.rejects()) == 1
    assert log.record("no event", {"action": "b"}, {"action": "c", "id": None}) == (2, 0, 1)
