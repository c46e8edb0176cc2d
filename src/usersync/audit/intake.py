"""Where an accepted event goes: to the spool, or to memory while there is none."""

from __future__ import annotations

import sqlite3
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING

from usersync.audit.memory import MemoryQueue
from usersync.audit.spool import Spool, gate, is_damaged

if TYPE_CHECKING:
    from usersync.audit.directory import Claim, SpoolDirectory
    from usersync.audit.options import Options
    from usersync.audit.stats import Tally

# How long after a failure the spool is tried again. An attempt may take milliseconds.
_RETRY_S = 2.0

Trouble = (sqlite3.Error, OSError)


class Intake:
    """Takes events from any thread and keeps them until the writer has sent them.

    ``directory`` is None where the durability is ``memory``. ``tended`` means that a writer calls
    :meth:`tend`.
    """

    def __init__(
        self, directory: SpoolDirectory | None, options: Options, tally: Tally, *, tended: bool
    ) -> None:
        self._directory = directory
        self._tended = tended
        self._options = options
        self._tally = tally
        self._lock = threading.RLock()
        self._retry_at = 0.0
        self._claim: Claim | None = None
        self.spool: Spool | None = None
        self.memory = MemoryQueue(options.memory_events, options.memory_bytes)
        self.accepted = 0

    def accept(self, payload: bytes) -> bool:
        """Whether the event is kept. Blocks for the milliseconds that opening a file takes, and no more."""
        at_ms = time.time_ns() // 1_000_000
        with self._lock:
            taken = self._to_spool(at_ms, payload) or self.memory.append(at_ms, payload)
            self.accepted += taken
        if not taken:
            self._tally.drop(self._tally.spool_error or "the queue is full")
        return taken

    def _to_spool(self, at_ms: int, payload: bytes) -> bool:
        if self._directory is None or self._is_paused():
            return False
        try:
            if self.spool is None:
                self.spool = self._open(self._directory)
            self.spool.append(at_ms, payload)
        except Trouble as error:
            self.suffer(error)
            return False
        if self._retry_at:
            self._recover()
        return True

    def open_spool(self) -> Spool | None:
        """This process's spool, made if need be; None if there can be none now."""
        with self._lock:
            if self.spool is None and self._directory is not None and not self._is_paused():
                try:
                    self.spool = self._open(self._directory)
                except Trouble as error:
                    self.suffer(error)
            return self.spool

    def _is_paused(self) -> bool:
        return bool(self._retry_at) and time.monotonic() < self._retry_at

    def _open(self, directory: SpoolDirectory) -> Spool:
        claim = directory.claim()
        try:
            spool = Spool(claim.path, self._options.spool_bytes, tended=self._tended)
        except BaseException:
            claim.path.unlink(missing_ok=True)
            claim.release()
            raise
        self._claim = claim
        return spool

    def suffer(self, error: Exception) -> None:
        """Go on in memory for a while, and with another file if this one is damaged."""
        with self._lock:
            self._retry_at = time.monotonic() + _RETRY_S
            self._tally.spool_error = f"{type(error).__name__}: {error}"
            if is_damaged(error) and self.spool is not None:
                self._put_away(self.spool)
        self._tally.complain(
            "spool",
            "the audit spool cannot be written (%s); going on in memory, where a kill or a crash of this "
            "process loses what has not been sent",
            self._tally.spool_error,
        )

    def _put_away(self, spool: Spool) -> None:
        # Nothing is lost of what comes now: the next event opens a new file.
        self.spool, self._retry_at = None, 0.0
        try:
            away = spool.put_away()
        except Trouble as error:
            self._tally.complain("damaged", "a damaged audit spool cannot be renamed: %s", error)
        else:
            self._tally.complain("damaged", "a damaged audit spool was set aside as %s", away)
        if self._claim is not None:
            self._claim.release()
            self._claim = None

    def _recover(self) -> None:
        self._retry_at, self._tally.spool_error = 0.0, None
        self._tally.complain("spool back", "the audit spool can be written again")

    def tend(self) -> None:
        """What the writer does between batches: checkpoint, and move events from memory to the spool."""
        if self.spool is not None and not self._retry_at:
            try:
                self.spool.tend()
            except Trouble as error:
                self.suffer(error)
        elif self.spool is not None and not len(self.spool):
            with suppress(*Trouble):
                self._start_over(self.spool)
        if self._directory is not None and len(self.memory):
            self._spill()

    def _start_over(self, spool: Spool) -> None:
        """Give up a file that cannot be written and has nothing in it: what fills the disk may be its WAL."""
        with gate:
            if spool.refused():
                return
            with self._lock:
                # First, and alone: where nothing can be deleted, nothing is to be closed.
                spool.path.unlink()
                claim, self.spool, self._claim = self._claim, None, None
            spool.remove()
            if claim is not None:
                claim.release()

    def _spill(self) -> None:
        for entry in self.memory.read(1000, 1 << 20):
            with self._lock:
                if not self._to_spool(time.time_ns() // 1_000_000, entry.payload):
                    return
                self.memory.discard(entry.number)

    def close(self) -> None:
        """Close the spool. Its file goes if it is empty; else the next process finds it."""
        with self._lock:
            spool, claim, self.spool, self._claim = self.spool, self._claim, None, None
        if spool is None or claim is None:
            return
        try:
            with gate:
                if len(spool) or spool.refused():
                    spool.close()
                else:
                    spool.remove()
        finally:
            claim.release()

    def locks(self) -> list[threading.RLock]:
        """What to hold, in this order, for no thread to be recording."""
        return [self._lock, *([self.spool.lock] if self.spool is not None else [])]

    def descriptors(self) -> list[int]:
        """The lock that a forked child must not keep from being released."""
        return [self._claim.fd] if self._claim is not None else []
