"""Durability ``memory``: a bounded queue, and no file."""

from __future__ import annotations

from usersync.audit.memory import MemoryQueue


def test_events_arrive_without_a_file(make_log, store, spool_dir):
    log = make_log(store.dsn, durability="memory")
    ids = [log.record("a.b") for _ in range(1000)]
    assert log.flush()
    assert sorted(store.ids()) == sorted(ids)
    assert not spool_dir.exists()


def test_what_does_not_fit_is_not_accepted_and_counted(make_log, caplog):
    log = make_log(None, durability="memory", memory_events=2)
    results = [log.record("a.b") for _ in range(5)]
    assert [each is not None for each in results] == [True, True, False, False, False]
    stats = log.stats()
    assert (stats.accepted, stats.dropped, stats.in_memory) == (2, 3, 2)
    assert caplog.text.count("could not be accepted") == 1


def test_it_is_bounded_in_bytes_too():
    queue = MemoryQueue(100, 10)
    assert queue.append(0, b"12345678")
    assert not queue.append(0, b"123")
    assert queue.append(0, b"12")
    queue.discard(1)
    assert queue.append(0, b"123")
    assert [entry.payload for entry in queue.read(10, 100)] == [b"12", b"123"]
    assert [entry.payload for entry in queue.read(10, 1)] == [b"12"]
    assert queue.done == 1
