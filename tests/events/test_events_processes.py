"""Worker processes that are killed, suspended, or ended by an event."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time

import pytest
import stored_effects
from working import wait_for

from usersync import Handlers

pytestmark = pytest.mark.newest_server

KILLS = 6
CHANCE = random.Random(7)  # noqa: S311 - moments and entities


@pytest.fixture
def processes(working):
    """A function that starts worker processes. They are killed at the end of the test."""
    started = []

    def start(lease):
        started.append(stored_effects.start(working.dsn, lease=lease))
        return started[-1]

    working.owner.execute(stored_effects.TABLES)
    working.register(stored_effects.new_handlers(""))
    yield start
    for each in started:
        each.kill()
        each.join()
        each.close()


def effects(working, name):
    rows = working.owner.execute(
        "select event_id::text, entity, number from public.effects where name = %s order by n", [name]
    )
    return rows.fetchall()


def assert_in_order(stored):
    """Check that events of an entity were first handled in their order.

    After a kill, some are handled again.
    """
    seen, latest = set(), {}
    for event_id, entity, number in stored:
        if entity is not None and event_id not in seen:
            assert number > latest.get(entity, 0)
            latest[entity] = number
        seen.add(event_id)


@pytest.mark.slow
def test_killed_workers_handle_events_in_order_and_transactional_ones_exactly_once(working, processes):
    ids = []
    alive = [processes(lease=1.0), processes(lease=1.0)]
    for _ in range(KILLS):
        ids += working.record(*(CHANCE.randrange(20) for _ in range(40)), None)
        time.sleep(CHANCE.uniform(0, 0.25))
        alive.pop(0).kill()
        alive.append(processes(lease=1.0))
    for name in ("once", "once_async", "plain"):
        working.wait_done(name)
        stored = effects(working, name)
        assert {event_id for event_id, _, _ in stored} == set(ids)
        if name != "plain":
            assert len(stored) == len(ids)
        assert_in_order(stored)
        assert working.parked(name) == ()


@pytest.mark.slow
def test_a_suspended_worker_handles_no_event_that_another_one_took_over(working, processes):
    """Another worker takes over when the lease has expired.

    The first one resumes, and finds that it has no lease.
    """
    first = processes(lease=5.0)
    wait_for(lambda: working.leased("once") == 16)
    working.record(*range(30))
    for name in ("once", "once_async", "plain"):
        working.wait_done(name)
    os.kill(first.pid, signal.SIGSTOP)
    ids = working.record(*range(30))
    second = processes(lease=600.0)
    working.wait_done("once")
    os.kill(first.pid, signal.SIGCONT)
    more = working.record(*range(30))
    for name in ("once", "once_async", "plain"):
        working.wait_done(name)
        stored = [event_id for event_id, _, _ in effects(working, name)]
        assert len(stored) == len(set(stored)) == 90, name
        assert set(ids + more) < set(stored)
    for each in (first, second):
        each.terminate()
        each.join(90)
    assert [each.exitcode for each in (first, second)] == [0, 0]
    assert working.leased("once") == 0


def test_a_worker_whose_output_nobody_reads_releases_its_leases_when_it_ends(working):
    command = [sys.executable, "-m", "usersync", "worker", "--dsn", working.dsn]
    alive = "select count(*) from usersync.workers"
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        wait_for(lambda: working.owner.execute(alive).fetchone() == (1,))
        process.stderr.close()
        process.terminate()
    assert working.owner.execute(alive).fetchone() == (0,)


@pytest.mark.slow
def test_an_event_that_ends_the_worker_process_is_parked(working, processes):
    ids = working.record(*range(4), action="deadly")
    running = [processes(lease=600.0)]

    def is_found():
        if not running[-1].is_alive():
            # Time goes by.
            working.owner.execute("update usersync.subscription_shards set leased_until = now()")
            working.owner.execute("update usersync.workers set alive_until = now()")
            running.append(processes(lease=600.0))
        done = {event_id for event_id, _, _ in effects(working, "deadly")}
        return done == set(ids) and working.parked("deadly")

    (parked,) = wait_for(is_found)
    assert (parked.entity_id, str(parked.event_id)) == ("1", ids[1])
    assert "ended during the attempt" in (parked.error or "")


def test_an_event_of_a_lost_worker_waits_for_earlier_events_of_its_entity(working):
    """The lost worker stored which event it was trying. An earlier event of the same entity is parked."""
    handlers, seen, fails = Handlers(), [], [True]

    @handlers.on("a.b")
    def handle(event):
        if fails:
            raise ValueError
        seen.append(event.metadata["n"])

    working.register(handlers)
    with working.worker(handlers, backoff=lambda _: 3600.0):
        working.record(1)
        wait_for(lambda: working.parked("handle"))
    working.record(1, 1)
    assert not working.is_read("handle")
    last = "(select max(number) from usersync.event_numbers)"
    working.owner.execute(f"update usersync.subscription_shards set trying = {last} - 1")
    fails.clear()
    with working.worker(handlers, backoff=lambda _: 3600.0):
        wait_for(lambda: len(working.parked("handle")) == 3)
        assert [each.attempts for each in working.parked("handle")] == [1, 0, 0]
        working.retry("handle")
        working.wait_done("handle")
    assert seen == [0, 0, 1]
