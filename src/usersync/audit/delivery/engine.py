"""The parts of an audit log in one process: intake, writer, counters. A fork creates its own."""

from __future__ import annotations

import os
import time
from contextlib import suppress
from dataclasses import dataclass, field
from sqlite3 import Error as SqliteError
from typing import TYPE_CHECKING, Any

from usersync.audit.delivery.stats import AuditStats, Counters
from usersync.audit.delivery.writer import Writer
from usersync.audit.spool.directory import SpoolDirectory
from usersync.audit.spool.intake import Intake

if TYPE_CHECKING:
    from pathlib import Path

    from usersync.audit.options import Options
    from usersync.audit.spool.address import Address
    from usersync.audit.spool.binding import Destination
    from usersync.audit.spool.orphaned_files import OrphanedFiles, SkippedFile

# Time for the writer to close its connection, in addition to the time for sending.
_GRACE_S = 0.1


@dataclass(frozen=True)
class DrainResult:
    """The result of sending the events that dead processes have left."""

    #: Whether all events were sent in time.
    is_done: bool
    #: The files with events for another database.
    left: dict[Path, SkippedFile] = field(default_factory=dict)
    #: The unreadable files, and other accounts' directories.
    unreadable: tuple[Path, ...] = ()

    def __bool__(self) -> bool:
        return self.is_done and not self.unreadable and not any(each.is_own for each in self.left.values())


class Engine:
    """``root`` is the directory of the spool files; None if nothing is to be written to disk.

    ``source`` is None if this process only records, and another sends.
    """

    def __init__(
        self, source: Address | None, root: Path | None, options: Options, destination: Destination
    ) -> None:
        self.pid = os.getpid()
        self.counters = Counters()
        directory = SpoolDirectory(root) if root is not None else None
        self.intake = Intake(directory, options, self.counters, destination, maintained=source is not None)
        self._writer = (
            Writer(source, self.intake, directory, options, self.counters, destination=destination)
            if source is not None
            else None
        )

    def accept(self, payload: bytes) -> bool:
        """Return whether the event was stored."""
        taken = self.intake.accept(payload)
        self.maintain()
        return taken

    def maintain(self) -> None:
        """Wake the writer to do its maintenance."""
        if self._writer is not None:
            self._writer.wake()

    def flush(self, timeout: float) -> bool:
        """Wait until every event accepted so far was sent. Returns whether that was in time."""
        deadline = time.monotonic() + timeout
        memory = self.intake.memory
        mark = memory.last
        # Memory first: its events may have moved to the spool, and are then counted there.
        if not self._wait(lambda: memory.done >= mark, deadline):
            return False
        begun = self.intake.started_over
        spool = self.intake.spool
        if spool is None:
            return True
        end = spool.last

        def is_sent() -> bool:
            # The spool may be another object now: if its files were removed, a new spool continues with its
            # numbers.
            return self.intake.started_over > begun or (self.intake.spool or spool).done >= end

        return self._wait(is_sent, deadline) and not self._has_quarantined()

    def _has_quarantined(self) -> bool:
        """Whether any of this process's events were quarantined."""
        if self.intake.memory.quarantined_count:
            return True
        spool = self.intake.spool
        with suppress(SqliteError):
            return spool is not None and bool(spool.quarantined_count and spool.quarantined())
        return True

    def drain(self, timeout: float, *, is_confirmed: bool = False) -> DrainResult:
        """Call ``flush()``, then wait until the events of dead processes are sent."""
        deadline = time.monotonic() + timeout
        if self._writer is None:
            return DrainResult(is_done=False)
        orphaned_files = self._writer.orphaned_files
        orphaned_files.is_confirmed, orphaned_files.left = is_confirmed, {}
        self._writer.wants_contact = True
        done = self.flush(timeout)
        done = self._wait(lambda: not self._writer.wants_contact, deadline) and done
        seen = orphaned_files.searches
        done = (
            self._wait(
                lambda: (
                    orphaned_files.searches > seen
                    and not orphaned_files.waiting()
                    and not orphaned_files.is_busy
                ),
                deadline,
            )
            and done
        )
        left = {path: each for path, each in orphaned_files.left.items() if each.reason and each.waiting}
        return DrainResult(
            done, left, tuple(sorted(each for each in orphaned_files.unreadable if os.path.lexists(each)))
        )

    def _wait(self, condition: Any, deadline: float) -> bool:
        if condition():
            return True
        writer = self._writer
        if writer is None:
            return False
        writer.send_now()
        with writer.progress:
            while not condition():
                remaining = deadline - time.monotonic()
                if remaining <= 0 or self.counters.state == "stopped":
                    return False
                writer.progress.wait(min(remaining, 1.0))
        return True

    def close(self, timeout: float, *, keep_recording: bool = False) -> bool:
        """Flush and stop the writer. Unsent events stay in the spool. Returns whether everything was sent."""
        deadline = time.monotonic() + timeout
        sent = self.flush(timeout)
        last_act = self._keep_open if keep_recording else self._close_intake
        if self._writer is None:
            last_act()
        else:
            self._writer.stop(deadline - time.monotonic() + _GRACE_S, last_act)
        if lost := len(self.intake.memory):
            self.counters.warn(
                "lost", "%s audit events are only in memory, and are lost when this process ends", lost
            )
        return sent

    def _keep_open(self) -> None:
        """Keeps the spool open: at the interpreter's exit, other code may still record events."""

    def _close_intake(self) -> None:
        with suppress(SqliteError, OSError):
            self.intake.close()

    def stats(self) -> AuditStats:
        """The current counters."""
        counters, intake = self.counters, self.intake
        spool, orphaned_files = intake.spool, self._orphaned_files
        return AuditStats(
            accepted=intake.accepted,
            stored=counters.stored,
            duplicates=counters.duplicates,
            rejected=counters.rejected,
            quarantined=counters.quarantined,
            sent_again=counters.sent_again,
            beyond_window=counters.beyond_window,
            dropped=counters.dropped,
            batches=counters.batches,
            batch_seconds=counters.batch_seconds,
            spooled=len(spool) if spool is not None else 0,
            in_memory=len(intake.memory),
            adopted=orphaned_files.waiting() if orphaned_files is not None else 0,
            oldest_age=self._oldest_age(),
            writer=counters.state,
            consecutive_failures=counters.failures,
            last_error=counters.last_error,
            spool_error=counters.spool_error,
        )

    @property
    def _orphaned_files(self) -> OrphanedFiles | None:
        return self._writer.orphaned_files if self._writer is not None else None

    def _oldest_age(self) -> float | None:
        sources = [self.intake.spool, self.intake.memory, self._orphaned_files]
        times: list[int | None] = []
        for source in sources:
            # The writer may be closing this file.
            with suppress(SqliteError):
                times.append(source.oldest_ms() if source is not None else None)
        known = [each for each in times if each is not None]
        return max(0.0, time.time() - min(known) / 1000) if known else None

    def descriptors(self) -> list[int]:
        """The descriptors of locks and sockets that a forked child must close."""
        found = self.intake.descriptors()
        if self._writer is not None:
            found += self._writer.orphaned_files.descriptors() + self._writer.sender.descriptors()
        return found
