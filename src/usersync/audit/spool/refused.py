"""Another try for the events that the database would not take in any form.

They are in the table ``refused`` of the spool files, and stay there until the database has them. A file may
be a living process's: that one goes on meanwhile, since nothing else of the file is touched.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from usersync.audit.delivery.delivery import Delivery
from usersync.audit.delivery.stats import Tally
from usersync.audit.spool.belonging import Belonging, ElsewhereError, is_expected
from usersync.audit.spool.directory import survey
from usersync.audit.spool.file_format import origin_of
from usersync.audit.spool.private import connect
from usersync.audit.spool.source import fitting
from usersync.transports.gate import gate

if TYPE_CHECKING:
    from pathlib import Path

    from usersync.audit.delivery.api_sender import ApiSender
    from usersync.audit.delivery.sender import Sender
    from usersync.audit.options import Options
    from usersync.audit.spool.belonging import Home
    from usersync.audit.spool.source import Entry
    from usersync.core.position import Position

_PATIENCE_S = 5.0


@dataclass(frozen=True)
class RetryResult:
    """What became of the events that were handed in again."""

    #: In the log now; or there already.
    stored: int = 0
    duplicates: int = 0
    #: In ``usersync.audit_rejects`` now, with what is wrong with them.
    rejected: int = 0
    #: Refused once more, and kept with the newest reason.
    refused: int = 0


class RefusedEvents:
    """The events that were set aside in one file, as a source to send from."""

    def __init__(self, connection: sqlite3.Connection, home: Home) -> None:
        self._connection = connection
        self.belonging = Belonging(home, origin_of(connection), _nothing)
        self.done = 0
        ((self.last,),) = self._run("select coalesce(max(number), 0) from refused")

    def read(self, events: int, size: int) -> list[Entry]:
        """See ``Source``."""
        oldest = (
            "select number, event, typeof(event) from refused where number > ? and number <= ? "
            "order by number limit ?"
        )
        return fitting(self._run(oldest, self.done, self.last, events), size)

    def discard(self, through: int, size: int = 0) -> None:  # noqa: ARG002 - they were kept long enough
        """Forget the events up to this one, but for those that were set aside again."""
        self._run("delete from refused where number > ? and number <= ?", self.done, through)
        self.done = through

    def set_aside(self, entry: Entry, reason: str) -> None:
        """Keep the event, with what it was refused for this time."""
        self._run("update refused set reason = ? where number = ?", reason, entry.number)
        self.done = entry.number

    def _run(self, statement: str, *values: object) -> list[Any]:
        with gate:
            return self._connection.execute(statement, values).fetchall()


def retry(root: Path, sender: Sender | ApiSender, options: Options, home: Home) -> RetryResult:
    """Hand in what is set aside in the files of a directory, for this database.

    Raises what sending raises.
    """
    tally = Tally()
    # These have waited: one that holds up the others need not be waited for again.
    delivery = Delivery(sender, options, tally, patience=0)
    for file in survey(root):
        try:
            _retry_file(file.path, delivery, home)
        except (sqlite3.Error, OSError, ElsewhereError) as error:
            tally.complain("retry", "the audit spool %s cannot be read: %s", file.path, error)
    return RetryResult(tally.stored, tally.duplicates, tally.rejected, tally.refused)


def _retry_file(path: Path, delivery: Delivery, home: Home) -> None:
    with closing(connect(path, _PATIENCE_S)) as connection:
        # Checkpoints are its owner's business, and so is how long those who record wait.
        connection.execute("pragma wal_autocheckpoint = 0")
        connection.execute("pragma synchronous = off")
        source = RefusedEvents(connection, home)
        if source.belonging.origin.position is None and not is_expected(
            source.belonging.origin, home, path.parent.name
        ):
            raise ElsewhereError(f"its events are for {source.belonging.origin.target}")
        while delivery.deliver(source):
            pass


def _nothing(_: Position) -> None:
    """What is refused says nothing of the database."""
