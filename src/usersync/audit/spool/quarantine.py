"""Retries the events that a spool has quarantined because the database took them in no form.

They are in the table ``refused`` of the spool files until the database has stored them. A file may belong to
a living process, which continues meanwhile, because no other table of the file is changed.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from usersync.audit.delivery.delivery import SpoolDelivery
from usersync.audit.delivery.stats import Counters
from usersync.audit.spool.binding import DatabaseBinding, WrongDatabaseError, is_expected
from usersync.audit.spool.directory import survey
from usersync.audit.spool.file_format import origin_of
from usersync.audit.spool.private import connect
from usersync.audit.spool.source import fitting
from usersync.transports.fork_gate import gate

if TYPE_CHECKING:
    from pathlib import Path

    from usersync.audit.delivery.senders import AnySender
    from usersync.audit.options import Options
    from usersync.audit.spool.binding import Destination
    from usersync.audit.spool.source import Entry
    from usersync.core.position import DatabasePosition

_BUSY_TIMEOUT_S = 5.0


@dataclass(frozen=True)
class RetryResult:
    """The results of retrying the quarantined events."""

    #: Stored now or before.
    stored: int = 0
    duplicates: int = 0
    #: Now in ``usersync.audit_rejects``, with the reason.
    rejected: int = 0
    #: Still quarantined, with the newest reason.
    quarantined: int = 0


class QuarantinedEvents:
    """The quarantined events of one file, as a source for a sender."""

    def __init__(self, connection: sqlite3.Connection, destination: Destination) -> None:
        self._connection = connection
        self.binding = DatabaseBinding(destination, origin_of(connection), _nothing)
        self.done = 0
        ((self.last,),) = self._run("select coalesce(max(number), 0) from refused")

    def read(self, events: int, size: int) -> list[Entry]:
        """See ``EventSource``."""
        oldest = (
            "select number, event, typeof(event) from refused where number > ? and number <= ? "
            "order by number limit ?"
        )
        return fitting(self._run(oldest, self.done, self.last, events), size)

    def name_batch(self, through: int) -> str:  # noqa: ARG002 - each retry is a batch of its own
        """See ``EventSource``."""
        return str(uuid4())

    def discard(self, through: int, size: int = 0) -> None:  # noqa: ARG002 - retried events have no window
        """Delete the events up to this number, except those that were quarantined again."""
        self._run("delete from refused where number > ? and number <= ?", self.done, through)
        self.done = through

    def quarantine(self, entry: Entry, reason: str) -> None:
        """Keep the event with the newest reason."""
        self._run("update refused set reason = ? where number = ?", reason, entry.number)
        self.done = entry.number

    def _run(self, statement: str, *values: object) -> list[Any]:
        with gate:
            return self._connection.execute(statement, values).fetchall()


def retry(root: Path, sender: AnySender, options: Options, destination: Destination) -> RetryResult:
    """Retry the quarantined events in the files of a directory that are for this database.

    Raises what sending raises.
    """
    counters = Counters()
    # No waiting between attempts: the events of this retry are not urgent.
    delivery = SpoolDelivery(sender, options, counters, retries=0)
    for file in survey(root):
        try:
            _retry_file(file.path, delivery, destination)
        except (sqlite3.Error, OSError, WrongDatabaseError) as error:
            counters.warn("retry", "the audit spool %s is not readable: %s", file.path, error)
    return RetryResult(counters.stored, counters.duplicates, counters.rejected, counters.quarantined)


def _retry_file(path: Path, delivery: SpoolDelivery, destination: Destination) -> None:
    with closing(connect(path, _BUSY_TIMEOUT_S)) as connection:
        # The owner of the file runs checkpoints, and decides how long record() waits.
        connection.execute("pragma wal_autocheckpoint = 0")
        connection.execute("pragma synchronous = off")
        source = QuarantinedEvents(connection, destination)
        if source.binding.origin.position is None and not is_expected(
            source.binding.origin, destination, path.parent.name
        ):
            raise WrongDatabaseError(f"its events are for {source.binding.origin.target}")
        while delivery.deliver(source):
            pass


def _nothing(_: DatabasePosition) -> None:
    """Does nothing: quarantined events say nothing about the database."""
