"""Durability ``memory``: events are kept in a bounded queue, without a file."""

from __future__ import annotations

import pytest

from usersync.audit.delivery.delivery import SpoolDelivery
from usersync.audit.delivery.sender import Sender
from usersync.audit.delivery.stats import Counters
from usersync.audit.options import Options
from usersync.audit.spool.memory import MemoryQueue


def test_events_are_stored_without_a_spool_file(make_log, store, spool_dir):
    log = make_log(store.dsn, durability="memory")
    ids = [log.record("a.b") for _ in range(1000)]
    assert log.flush()
    assert sorted(store.ids()) == sorted(ids)
    assert not spool_dir.exists()


def test_events_beyond_the_queue_are_dropped_and_counted(make_log, caplog):
    log = make_log(None, durability="memory", memory_events=2)
    results = [log.record("a.b") for _ in range(5)]
    assert [each is not None for each in results] == [True, True, False, False, False]
    stats = log.stats()
    assert (stats.accepted, stats.dropped, stats.in_memory) == (2, 3, 2)
    assert caplog.text.count("was not accepted") == 1


def test_the_queue_is_also_bounded_in_bytes():
    queue = MemoryQueue(100, 10)
    assert queue.append(0, b"12345678")
    assert not queue.append(0, b"123")
    assert queue.append(0, b"12")
    queue.discard(1)
    assert queue.append(0, b"123")
    assert [entry.payload for entry in queue.read(10, 100)] == [b"12", b"123"]
    assert [entry.payload for entry in queue.read(10, 1)] == [b"12"]
    assert queue.done == 1


def test_events_lost_at_exit_are_logged(make_log, caplog):
    log = make_log("postgresql://u@127.0.0.1:1/nowhere", durability="memory")
    for _ in range(3):
        log.record("a.b")
    assert not log.close(0.1)
    assert "3 audit events are only in memory, and are lost when this process ends" in caplog.text


@pytest.mark.newest_server
def test_deliver_returns_whether_older_events_are_waiting(store, monkeypatch):
    """Events recorded during a batch are collected for the next one. Otherwise every batch would be small."""
    queue, sender = MemoryQueue(100, 1000), Sender(store.dsn, 20)
    delivery = SpoolDelivery(sender, Options(batch_events=2), Counters())
    send = sender.send

    def slowly(payloads, **options):
        queue.append(0, b'{"action": "a.b"}')
        return send(payloads, **options)

    monkeypatch.setattr(sender, "send", slowly)
    for _ in range(3):
        queue.append(0, b'{"action": "a.b"}')
    assert delivery.deliver(queue)
    assert queue.last - queue.done == 2
    assert not delivery.deliver(queue)
    assert queue.last - queue.done == 1
    assert not delivery.deliver(MemoryQueue(1, 1))
    sender.close()
    assert len(store.ids()) == 4
