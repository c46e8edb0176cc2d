"""Takes over the spool files of processes that are gone, and sees them through to the end."""

from __future__ import annotations

import sqlite3
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from usersync.audit.lifecycle import gate
from usersync.audit.spool import Spool, is_damaged, put_away

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from usersync.audit.directory import Claim, SpoolDirectory
    from usersync.audit.intake import Intake
    from usersync.audit.options import Options
    from usersync.audit.stats import Tally

_EVERY_S = 5.0

# Each is three open files and a turn in every round.
_AT_ONCE = 8


@dataclass(frozen=True)
class Adopted:
    """A file that was somebody else's, and the lock on it."""

    claim: Claim
    spool: Spool


class Adoption:
    """For the writer's thread alone, but for :meth:`waiting` and the attribute ``due_at``."""

    def __init__(
        self, directory: SpoolDirectory | None, intake: Intake, options: Options, tally: Tally
    ) -> None:
        self._directory = directory
        self._intake = intake
        self._options = options
        self._tally = tally
        self._adopted: list[Adopted] = []
        # Files that could not be read in this search; the next one tries them again.
        self._given_up: set[Path] = set()
        self.due_at = 0.0
        #: How often the directory was searched with nothing left in it that is nobody's.
        self.searches = 0

    def look(self) -> None:
        """Search the directory, if it is time."""
        if self._directory is None or time.monotonic() < self.due_at:
            return
        try:
            while len(self._adopted) < _AT_ONCE:
                claim = self._directory.adopt(self._given_up)
                if claim is None:
                    self._given_up.clear()
                    self._directory.sweep()
                    self.searches += 1
                    self.due_at = time.monotonic() + _EVERY_S
                    return
                self._take(claim)
        except OSError as error:
            self.due_at = time.monotonic() + _EVERY_S
            self._tally.complain("adopt", "the audit spool's directory cannot be read: %s", error)

    def _take(self, claim: Claim) -> None:
        try:
            with gate:
                spool = Spool(claim.path, self._options.spool_bytes)
        except (sqlite3.Error, OSError) as error:
            self._give_up(claim, error)
            return
        self._adopted.append(Adopted(claim, spool))

    def _give_up(self, claim: Claim, error: Exception) -> None:
        """Leave a file that cannot be read; a damaged one under another name."""
        self._tally.complain("adopt", "the audit spool of a dead process cannot be read: %s", error)
        if is_damaged(error):
            with suppress(OSError):
                put_away(claim.path)
        self._given_up.add(claim.path)
        claim.release()

    def sources(self) -> list[Adopted]:
        """The files with events in them."""
        return [each for each in self._adopted if len(each.spool)]

    def guard(self, adopted: Adopted, deliver: Callable[[Spool], bool]) -> None:
        """Send from the file; a file that fails is given up and does not hold up the others."""
        done = adopted.spool.done
        try:
            adopted.spool.tend()
            if not deliver(adopted.spool):
                # Numbers were counted, rows are read: nothing is left, whatever the count says.
                adopted.spool.done = adopted.spool.last
        except (sqlite3.Error, OSError) as error:
            if adopted.spool.done > done and not is_damaged(error):
                # They were sent, and cannot be deleted: the disk is full. The whole file can be, in the end.
                return
            self._adopted.remove(adopted)
            adopted.spool.close()
            self._give_up(adopted.claim, error)

    def release_empty(self) -> None:
        """Delete the files that are drained. What was set aside in them moves to our own."""
        for adopted in [each for each in self._adopted if not len(each.spool)]:
            try:
                self._finish(adopted)
            except (sqlite3.Error, OSError) as error:
                self._adopted.remove(adopted)
                adopted.spool.close()
                self._give_up(adopted.claim, error)

    def _finish(self, adopted: Adopted) -> None:
        refused = adopted.spool.refused()
        if refused:
            own = self._intake.spool or self._intake.open_spool()
            if own is None:
                return
            own.add_refused(refused)
        with gate:
            adopted.spool.remove()
        adopted.claim.release()
        self._adopted.remove(adopted)

    @property
    def is_busy(self) -> bool:
        """Whether any file is held, drained or not."""
        return bool(self._adopted)

    def waiting(self) -> int:
        """How many events wait in the files."""
        return sum(len(each.spool) for each in list(self._adopted))

    def oldest_ms(self) -> int | None:
        """When the oldest of them was recorded, in milliseconds since 1970."""
        found = [each.spool.oldest_ms() for each in list(self._adopted)]
        return min((each for each in found if each is not None), default=None)

    def close(self) -> None:
        """Leave the files to the next."""
        for adopted in self._adopted:
            with suppress(sqlite3.Error), gate:
                adopted.spool.close()
            adopted.claim.release()
        self._adopted.clear()

    def descriptors(self) -> list[int]:
        """The locks that a forked child must not keep from being released."""
        return [each.claim.fd for each in self._adopted]
