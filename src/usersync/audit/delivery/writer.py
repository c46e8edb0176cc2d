"""The thread that sends events to the database.

It sends from its own spool, from memory, and from the files taken over from dead processes, one batch of each
in turn. While the database does not accept events, it waits, longer each time, up to half a minute;
``flush()`` ends the wait.
"""

from __future__ import annotations

import queue
import sqlite3
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING

import psycopg

from usersync.audit.delivery.delivery import SpoolDelivery
from usersync.audit.delivery.protocol import UnavailableError
from usersync.audit.delivery.sender import now_ms
from usersync.audit.delivery.senders import sender_to
from usersync.audit.spool.orphaned_files import Contact, OrphanedFiles
from usersync.transports.backoff import wait_before

if TYPE_CHECKING:
    from collections.abc import Callable

    from usersync.audit.delivery.stats import Counters
    from usersync.audit.options import Options
    from usersync.audit.spool.address import Address
    from usersync.audit.spool.binding import Destination
    from usersync.audit.spool.directory import SpoolDirectory
    from usersync.audit.spool.intake import Intake
    from usersync.audit.spool.source import EventSource, KeepingSource

_FIRST_WAIT_S, _LONGEST_WAIT_S = 0.2, 30.0

# The maximum for Retry-After: if a server asks for more, it is asked earlier.
_LONGEST_ASKED_S = 300.0

# How long events may gather before a batch is sent. Each batch takes the interpreter's time from threads that
# record, so there should be few batches.
_LINGER_S = 0.25

# While no events wait: how often to search for files of dead processes.
_IDLE_S = 5.0

# The log's partitions are created months ahead, so this is often enough.
_UPKEEP_S = 3600.0

# While no events wait, but delivered events are kept: how often the database is asked for its position.
_PROBE_MS = 60_000

# The spool's WAL must stay small even while the database is unavailable.
_MAINTENANCE_S = 0.5


class Writer:
    """The first event starts its thread. Any thread may call its methods."""

    def __init__(
        self,
        source: Address,
        intake: Intake,
        directory: SpoolDirectory | None,
        options: Options,
        counters: Counters,
        *,
        destination: Destination,
    ) -> None:
        self._intake = intake
        self._counters = counters
        self.sender = sender_to(source, options.send_timeout)
        self.orphaned_files = OrphanedFiles(
            directory, intake, options, counters, destination=destination, contact=self._contact
        )
        self._delivery = SpoolDelivery(self.sender, options, counters)
        # A SimpleQueue and not an Event, because a signal handler may put to it while it interrupts a put.
        self._calls: queue.SimpleQueue[bool] = queue.SimpleQueue()
        self._idle = False
        #: Set to require a new answer from the database; cleared after the answer.
        self.wants_contact = False
        self._upkeep_at = 0.0
        self._probed_ms = 0
        self._stopping = False
        self._thread: threading.Thread | None = None
        self._last_act: Callable[[], None] = _nothing
        self._lock = threading.RLock()
        #: Changes whenever events were sent or an attempt failed.
        self.progress = threading.Condition()

    def _contact(self) -> Contact:
        return self.sender.position, self.sender.answered_ms

    def wake(self) -> None:
        """Called after an event was stored. Takes almost no time unless the writer sleeps."""
        if self._thread is None:
            self._start()
        if self._idle:
            self._idle = False
            self._calls.put(False)

    def send_now(self) -> None:
        """Try now, whatever the back-off, and search for files of dead processes."""
        self._start()
        self.orphaned_files.due_at = 0.0
        self._calls.put(True)

    def _start(self) -> None:
        with self._lock:
            if self._thread is not None or self._stopping:
                return
            # Set before the thread starts: a signal handler that records meanwhile must not start another.
            self._thread = threading.Thread(target=self._run, name="usersync-audit", daemon=True)
            try:
                self._thread.start()
            except RuntimeError as error:  # no thread can be started, or the interpreter is ending
                self._thread, problem = None, error
            else:
                return
        # Without the lock, because a log handler may record events.
        self._counters.warn("thread", "the audit writer could not be started: %s", problem)

    def stop(self, timeout: float, last_act: Callable[[], None]) -> None:
        """Let the thread end after its current batch, and wait for the end at most ``timeout`` seconds.

        The thread calls ``last_act`` when it has ended, which may be later.
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
            self._counters.state = "sending"
            try:
                busy = self._round()
            except Exception as error:  # noqa: BLE001 - the thread must survive any error
                failures += 1
                self._counters.failed(_describe(error))
                self._announce()
                failures = 0 if self._back_off(failures, _asked_to_wait(error)) else failures
            else:
                failures = 0
                self._announce()
                self._run_upkeep()
                if not busy:
                    self._wait_for_events()
        self.orphaned_files.close()
        self.sender.close()
        self._last_act()
        self._counters.state = "stopped"
        self._announce()

    def _round(self) -> bool:
        """Send a batch of each source. Returns whether more events can be sent at once."""
        self._intake.maintain()
        if self.wants_contact:
            self.sender.locate()
            self.wants_contact = False
        self.orphaned_files.look()
        busy = self._deliver_spool()
        busy = self._deliver(self._intake.memory) or busy
        for adopted in self.orphaned_files.sources():
            # Even if it is empty now: another thread may have opened a new one.
            self.orphaned_files.guard(adopted, self._deliver)
            busy = True
        self.orphaned_files.release_empty()
        return busy

    def _deliver(self, source: KeepingSource) -> bool:
        """Send kept events again if the database has moved; else send a batch. Returns whether more wait."""
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
            self._intake.record_failure(error)
            return False

    def _announce(self) -> None:
        with self.progress:
            self.progress.notify_all()

    def _wait_for_events(self) -> None:
        """Sleep until there is work, then let events gather for a moment."""
        self._counters.state = "idle"
        self._idle = True
        # Checked after setting ``_idle``: an earlier event is seen here, and a later one wakes this thread.
        urgent = self._is_empty() and self._wait_for_call(_IDLE_S)
        self._idle = False
        if not urgent:
            self._wait_for_call(_LINGER_S)
        self.sender.close_if_idle()

    def _run_upkeep(self) -> None:
        """Send an empty batch, which creates the partitions of the next months. Batches with events create
        none.
        """
        if self._stopping:
            return
        self._probe()
        if time.monotonic() < self._upkeep_at:
            return
        self._upkeep_at = time.monotonic() + _UPKEEP_S
        # A failure is ignored: the next batch of events reports it, and otherwise the next time is soon
        # enough.
        with suppress(Exception):
            self.sender.send([])

    def _probe(self) -> None:
        """While delivered events are kept: check from time to time whether the database has moved."""
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
        sources: list[EventSource | None] = [self._intake.spool, self._intake.memory]
        return all(source is None or source.last == source.done for source in sources)

    def _back_off(self, failures: int, asked: float) -> bool:
        """Wait until the next attempt is due. Returns whether ``send_now()`` ended the wait.

        ``asked`` is the wait in seconds that the server asked for. ``send_now()`` does not shorten it.
        """
        self._counters.state = "waiting"
        now = time.monotonic()
        least = now + asked
        until = max(least, now + wait_before(failures, _FIRST_WAIT_S, _LONGEST_WAIT_S))
        urgent = False
        while not self._stopping and (remaining := (least if urgent else until) - time.monotonic()) > 0:
            urgent = self._wait_for_call(min(remaining, _MAINTENANCE_S)) or urgent
            self._intake.maintain()
        return urgent

    def _wait_for_call(self, timeout: float) -> bool:
        """Wait for a call of ``wake()`` or ``send_now()``. Returns whether it was ``send_now()``."""
        try:
            urgent = self._calls.get(timeout=timeout)
            while not urgent:
                urgent = self._calls.get_nowait()
        except queue.Empty:
            return False
        return True


def _nothing() -> None:
    """The default for ``last_act``."""


def _asked_to_wait(error: Exception) -> float:
    return min(_LONGEST_ASKED_S, error.wait) if isinstance(error, UnavailableError) else 0.0


def _describe(error: Exception) -> str:
    if isinstance(error, UnavailableError | psycopg.Error):
        return " ".join(str(error).split())[:500]
    return f"{type(error).__name__}: {error}"[:500]
