"""Many threads, tasks and events at once."""

from __future__ import annotations

import asyncio
import threading

import pytest

pytestmark = pytest.mark.newest_server


def test_64_threads_record_concurrently(log, store):
    ids, barrier = [], threading.Barrier(64)

    def work():
        barrier.wait()
        mine = [log.record("a.b", metadata={"n": n}) for n in range(50)]
        ids.extend(mine)

    threads = [threading.Thread(target=work) for _ in range(64)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(ids)) == 64 * 50
    assert log.flush(60)
    assert sorted(store.ids()) == sorted(ids)
    assert log.stats().accepted == log.stats().stored == 64 * 50


def test_1000_tasks_record_concurrently(log, store):
    async def work(n):
        with log.context(request_id=f"r{n}"):
            async with log.action("a.b") as event:
                await asyncio.sleep(0)
            return event.id

    async def main():
        return await asyncio.gather(*(work(n) for n in range(1000)))

    ids = asyncio.run(main())
    assert log.flush(60)
    events = store.events()
    assert sorted(event["id"] for event in events) == sorted(ids)
    assert len({event["request_id"] for event in events}) == 1000


def test_a_hundred_thousand_events_of_which_one_in_ten_is_malformed(make_log, store):
    """Uses a tenth of this number, to keep the suite short."""
    log = make_log(store.dsn, durability="memory", memory_events=10**6)
    for n in range(10_000):
        log.record("a.b", actor_id=(lambda: {"actor_type": "robot"}) if n % 10 == 0 else None)
    assert log.flush(90)
    stats = log.stats()
    assert (stats.stored, stats.rejected, stats.quarantined, stats.dropped) == (9000, 1000, 0, 0)


def test_events_of_one_thread_keep_their_order(log, store):
    for n in range(1000):
        log.record("a.b", metadata={"n": n})
    assert log.flush()
    assert [event["metadata"]["n"] for event in store.events()] == list(range(1000))


def test_the_applications_pool_can_be_used(make_log, store):
    from psycopg_pool import ConnectionPool  # noqa: PLC0415

    with ConnectionPool(store.dsn, min_size=1, max_size=1, open=True) as pool:
        log = make_log(pool)
        ids = [log.record("a.b") for _ in range(10)]
        assert log.flush()
        assert sorted(store.ids()) == sorted(ids)
        with pool.connection(timeout=5) as connection:
            assert connection.execute("select 1").fetchone() == (1,)
        log.close()
