"""Events that the database confirmed and lost in a failover or a restore are sent again from the spool."""

from __future__ import annotations

import psycopg
import pytest

from fixtures_replication import has_replayed, is_writable
from proxy import Proxy
from usersync import AuditLog
from usersync.audit.spool.memory import MemoryQueue
from usersync.audit.spool.window import Keep, Window
from usersync.core.position import DatabasePosition


@pytest.fixture(params=["spool", "memory"])
def durability(request):
    return request.param


@pytest.fixture(
    params=[{}, {"keep_delivered": 0}, {"keep_bytes": 9_000}], ids=["kept", "not kept", "few kept"]
)
def options(request, durability, spool_dir):
    fast = {"batch_events": 10, "send_timeout": 3}
    return {"spool_dir": spool_dir, "durability": durability, **fast, **request.param}


@pytest.mark.slow
def test_events_that_a_lagging_standby_lacks_are_sent_again_after_its_promotion(
    pair, exit_stack, options, eventually, caplog
):
    lag = exit_stack.enter_context(Proxy(pair.primary.host, pair.primary.port))
    standby = exit_stack.enter_context(pair.standby(lag))
    log = exit_stack.enter_context(AuditLog(pair.dsn, **options))
    ids = [log.record("before") for _ in range(50)]
    assert log.flush(30)
    eventually(lambda: has_replayed(pair.primary, standby))
    lag.silent.set()
    lost = [log.record("confirmed") for _ in range(100)]
    assert log.flush(30)
    assert set(lost) <= set(pair.ids(pair.primary))
    pair.primary.kill()
    ids += [log.record("meanwhile") for _ in range(10)]
    with psycopg.connect(standby.dsn(), autocommit=True) as connection:
        assert connection.execute("select pg_promote()").fetchone() == (True,)
    pair.fail_over_to(standby)
    assert not (set(pair.ids(standby)) & set(lost))
    assert log.flush(60)
    if options.get("keep_delivered") == 0:
        assert sorted(pair.ids(standby)) == sorted(ids)
        return
    if "keep_bytes" in options:
        eventually(lambda: log.stats().beyond_window)
        eventually(lambda: "older ones, which are no longer kept, may be lost" in caplog.text)
        stored = set(pair.ids(standby))
        assert 0 < log.stats().sent_again < 100
        assert log.stats().beyond_window >= 100 - log.stats().sent_again
        assert stored - set(ids) < set(lost)
        return
    eventually(lambda: "were sent again" in caplog.text)
    assert sorted(pair.ids(standby)) == sorted(ids + lost)
    assert (log.stats().sent_again, log.stats().beyond_window) == (100, 0)
    assert "100 audit events" in caplog.text


@pytest.mark.slow
def test_events_after_the_restored_point_in_time_are_sent_again(pair, exit_stack, spool_dir, eventually):
    """The process that recorded has ended. Another process takes over its kept events."""
    ids, restored = pair.lose_events(exit_stack, spool_dir=spool_dir)

    eventually(lambda: is_writable(restored))
    assert len(pair.ids(restored)) == 5
    with AuditLog(pair.dsn, spool_dir=spool_dir) as after:
        assert after.drain(30)
        assert after.stats().sent_again == 7
    assert sorted(pair.ids(restored)) == sorted(ids)


def test_delivered_events_do_not_count_as_waiting(store, make_log):
    log = make_log(store.dsn)
    for _ in range(20):
        log.record("a.b")
    assert log.flush()
    assert (log.stats().waiting, log.stats().oldest_age) == (0, None)
    assert len(log._engine.intake.spool.delivered(0, 100, 1 << 20)) == 20


def test_delivered_events_of_a_dead_process_are_kept_until_they_expire(
    store, make_log, spool_dir, monkeypatch
):
    first = make_log(store.dsn, keep_delivered=3600)
    first.record("a.b")
    assert first.flush()
    first.close()
    (path,) = spool_dir.rglob("*.spool")
    # The other files may contain kept events.
    second = make_log(store.dsn, keep_delivered=0)
    assert second.drain()
    assert path.exists()
    monkeypatch.setattr("usersync.audit.delivery.sender.now_ms", lambda: 1 << 42)
    assert second.drain()
    assert not path.exists()


def test_an_idle_process_notices_a_failover_and_sends_events_again(store, make_log, monkeypatch, eventually):
    monkeypatch.setattr("usersync.audit.delivery.writer._PROBE_MS", 0)
    monkeypatch.setattr("usersync.audit.delivery.writer._IDLE_S", 0.05)
    log = make_log(store.dsn)
    log.record("a.b")
    assert log.flush()
    spool = log._engine.intake.spool
    # This simulates an event that was lost on another timeline.
    with store.database.connect("supabase_admin") as admin:
        admin.execute("set session_replication_role = replica")
        admin.execute("delete from public.audit_logs")
    position = spool.binding.origin.position
    spool.binding.accept_position(DatabasePosition(position.installation, position.cluster, "FFFFFFFF"))
    eventually(lambda: len(store.ids()) == 1)
    eventually(lambda: log.stats().sent_again == 1)
    eventually(lambda: spool.binding.origin.position == position)


def test_kept_events_are_bounded_by_age_and_size():
    window = Window(Keep(ms=1000, size=25))
    for n in range(3):
        window.add(n + 1, at_ms=n * 100, size=10)
    # 30 bytes exceed the limit.
    assert (window.pop_expired(500), window.pop_expired(500)) == (1, None)
    assert (window.pop_expired(1100), window.pop_expired(1100)) == (2, None)
    assert (window.expires_ms, window.expired) == (1200, 2)
    assert (window.pop_expired(5000), bool(window)) == (3, False)


def test_events_kept_in_memory_are_bounded():
    queue = MemoryQueue(100, 100, keep=Keep(ms=1000, size=10))
    for _ in range(4):
        assert queue.append(0, b"12345")
    for number in range(1, 5):
        queue.discard(number, 5)
        queue.prune(0)
    assert [entry.number for entry in queue.delivered(0, 10, 100)] == [3, 4]
    queue.prune(1 << 50)
    assert queue.delivered(0, 10, 100) == []
