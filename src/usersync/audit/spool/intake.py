"""Stores accepted events in the spool, or in memory while the spool is unavailable."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING

from usersync.audit.spool.file import Spool, is_damaged, remove_files
from usersync.audit.spool.memory import MemoryQueue
from usersync.transports.fork_gate import gate

if TYPE_CHECKING:
    from usersync.audit.delivery.stats import Counters
    from usersync.audit.options import Options
    from usersync.audit.spool.binding import Destination
    from usersync.audit.spool.directory import Claim, SpoolDirectory

# Time after a failure until the spool is tried again. An attempt may take milliseconds.
_RETRY_S = 2.0

# How often record() checks that the files exist, and how often the files are touched.
_LOOK_MS = 1_000
_TOUCH_MS = 3_600_000

Problem = (sqlite3.Error, OSError)

_GOING_ON_IN_MEMORY = (
    "the audit spool is not writable (%s): keeping events in memory. They are lost if this process "
    "crashes before they are sent"
)


class Intake:
    """Takes events from any thread and keeps them until the writer has sent them.

    ``directory`` is None for the durability ``memory``. With ``maintained``, a writer calls ``maintain()``.
    """

    def __init__(
        self,
        directory: SpoolDirectory | None,
        options: Options,
        counters: Counters,
        destination: Destination,
        *,
        maintained: bool,
    ) -> None:
        self._destination = destination
        self._directory = directory
        self._maintained = maintained
        self._options = options
        self._counters = counters
        self._lock = threading.RLock()
        # Collected under the lock and logged without it: a log handler may be slow, or record events itself.
        self._warnings: deque[tuple[str, ...]] = deque()
        self._retry_at = 0.0
        self._claim: Claim | None = None
        self._looked_ms = self._touched_ms = 0
        # Read under the lock, so they are true only in a signal handler that interrupts record() and records
        # an event.
        self._tidying = self._spilling = False
        # Spools whose files were removed. The writer may be sending a batch from one.
        self._retired: list[Spool] = []
        self.spool: Spool | None = None
        #: How many spools were removed after a failure, when all their events had been sent.
        self.started_over = 0
        self.memory = MemoryQueue(options.memory_events, options.memory_bytes, destination, options.keep)
        self.accepted = 0

    def accept(self, payload: bytes) -> bool:
        """Return whether the event was stored. Blocks at most for the milliseconds of opening a file."""
        at_ms = time.time_ns() // 1_000_000
        with self._lock:
            taken = self._to_spool(at_ms, payload) or self.memory.append(at_ms, payload)
            self.accepted += taken
            if not self._maintained and len(self.memory) and not self._spilling:
                self._spill()
        if self._warnings:
            self._log_messages()
        if self._retired and not self._maintained:
            # Without the intake's lock: fork acquires the gate first. See lifecycle.
            self._close_retired()
        if not taken:
            self._counters.drop(self._counters.spool_error or "the queue is full")
        return taken

    def _to_spool(self, at_ms: int, payload: bytes) -> bool:
        if self._directory is None or self._is_paused():
            return False
        try:
            spool = self.spool
            if spool is None or abs(at_ms - self._looked_ms) >= _LOOK_MS:
                spool = self._tidy(self._directory, at_ms)
            spool.append(at_ms, payload)
        except Problem as error:
            self._use_memory(error)
            return False
        if self._retry_at:
            self._recover()
        return True

    def _tidy(self, directory: SpoolDirectory, at_ms: int) -> Spool:
        """Return the spool. Creates its files if they do not exist or were removed."""
        try:
            self._tidying = True
            if self.spool is None:
                self.spool = self._open(directory)
            elif self._claim is not None:
                self._look(directory, self.spool, self._claim, at_ms)
            return self.spool
        finally:
            self._tidying = False

    def open_spool(self) -> Spool | None:
        """Return this process's spool, created if needed; None if it is unavailable now."""
        with self._lock:
            if self.spool is None and self._directory is not None and not self._is_paused():
                try:
                    self._tidy(self._directory, time.time_ns() // 1_000_000)
                except Problem as error:
                    self._use_memory(error)
            spool = self.spool
        self._log_messages()
        return spool

    def _is_paused(self) -> bool:
        return self._tidying or (bool(self._retry_at) and time.monotonic() < self._retry_at)

    def _open(self, directory: SpoolDirectory) -> Spool:
        claim = directory.claim()
        try:
            spool = Spool(
                claim.path,
                self._options.spool_bytes,
                maintained=self._maintained,
                destination=self._destination,
                keep=self._options.keep,
            )
        except BaseException:
            claim.path.unlink(missing_ok=True)
            claim.release()
            raise
        self._claim = claim
        return spool

    def _look(self, directory: SpoolDirectory, spool: Spool, claim: Claim, now_ms: int) -> None:
        """Check that the files exist, because a clean-up of /tmp by age may remove them. If removed, open new
        ones.
        """
        self._looked_ms = now_ms
        if not (claim.is_held() and spool.files_exist()):
            self._move(directory, spool, claim)
        elif abs(now_ms - self._touched_ms) >= _TOUCH_MS:
            self._touched_ms = now_ms
            claim.touch()

    def _move(self, directory: SpoolDirectory, spool: Spool, claim: Claim) -> None:
        try:
            moved = self._open(directory)
            moved.take_over(spool)
        except BaseException:
            if self._claim is not claim and self._claim is not None:
                moved.remove()
                self._claim.release()
                self._claim = claim
            raise
        self.spool = moved
        self._retired.append(spool)
        # The process with the lock has the file, and may be sending from it. An event that is sent twice is
        # stored once.
        if claim.is_held():
            remove_files(spool.path)
        claim.release()
        self._warnings.append(
            ("removed", "files of the audit spool were removed: continuing in %s", str(moved.path))
        )

    def _close_retired(self) -> None:
        while self._retired:
            with suppress(sqlite3.Error), gate:
                self._retired.pop().close()

    def record_failure(self, error: Exception) -> None:
        """Use memory for a while, and another file if this one is damaged."""
        with self._lock:
            self._use_memory(error)
        self._log_messages()

    def _use_memory(self, error: Exception) -> None:
        reason = f"{type(error).__name__}: {error}"
        self._retry_at = time.monotonic() + _RETRY_S
        self._counters.spool_error = reason
        if is_damaged(error) and self.spool is not None:
            self._rename_damaged(self.spool)
        self._warnings.append(("spool", _GOING_ON_IN_MEMORY, reason))

    def _rename_damaged(self, spool: Spool) -> None:
        # Later events are not lost: the next one opens a new file.
        claim, self.spool, self._claim, self._retry_at = self._claim, None, None, 0.0
        try:
            away = spool.rename_damaged()
        except Problem as error:
            self._warnings.append(("damaged", "a damaged audit spool could not be renamed: %s", str(error)))
        else:
            self._warnings.append(("damaged", "a damaged audit spool was renamed to %s", str(away)))
        if claim is not None:
            claim.release()

    def _recover(self) -> None:
        self._retry_at, self._counters.spool_error = 0.0, None
        self._warnings.append(("spool back", "the audit spool is writable again"))

    def _log_messages(self) -> None:
        with suppress(IndexError):
            while True:
                self._counters.warn(*self._warnings.popleft())

    def maintain(self) -> None:
        """The writer's work between batches: run checkpoints, and move events from memory to the spool."""
        self._close_retired()
        if self.spool is not None and self._directory is not None and not self._retry_at:
            try:
                with self._lock:
                    spool = self._tidy(self._directory, time.time_ns() // 1_000_000)
                spool.maintain()
            except Problem as error:
                self.record_failure(error)
        elif self.spool is not None and self._directory is not None:
            with suppress(*Problem):
                if not self._has_moved(self._directory, self.spool):
                    self._start_over(self.spool)
        if len(self.memory):
            self._spill()
        self._log_messages()

    def _has_moved(self, directory: SpoolDirectory, spool: Spool) -> bool:
        """After a failure: open new files if those of the spool were removed. Its events may be the last."""
        with self._lock:
            if self._tidy(directory, time.time_ns() // 1_000_000) is spool:
                return False
            self._recover()
        return True

    def _start_over(self, spool: Spool) -> None:
        """Remove a file that is not writable and has no waiting events: it may be what fills the disk.

        Its delivered events are no longer kept.
        """
        with gate:
            if len(spool) or spool.quarantined():
                return
            with self._lock:
                # Another thread may have written to it just now.
                if len(spool):
                    return
                # Delete first: if nothing can be deleted, the spool must stay open.
                spool.path.unlink()
                claim, self.spool, self._claim = self._claim, None, None
                self.started_over += 1
            spool.remove()
            if claim is not None:
                claim.release()

    def _spill(self) -> None:
        if self._directory is None or self._is_paused():
            return
        try:
            self._spilling = True
            for entry in self.memory.read(1000, 1 << 20):
                with self._lock:
                    if not self._to_spool(time.time_ns() // 1_000_000, entry.payload):
                        return
                    self.memory.hand_over(entry.number)
        finally:
            self._spilling = False

    def close(self) -> None:
        """Close the spool. A file without events is deleted; another process takes over any other file."""
        with self._lock:
            spool, claim, self.spool, self._claim = self.spool, self._claim, None, None
        self._close_retired()
        if spool is None or claim is None:
            return
        try:
            with gate:
                if len(spool) or spool.keeps or spool.quarantined():
                    spool.close()
                else:
                    spool.remove()
        finally:
            claim.release()

    def locks(self) -> list[threading.RLock]:
        """The locks to hold, in this order, so that no thread is recording."""
        return [self._lock, *([self.spool.lock] if self.spool is not None else [])]

    def descriptors(self) -> list[int]:
        """The file descriptors of locks that a forked child must close."""
        return [self._claim.fd] if self._claim is not None else []
