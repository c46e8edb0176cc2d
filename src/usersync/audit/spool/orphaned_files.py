"""Takes over the spool files of processes that have ended, and sends their events.

A process takes over a file only if it sends to the file's database; see ``usersync.audit.spool.binding``. A
file without waiting events stays until its delivered events are no longer kept.
"""

from __future__ import annotations

import sqlite3
import time
from contextlib import closing, suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from usersync.audit.spool import file_format
from usersync.audit.spool.binding import WrongDatabaseError, belongs, is_expected
from usersync.audit.spool.directory import files_in, take_over
from usersync.audit.spool.file import Spool, is_damaged, rename_damaged
from usersync.audit.spool.private import NotPrivateError, connect
from usersync.transports.fork_gate import gate

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from usersync.audit.delivery.stats import Counters
    from usersync.audit.options import Options
    from usersync.audit.spool.binding import Destination
    from usersync.audit.spool.directory import Claim, SpoolDirectory
    from usersync.audit.spool.file_format import Contents
    from usersync.audit.spool.intake import Intake
    from usersync.core.position import DatabasePosition

_EVERY_S = 5.0

# Each file needs three file descriptors and a turn in every round.
_AT_ONCE = 8

# How long another process may use a file only to read it.
_BUSY_TIMEOUT_S = 0.25

Contact = tuple["DatabasePosition | None", int]


@dataclass(frozen=True)
class OrphanedFile:
    """A file of a process that has ended, and the lock on it."""

    claim: Claim
    spool: Spool


@dataclass(frozen=True)
class SkippedFile:
    """The state of a file that was not taken over, and why not.

    The decision may change after the database has moved.
    """

    stamp: tuple[int, ...]
    position: DatabasePosition | None
    #: When to check again, in milliseconds since 1970; None for no check until something changes.
    until_ms: int | None = None
    #: The reason, for messages; empty if all events were delivered.
    reason: str = ""
    waiting: int = 0
    #: Whether the file is in this database's own directory.
    is_own: bool = True


class OrphanedFiles:
    """Only the writer's thread may use it, except for ``waiting()`` and the attribute ``due_at``.

    ``contact`` returns the database's position at its last answer, and the time of that answer.
    """

    def __init__(
        self,
        directory: SpoolDirectory | None,
        intake: Intake,
        options: Options,
        counters: Counters,
        *,
        destination: Destination,
        contact: Callable[[], Contact],
    ) -> None:
        self._directory = directory
        self._intake = intake
        self._options = options
        self._counters = counters
        self._destination = destination
        self._contact = contact
        self._adopted: list[OrphanedFile] = []
        # Files that could not be read in this search. The next search tries them again.
        self._given_up: set[Path] = set()
        self.left: dict[Path, SkippedFile] = {}
        #: Whether all waiting events in the own directory are for this database, whatever the files store.
        self.is_confirmed = False
        #: The number of files and directories that could not be read so far, including removed ones.
        self.unreadable: set[Path] = set()
        self.due_at = 0.0
        #: The number of searches that left no file for this database.
        self.searches = 0

    def look(self) -> None:
        """Search the directories if a search is due."""
        if self._directory is None or time.monotonic() < self.due_at:
            return
        try:
            for directory in self._directory.all():
                if not self._search(directory, is_own=directory == self._directory.root):
                    return
            self._directory.sweep()
        except OSError as error:
            self._counters.warn("adopt", "the directory of the audit spool is not readable: %s", error)
        else:
            self.searches += 1
        self._given_up.clear()
        self.due_at = time.monotonic() + _EVERY_S

    def _search(self, directory: Path, *, is_own: bool) -> bool:
        """Take over the files for this database. False if there were too many to take over at once."""
        try:
            files = files_in(directory)
        except NotPrivateError as error:
            # Not logged here, because other accounts may have spools in the same place. ``usersync audit
            # spool`` reports them.
            if is_own:
                self._warn_of(directory, error)
            return True
        held = {each.claim.path for each in self._adopted}
        for path in files:
            if path in held or path in self._given_up or self._is_skipped(path):
                continue
            if len(self._adopted) >= _AT_ONCE:
                return False
            try:
                claim = take_over(path)
            except OSError as error:
                self._warn_of(path, error)
                continue
            if claim is not None:
                self._consider(claim, is_own=is_own)
        self.left = {path: left for path, left in self.left.items() if path.exists()}
        return True

    def _is_skipped(self, path: Path) -> bool:
        left = self.left.get(path)
        if left is None:
            return False
        position, answered_ms = self._contact()
        is_due = left.until_ms is not None and answered_ms >= left.until_ms
        return not is_due and left.position == position and left.stamp == _stamp(path)

    def _consider(self, claim: Claim, *, is_own: bool) -> None:
        try:
            with gate, closing(connect(claim.path, _BUSY_TIMEOUT_S)) as connection:
                contents = file_format.look_into(connection)
        except (sqlite3.Error, OSError) as error:
            self._give_up(claim, error)
            return
        position, answered_ms = self._contact()
        left = self._reason_to_leave(contents, claim.path.parent.name, position, answered_ms, is_own=is_own)
        if left is None:
            self._take(claim, confirmed=self.is_confirmed and is_own)
            return
        self.left[claim.path] = replace(left, stamp=_stamp(claim.path), position=position, is_own=is_own)
        claim.release()

    def _reason_to_leave(
        self,
        contents: Contents,
        directory: str,
        position: DatabasePosition | None,
        answered_ms: int,
        *,
        is_own: bool,
    ) -> SkippedFile | None:
        """Why a file is not taken over; None if it is."""
        origin = contents.origin
        if (self.is_confirmed and is_own) or contents.is_empty:
            return None
        if origin.position is None:
            is_ours = is_expected(origin, self._destination, directory)
        elif position is None:
            # After the first contact, the database decides.
            is_ours = (
                origin.destination.address is not None
                and origin.destination.address == self._destination.address
            )
        else:
            is_ours = belongs(origin, self._destination, position)
        if not is_ours:
            return SkippedFile(
                (), None, reason=f"for {origin.target}", waiting=contents.waiting + contents.quarantined
            )
        if contents.waiting or not contents.kept:
            return None
        if position is None:
            return SkippedFile((), None)
        expires_ms = (contents.delivered_ms or 0) + contents.keep_ms
        if origin.position == position and answered_ms < expires_ms:
            return SkippedFile((), None, until_ms=expires_ms)
        return None

    def _take(self, claim: Claim, *, confirmed: bool) -> None:
        try:
            with gate:
                spool = Spool(
                    claim.path,
                    self._options.spool_bytes,
                    destination=self._destination,
                    keep=self._options.keep,
                )
                if confirmed:
                    spool.confirm(self._destination)
        except (sqlite3.Error, OSError) as error:
            self._give_up(claim, error)
            return
        self._adopted.append(OrphanedFile(claim, spool))
        self.unreadable.discard(claim.path)

    def _give_up(self, claim: Claim, error: Exception) -> None:
        """Release a file that cannot be read. A damaged one is renamed."""
        self._warn_of(claim.path, error)
        if is_damaged(error):
            with suppress(OSError):
                self.unreadable.add(rename_damaged(claim.path))
        claim.release()

    def _warn_of(self, path: Path, error: Exception) -> None:
        self._counters.warn("adopt", "the audit spool of a dead process is not readable: %s", error)
        self._given_up.add(path)
        self.unreadable.add(path)

    def sources(self) -> list[OrphanedFile]:
        """The files with events to send."""
        position, _ = self._contact()
        return [
            each
            for each in self._adopted
            if len(each.spool) or (each.spool.keeps and each.spool.binding.moved(position))
        ]

    def guard(self, adopted: OrphanedFile, deliver: Callable[[Spool], bool]) -> None:
        """Send from the file. A failing file is released and does not delay the others."""
        done = adopted.spool.done
        try:
            adopted.spool.maintain()
            if not deliver(adopted.spool):
                # The count may be wrong, but reading returned no rows: nothing is left.
                adopted.spool.done = adopted.spool.last
        except WrongDatabaseError:
            # The connection string leads to another database now. The next search decides.
            self._release(adopted)
        except (sqlite3.Error, OSError) as error:
            if adopted.spool.done > done and not is_damaged(error):
                # They were sent and could not be deleted because the disk is full. The complete file can be
                # deleted later.
                return
            self._adopted.remove(adopted)
            adopted.spool.close()
            self._give_up(adopted.claim, error)

    def release_empty(self) -> None:
        """Delete the files without waiting events. Their quarantined events move to this process's file."""
        busy = self.sources()
        for adopted in [each for each in self._adopted if each not in busy]:
            try:
                self._finish(adopted)
            except (sqlite3.Error, OSError) as error:
                self._adopted.remove(adopted)
                adopted.spool.close()
                self._give_up(adopted.claim, error)

    def _finish(self, adopted: OrphanedFile) -> None:
        _, answered_ms = self._contact()
        adopted.spool.prune(answered_ms)
        if adopted.spool.keeps and answered_ms < adopted.spool.expires_ms:
            self._release(adopted)
            return
        quarantined = adopted.spool.quarantined()
        if quarantined:
            own = self._intake.spool or self._intake.open_spool()
            if own is None:
                return
            own.add_quarantined(quarantined)
        with gate:
            adopted.spool.remove()
        adopted.claim.release()
        self._adopted.remove(adopted)

    def _release(self, adopted: OrphanedFile) -> None:
        with suppress(sqlite3.Error), gate:
            adopted.spool.close()
        adopted.claim.release()
        self._adopted.remove(adopted)

    @property
    def is_busy(self) -> bool:
        """Whether any file is held, with or without waiting events."""
        return bool(self._adopted)

    def waiting(self) -> int:
        """The number of waiting events in the files."""
        return sum(len(each.spool) for each in list(self._adopted))

    def oldest_ms(self) -> int | None:
        """When the oldest waiting event was recorded, in milliseconds since 1970."""
        found = [each.spool.oldest_ms() for each in list(self._adopted)]
        return min((each for each in found if each is not None), default=None)

    def close(self) -> None:
        """Release the files for the next process."""
        for adopted in list(self._adopted):
            self._release(adopted)

    def descriptors(self) -> list[int]:
        """The file descriptors of locks that a forked child must close."""
        return [each.claim.fd for each in self._adopted]


def _stamp(path: Path) -> tuple[int, ...]:
    """A value that changes when the file changes."""
    try:
        status = path.lstat()
    except OSError:
        return ()
    return (status.st_ino, status.st_mtime_ns, status.st_size)
