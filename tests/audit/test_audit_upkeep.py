"""Every process with a writer creates the log's partitions in advance, also if it only calls record_in()."""

from __future__ import annotations

import threading

import psycopg
import pytest

from usersync.audit.delivery import writer as writing

pytestmark = pytest.mark.newest_server

PARTITIONS = """
    select relname::text from pg_inherits join pg_class on pg_class.oid = inhrelid
    where inhparent = 'public.audit_logs'::regclass and relname <> 'audit_logs_default' order by relname
"""


def partitions(store):
    return [row[0] for row in store.owner.execute(PARTITIONS).fetchall()]


@pytest.fixture
def drop_partitions(store):
    """A function that drops the partitions of all months, and returns their names."""

    def drop():
        with store.owner.transaction():
            # Locks the log first, in the order in which a writer acquires its locks.
            store.owner.execute("lock table public.audit_logs in access exclusive mode")
            names = partitions(store)
            for name in names:
                store.owner.execute(f'drop table usersync."{name}"')
        return names

    return drop


@pytest.fixture
def _upkeep_runs_often(monkeypatch):
    monkeypatch.setattr(writing, "_UPKEEP_S", 0.05)
    monkeypatch.setattr(writing, "_IDLE_S", 0.05)


def test_partitions_are_created_if_all_events_are_recorded_in_transactions(
    store, make_log, drop_partitions, eventually
):
    expected = drop_partitions()[:3]
    log = make_log(store.database.dsn("service_role"))
    with psycopg.connect(store.dsn) as connection:
        # Commit soon, so that other sessions do not wait longer than needed for this transaction.
        connection.execute("create temporary table work as select 1")
        assert log.record_in(connection, "a.b")
        connection.commit()
    eventually(lambda: partitions(store) == expected)
    assert log.stats().accepted == 0


@pytest.mark.usefixtures("_upkeep_runs_often")
def test_an_idle_writer_creates_partitions(store, log, drop_partitions, eventually):
    log.record("a.b")
    assert log.flush()
    # This row does not prevent a new partition, because it is dropped with its partition.
    expected = drop_partitions()[:3]
    eventually(lambda: partitions(store) == expected)


@pytest.mark.usefixtures("_upkeep_runs_often")
def test_creating_partitions_neither_waits_for_a_lock_nor_fails(store, log, drop_partitions, eventually):
    expected = drop_partitions()[:3]
    with psycopg.connect(store.dsn) as other:
        other.execute("lock table public.users in row exclusive mode")
        ids = []
        for _ in range(5):
            ids.append(log.record("a.b"))
            assert log.flush()
        assert partitions(store) == []
        stats = log.stats()
        assert (stats.stored, stats.consecutive_failures, stats.last_error) == (5, 0, None)
    eventually(lambda: partitions(store) == expected)
    assert sorted(store.ids()) == sorted(ids)


@pytest.mark.usefixtures("_upkeep_runs_often")
def test_concurrent_writers_create_each_partition_once(store, make_log, drop_partitions, eventually):
    expected = drop_partitions()[:3]
    logs = [make_log(store.dsn) for _ in range(6)]
    ids, barrier = [], threading.Barrier(len(logs))

    def work(log):
        barrier.wait()
        for _ in range(5):
            ids.append(log.record("a.b"))
            log.flush(30)

    threads = [threading.Thread(target=work, args=(log,)) for log in logs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(log.flush(30) for log in logs)
    eventually(lambda: partitions(store) == expected)
    assert sorted(store.ids()) == sorted(ids)
    assert all(log.stats().consecutive_failures == 0 for log in logs)


@pytest.mark.usefixtures("_upkeep_runs_often")
def test_failed_upkeep_does_not_count_as_an_outage(make_log, store, eventually):
    log = make_log("postgresql://u@127.0.0.1:1/nowhere")
    with psycopg.connect(store.dsn) as connection:
        assert log.record_in(connection, "a.b")
    eventually(lambda: log.stats().writer == "idle")
    stats = log.stats()
    assert (stats.consecutive_failures, stats.last_error) == (0, None)
