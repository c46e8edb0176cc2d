"""The one thread that sends events to the database.

It sends what is in its own spool, what is in memory, and what it has taken over from dead processes: a
batch of each in turn. While the database does not take events it waits, longer each time, up to half a
minute; ``flush()`` ends the wait.
"""

from __future__ import annotations

import queue
import random
import sqlite3
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import psycopg

from usersync.audit.delivery.api_sender import sender_to
from usersync.audit.delivery.delivery import Delivery
from usersync.audit.delivery.protocol import UnavailableError
from usersync.audit.delivery.sender import now_ms
from usersync.audit.spool.orphaned_files import Adoption, Contact

if TYPE_CHECKING:
    from collections.abc import Callable

    from psycopg_pool import ConnectionPool

    from usersync.audit.delivery.stats import Tally
    from usersync.audit.options import Options
    from usersync.audit.spool.belonging import Home
    from usersync.audit.spool.directory import SpoolDirectory
    from usersync.audit.spool.intake import Intake
    from usersync.audit.spool.source import KeepingSource, Source
    from usersync.transports.data_api import DataApi

_FIRST_WAIT_S, _LONGEST_WAIT_S = 0.2, 30.0

# A server that asks for more (Retry-After) is asked again all the same.
_LONGEST_ASKED_S = 300.0

# How long events may gather before a batch is sent. Each batch costs those who record meanwhile some of the
# interpreter's time, and so there should be few of them.
_LINGER_S = 0.25

# While there is nothing to send: how often to look for files of dead processes.
_IDLE_S = 5.0

# The log's partitions are made months ahead; this often is more than enough.
_UPKEEP_S = 3600.0

# While nothing is sent, but something is kept that was: how often the database is asked where it is.
_PROBE_MS = 60_000

# Even while the database is away the spool's WAL has to be kept small.
_TEND_S = 0.5


class Writer:
    """Started by the first event. Everything but the thread itself may be called from any thread."""

    def __init__(
        self,
        source: str | ConnectionPool[Any] | DataApi,
        intake: Intake,
        directory: SpoolDirectory | None,
        options: Options,
        tally: Tally,
        *,
        home: Home,
    ) -> None:
        self._intake = intake
        self._tally = tally
        self.sender = sender_to(source, options.send_timeout)
        self.adoption = Adoption(directory, intake, options, tally, home=home, contact=self._contact)
        self._delivery = Delivery(self.sender, options, tally)
        # A SimpleQueue and not an Event: it may be put to from a signal handler that interrupts a put.
        self._calls: queue.SimpleQueue[bool] = queue.SimpleQueue()
        self._idle = False
        #: Set by whoever has to know which database is there; reset once it has answered.
        self.wants_contact = False
        self._upkeep_at = 0.0
        self._probed_ms = 0
        self._stopping = False
        self._thread: threading.Thread | None = None
        self._last_act: Callable[[], None] = _nothing
        self._lock = threading.RLock()
        #: Changes whenever something was settled, or failed.
        self.progress = threading.Condition()

    def _contact(self) -> Contact:
        return self.sender.position, self.sender.answered_ms

    def wake(self) -> None:
        """An event has come. Costs next to nothing unless the writer sleeps."""
        if self._thread is None:
            self._start()
        if self._idle:
            self._idle = False
            self._calls.put(False)

    def hurry(self) -> None:
        """Somebody waits: try now, whatever the back-off says, and look for files of dead processes."""
        self._start()
        self.adoption.due_at = 0.0
        self._calls.put(True)

    def _start(self) -> None:
        with self._lock:
            if self._thread is not None or self._stopping:
                return
            # Noted before it runs: a signal handler that records meanwhile must not start another.
            self._thread = threading.Thread(target=self._run, name="usersync-audit", daemon=True)
            try:
                self._thread.start()
            except RuntimeError as error:  # no thread to be had, or the interpreter is ending
                self._thread, problem = None, error
            else:
                return
        # Without the lock: a handler of the log may record events.
        self._tally.complain("thread", "the audit writer cannot be started: %s", problem)

    def stop(self, timeout: float, last_act: Callable[[], None]) -> None:
        """Let the thread end after the batch it is at, and wait for that so long.

        ``last_act`` is called once it has ended, by the thread itself: that may be later.
        """
        with self._lock:
            self._stopping = True
            self._last_act = last_act
            thread = self._thread
        self._calls.put(True)
        if thread is None or thread.ident is None:
            last_act()
        else:
            thread.join(max(0.0, timeout))

    def _run(self) -> None:
        failures = 0
        while not self._stopping:
            self._tally.state = "sending"
            try:
                busy = self._round()
            except Exception as error:  # noqa: BLE001 - the thread must outlive whatever happens
                failures += 1
                self._tally.failed(_describe(error))
                self._announce()
                failures = 0 if self._back_off(failures, _asked_to_wait(error)) else failures
            else:
                failures = 0
                self._announce()
                self._keep_up()
                if not busy:
                    self._rest()
        self.adoption.close()
        self.sender.close()
        self._last_act()
        self._tally.state = "stopped"
        self._announce()

    def _round(self) -> bool:
        """Send a batch of each source; whether there is more to send at once."""
        self._intake.tend()
        if self.wants_contact:
            self.sender.locate()
            self.wants_contact = False
        self.adoption.look()
        busy = self._deliver_spool()
        busy = self._deliver(self._intake.memory) or busy
        for adopted in self.adoption.sources():
            # Even if it is empty by now: there may be another in its place.
            self.adoption.guard(adopted, self._deliver)
            busy = True
        self.adoption.release_empty()
        return busy

    def _deliver(self, source: KeepingSource) -> bool:
        """Send a batch; first of all what the database had, if it has moved. Whether there is more."""
        if (source.keeps or source.last > source.done) and self._delivery.catch_up(source):
            return True
        return source.last > source.done and self._delivery.deliver(source)

    def _deliver_spool(self) -> bool:
        spool = self._intake.spool
        if spool is None:
            return False
        try:
            return self._deliver(spool)
        except (sqlite3.Error, OSError) as error:
            self._intake.suffer(error)
            return False

    def _announce(self) -> None:
        with self.progress:
            self.progress.notify_all()

    def _rest(self) -> None:
        """Sleep until there is something to do, and let some events gather then."""
        self._tally.state = "idle"
        self._idle = True
        # Asked after saying so: an event that came before is seen here, one that comes later wakes us.
        urgent = self._is_empty() and self._called(_IDLE_S)
        self._idle = False
        if not urgent:
            self._called(_LINGER_S)
        self.sender.rest()

    def _keep_up(self) -> None:
        """Send no events, which makes the partitions of the months ahead. A batch of events makes none."""
        if self._stopping:
            return
        self._probe()
        if time.monotonic() < self._upkeep_at:
            return
        self._upkeep_at = time.monotonic() + _UPKEEP_S
        # If it fails, events will tell; and without any, it is soon enough next time.
        with suppress(Exception):
            self.sender.send([])

    def _probe(self) -> None:
        """While something is kept that was delivered: see now and then whether the database has moved."""
        kept = [
            source
            for source in (self._intake.spool, self._intake.memory)
            if source is not None and source.keeps
        ]
        if not kept or now_ms() - max(self.sender.answered_ms, self._probed_ms) < _PROBE_MS:
            return
        self._probed_ms = now_ms()
        with suppress(Exception):
            self.sender.locate()

    def _is_empty(self) -> bool:
        sources: list[Source | None] = [self._intake.spool, self._intake.memory]
        return all(source is None or source.last == source.done for source in sources)

    def _back_off(self, failures: int, asked: float) -> bool:
        """Wait until the next attempt is due; True if somebody was in a hurry.

        ``asked`` is how long the server asked us to wait, which nobody's hurry shortens.
        """
        self._tally.state = "waiting"
        longest = min(_LONGEST_WAIT_S, _FIRST_WAIT_S * 2 ** min(failures - 1, 20))
        now = time.monotonic()
        least = now + asked
        until = max(least, now + longest * random.uniform(0.5, 1))  # noqa: S311 - not to be unpredictable
        urgent = False
        while not self._stopping and (remaining := (least if urgent else until) - time.monotonic()) > 0:
            urgent = self._called(min(remaining, _TEND_S)) or urgent
            self._intake.tend()
        return urgent

    def _called(self, timeout: float) -> bool:
        """Wait for a call; whether it was an urgent one."""
        try:
            urgent = self._calls.get(timeout=timeout)
            while not urgent:
                urgent = self._calls.get_nowait()
        except queue.Empty:
            return False
        return True


def _nothing() -> None:
    """The last act until there is one."""


def _asked_to_wait(error: Exception) -> float:
    return min(_LONGEST_ASKED_S, error.wait) if isinstance(error, UnavailableError) else 0.0


def _describe(error: Exception) -> str:
    if isinstance(error, UnavailableError | psycopg.Error):
        return " ".join(str(error).split())[:500]
    return f"{type(error).__name__}: {error}"[:500]
