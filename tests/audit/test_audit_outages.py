"""Outages of the database of every kind: record() is not affected, and every event is stored afterwards."""

from __future__ import annotations

from contextlib import ExitStack

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from audit_settings import with_audit_log
from usersync import AuditLog
from usersync.audit.delivery import sender as sending
from usersync.audit.delivery.protocol import TooSlowError
from usersync.embedded import EmbeddedPostgres
from usersync.testing import SupabaseCluster
from usersync.testing.install import install

pytestmark = pytest.mark.newest_server


def record_through_an_outage(log, eventually):
    """Record events, and check that they are not stored yet. Returns their ids."""
    ids = [log.record("a.b", metadata={"n": n}) for n in range(100)]
    eventually(lambda: log.stats().consecutive_failures)
    ids += [log.record("a.b", metadata={"n": n}) for n in range(100)]
    assert None not in ids
    stats = log.stats()
    assert stats.waiting == 200
    assert stats.last_error
    assert not log.flush(0.1)
    return ids


def assert_stored_once(log, store, ids):
    assert log.flush(30)
    assert sorted(store.ids()) == sorted(ids)
    stats = log.stats()
    assert (stats.waiting, stats.consecutive_failures, stats.last_error) == (0, 0, None)
    assert (stats.dropped, stats.rejected, stats.quarantined) == (0, 0, 0)


def test_events_are_stored_after_the_database_was_read_only(store, make_log, eventually):
    name = store.database.name
    store.owner.execute(f'alter database "{name}" set default_transaction_read_only = on')
    log = make_log(store.dsn)
    ids = record_through_an_outage(log, eventually)
    # A session keeps the settings with which it started.
    store.owner.execute(f'alter database "{name}" reset default_transaction_read_only')
    assert_stored_once(log, store, ids)


@pytest.mark.slow
def test_events_are_stored_after_the_table_was_locked(store, make_log, eventually):
    log = make_log(store.dsn, send_timeout=0.5)
    with psycopg.connect(store.dsn) as other:
        other.execute("lock table public.audit_logs in access exclusive mode")
        ids = record_through_an_outage(log, eventually)
        other.rollback()
    assert_stored_once(log, store, ids)


def test_events_are_stored_after_the_table_was_missing(store, make_log, eventually):
    store.owner.execute("alter table public.audit_logs rename to elsewhere")
    log = make_log(store.dsn)
    ids = record_through_an_outage(log, eventually)
    store.owner.execute("alter table public.elsewhere rename to audit_logs")
    assert_stored_once(log, store, ids)


def test_events_are_stored_after_usersync_is_installed(store, make_log, eventually):
    store.owner.execute("alter function public.record_audit_events(jsonb) rename to gone")
    log = make_log(store.dsn)
    ids = record_through_an_outage(log, eventually)
    store.owner.execute("alter function public.gone(jsonb) rename to record_audit_events")
    assert_stored_once(log, store, ids)


def test_events_are_stored_after_a_missing_privilege_is_granted(store, make_log, eventually):
    store.owner.execute("revoke execute on function public.record_audit_events(jsonb) from service_role")
    log = make_log(make_conninfo(**conninfo_to_dict(store.database.dsn("service_role"))))
    ids = record_through_an_outage(log, eventually)
    store.owner.execute("grant execute on function public.record_audit_events(jsonb) to service_role")
    assert_stored_once(log, store, ids)


def test_events_are_stored_after_no_connection_was_available(store, make_log, eventually):
    store.owner.execute(f'alter database "{store.database.name}" connection limit 0')
    log = make_log(make_conninfo(**conninfo_to_dict(store.database.dsn("service_role"))))
    ids = record_through_an_outage(log, eventually)
    store.owner.execute(f'alter database "{store.database.name}" connection limit -1')
    assert_stored_once(log, store, ids)


@pytest.mark.slow
def test_events_are_stored_after_a_connection_stopped_answering(store, make_log, proxy, eventually):
    log = make_log(proxy.through(store.dsn), send_timeout=0.5)
    first = log.record("a.b")
    assert log.flush()
    proxy.silent.set()
    ids = record_through_an_outage(log, eventually)
    proxy.silent.clear()
    assert_stored_once(log, store, [first, *ids])


def test_recording_does_not_wait_for_a_connection_that_does_not_answer(store, make_log, proxy):
    log = make_log(proxy.through(store.dsn), send_timeout=600)
    log.record("a.b")
    assert log.flush()
    proxy.silent.set()
    # No duration is compared, only that no network is used: that would take until the test is ended.
    for _ in range(500):
        log.record("a.b")
    assert log.stats().consecutive_failures == 0


def test_a_terminated_session_does_not_count_as_a_failure(store, make_log):
    log = make_log(store.dsn)
    first = log.record("a.b")
    assert log.flush()
    store.owner.execute(
        "select pg_terminate_backend(pid, 5000) from pg_stat_activity "
        "where application_name = 'usersync-audit' and datname = current_database()"
    )
    second = log.record("a.b")
    assert log.flush(60)
    assert sorted(store.ids()) == sorted([first, second])
    assert log.stats().consecutive_failures == 0


def test_a_lost_answer_stores_no_event_twice(store, make_log, monkeypatch):
    log = make_log(store.dsn)
    exchange, lost = sending.exchange, []

    def losing(pgconn, deadline, query, param=None):
        result = exchange(pgconn, deadline, query, param)
        if query == b"commit" and not lost:
            lost.append(True)
            raise TooSlowError("lost")
        return result

    monkeypatch.setattr(sending, "exchange", losing)
    ids = [log.record("a.b") for _ in range(10)]
    assert log.flush()
    assert lost
    assert sorted(store.ids()) == sorted(ids)
    stats = log.stats()
    assert stats.duplicates >= 1
    assert stats.stored + stats.duplicates == 10


@pytest.mark.slow
def test_events_are_stored_after_the_server_was_stopped_and_killed():
    with ExitStack() as stack:
        server = stack.enter_context(EmbeddedPostgres(settings={"fsync": "off", "shared_buffers": "16MB"}))
        cluster = stack.enter_context(SupabaseCluster.on(server))
        database = cluster.create()
        install(database, with_audit_log())
        log = stack.enter_context(AuditLog(database.dsn(), durability="memory"))
        ids = []
        for interrupt in (server.stop, server.kill):
            ids += [log.record("a.b") for _ in range(50)]
            assert log.flush(20)
            interrupt()
            ids += [log.record("a.b") for _ in range(50)]
            assert not log.flush(0.3)
            server.start()
            assert log.flush(30)
        with database.connect() as connection:
            stored = [
                str(row[0]) for row in connection.execute("select id from public.audit_logs").fetchall()
            ]
        assert sorted(stored) == sorted(ids)
        cluster.maintenance.close()
