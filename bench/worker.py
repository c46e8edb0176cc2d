"""Workers: events a second, the time from a commit to the handler, two workers, and a task queue."""

from __future__ import annotations

import asyncio
import os
import random
import statistics
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from pathlib import Path
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any

import procrastinate
from psycopg.types.json import Jsonb

import handled
from feed import INSERT
from measuring import LOGGED, TIMES, Row, faster, plain, shown, slower, superuser_of, take_turns, timed
from usersync import Handlers
from usersync.audit.feed import number_events
from usersync.events import subscriptions
from usersync.events.definitions import definitions
from usersync.sql.audit_reading import AuditReading
from usersync.testing.install import install
from usersync.transports.run import run
from usersync.worker import worker as module
from usersync.worker.worker import Worker

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import ExitStack

    from measuring import Lab

PAGE = 500
#: The polling intervals of an idle worker, in milliseconds. The last is the usual one.
INTERVALS_MS = (50, 200, 1_000)
DEADLINE_S = 600


def wait_for(condition: Any, every: float = 0.02) -> None:
    """Wait until a condition is true."""
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(every)


class Work:
    """A log with events, and subscriptions to them."""

    def __init__(self, lab: Lab, stack: ExitStack) -> None:
        database = stack.enter_context(lab.database())
        install(database, LOGGED)
        self._dsn = database.dsn()
        self._superuser = superuser_of(database)
        self._owner = stack.enter_context(database.connect())
        self.options = lab.options
        run(number_events(), self._owner)  # starts the feed
        self._superuser.execute(INSERT, {"count": self.options.handled_events})
        run(number_events(), self._owner)
        # After the events, so that a worker that starts has nothing to do until the replay.
        self._register(handled.nothing)
        self._register(handled.waiting)
        self._superuser.execute("vacuum analyze public.audit_logs")
        self._superuser.execute("vacuum analyze usersync.event_numbers")
        self._page = (
            f"{AuditReading(LOGGED).select.replace('%%', '%')} "
            "where stored.occurred_at > %s order by stored.occurred_at limit %s"
        )

    def _register(self, handlers: Handlers) -> None:
        run(subscriptions.sync_handlers(definitions(handlers)), self._owner)

    def select(self) -> float:
        """Seconds an event, read in batches."""

        def read() -> int:
            count, last = 0, None
            while rows := self._owner.execute(self._page, [last or "-infinity", PAGE]).fetchall():
                count, last = count + len(rows), rows[-1][1]
            return count

        return timed(lambda: _is(read(), self.options.handled_events)) / self.options.handled_events

    def handle(self, name: str, workers: int, count: int) -> float:
        """Seconds an event, from the first event's attempt to the last one's."""
        self._superuser.execute("truncate usersync.delivery_attempts")
        self._superuser.execute("vacuum usersync.subscription_shards")
        with self._workers(name, workers):
            run(subscriptions.replay(name, self.options.handled_events - count + 1), self._owner)
            wait_for(lambda: self._is_done(name))
        row = self._owner.execute(
            "select count(*), extract(epoch from max(attempted_at + make_interval(secs => seconds)) "
            "- min(attempted_at))::float from usersync.delivery_attempts where error is null"
        ).fetchone()
        assert row
        _is(row[0], count)
        return float(row[1]) / count

    def _is_done(self, name: str) -> bool:
        (found,) = run(subscriptions.subscriptions(name), self._owner)
        return found.lag == 0

    @contextmanager
    def _workers(self, name: str, count: int) -> Iterator[None]:
        command = [sys.executable, "-m", "usersync", "worker", f"handled:{name}", "--dsn", self._dsn]
        processes = [
            subprocess.Popen(
                command, cwd=Path(__file__).parent, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
            )
            for _ in range(count)
        ]
        shared = (
            "select count(distinct worker), count(*) filter (where worker is null) "
            f"from usersync.subscription_shards where subscription = '{name}'"
        )
        try:
            wait_for(lambda: self._owner.execute(shared).fetchone() == (count, 0))
            yield
        finally:
            for each in processes:
                each.terminate()
            for each in processes:
                each.wait(60)

    def latencies(self, interval_ms: int, count: int) -> list[float]:
        """Seconds from commits to the handler, while the worker looks at the feed in this interval."""
        handlers, seen = Handlers(), SimpleQueue[float]()
        handlers.on("latency.measured", name="latency")(lambda _: seen.put(time.monotonic()))
        self._register(handlers)
        usual = module.FASTEST_S, module.SLOWEST_S
        module.FASTEST_S = module.SLOWEST_S = interval_ms / 1000
        try:
            with self._own_worker(handlers):
                self._record("latency.measured")
                seen.get(timeout=60)
                return [self._latency(seen, interval_ms / 1000) for _ in range(count)]
        finally:
            module.FASTEST_S, module.SLOWEST_S = usual

    def _latency(self, seen: SimpleQueue[float], interval: float) -> float:
        # The commit is at a random time between two reads of the feed.
        time.sleep(random.uniform(1, 2) * interval)  # noqa: S311
        self._record("latency.measured")
        committed = time.monotonic()
        return seen.get(timeout=60) - committed

    def _record(self, action: str) -> None:
        self._owner.execute("select public.record_audit_events(%s)", [Jsonb([{"action": action}])])

    @contextmanager
    def _own_worker(self, handlers: Handlers) -> Iterator[None]:
        worker = Worker(self._dsn, handlers)
        worker.start()
        try:
            yield
        finally:
            worker.close()

    def events(self) -> float:
        """Seconds to record an event in its own transaction, and to handle it."""
        count, done, left = self.options.jobs, threading.Event(), [self.options.jobs]
        handlers = Handlers()

        @handlers.on("job.deferred", name="jobs")
        def run_job(_):
            left[0] -= 1
            if not left[0]:
                done.set()

        self._register(handlers)
        recording = timed(lambda: [self._record("job.deferred") for _ in range(count)])
        started = time.perf_counter()
        with self._own_worker(handlers):
            assert done.wait(DEADLINE_S)
            handling = time.perf_counter() - started
        return (recording + handling) / count

    def jobs(self) -> float:
        """Seconds to defer a job in its own transaction, and to run it."""
        count, ran = self.options.jobs, []
        app = procrastinate.App(connector=procrastinate.PsycopgConnector(conninfo=self._dsn))

        @app.task(name="job")
        def job():
            ran.append(1)

        async def work() -> None:
            async with app.open_async():
                await app.run_worker_async(
                    wait=False, concurrency=1, install_signal_handlers=False, listen_notify=False
                )

        with app.open():
            if not app.check_connection():
                app.schema_manager.apply_schema()
            deferring = timed(lambda: [job.defer() for _ in range(count)])
        running = timed(lambda: asyncio.run(work()))
        _is(len(ran), count)
        return (deferring + running) / count


def _is(found: int, expected: int) -> None:
    assert found == expected, (found, expected)


def measure(lab: Lab, stack: ExitStack) -> tuple[list[Row], dict[str, Any]]:
    """Handle events."""
    work = Work(lab, stack)
    all_events = lab.options.handled_events
    few = max(all_events // 5, 1)
    handling = take_turns(
        {
            "SELECT": work.select,
            "one": lambda: work.handle("nothing", 1, all_events),
            "two": lambda: work.handle("nothing", 2, all_events),
        },
        lab.rounds,
        warm_up=False,
    )
    waiting = take_turns(
        {
            "one": lambda: work.handle("waiting", 1, few),
            "two": lambda: work.handle("waiting", 2, few),
        },
        lab.rounds,
        warm_up=False,
    )
    queues = take_turns({"event": work.events, "job": work.jobs}, lab.rounds)
    wait_ms = f"{handled.WAIT_S * 1000:g} ms"
    rows = [
        faster(
            "feed to a handler that does nothing, one worker", f"the same SELECT in batches of {PAGE}",
            handling, "one", "SELECT", limit=0.5,
        ),
        plain(
            "feed to a handler that does nothing, one worker", "", [1 / each for each in handling["one"]],
            "events/s", limit=5_000, sense="at least",
        ),
        faster(
            f"two workers, a handler that waits {wait_ms}", "one worker", waiting, "two", "one", limit=1.6
        ),
        faster(
            f"two workers, a handler that does nothing, {os.cpu_count()} CPUs with the database",
            "one worker", handling, "two", "one",
        ),
        slower(
            "record an event, and handle it", "procrastinate: defer and run an empty task",
            queues, "event", "job", limit=1.0,
        ),
    ]  # fmt: skip
    for interval in INTERVALS_MS:
        found = work.latencies(interval, lab.options.looks)
        half = interval / 2
        rows.append(
            plain(
                f"from commit to handler, a look each {interval:,} ms", "half the interval",
                [each * 1000 / half for each in found], TIMES, limit=1.5,
                ours=shown(statistics.median(found) * 1000, "ms"), theirs=shown(half, "ms"),
            )
        )  # fmt: skip
    return rows, {}
