"""What an audit log has done, and how it fares."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal

from usersync.errors import redact_message

if TYPE_CHECKING:
    from collections.abc import Mapping

    import psycopg

    from usersync.audit.delivery.sender import Receipt

WriterState = Literal["not started", "idle", "sending", "waiting", "stopped"]

_log = logging.getLogger("usersync.audit")

_INTERVAL_S = 60.0


@dataclass(frozen=True)
class AuditStats:
    """One process's view. Counts are of events, since the process began to use this log.

    What was sent counts those of dead processes too, whose spool was taken over.
    """

    #: ``record()`` returned an id.
    accepted: int = 0
    #: The database has them: as new, or from an earlier attempt whose answer was lost.
    stored: int = 0
    duplicates: int = 0
    #: The database has them in ``usersync.audit_rejects``.
    rejected: int = 0
    #: The database could not take them in any form; they are kept in the spool, with the reason.
    refused: int = 0
    #: Lost by the database after it had them, in a failover or a restore, and sent to it again.
    sent_again: int = 0
    #: Delivered before what is kept, where the oldest that is kept was lost: these may be lost as well.
    beyond_window: int = 0
    #: ``record()`` returned None: no room, or unreadable. These are lost.
    dropped: int = 0
    #: How many batches the database took, and how many seconds that took altogether.
    batches: int = 0
    batch_seconds: float = 0.0
    #: In this process's spool, in its memory, and in what it took over from dead processes.
    spooled: int = 0
    in_memory: int = 0
    adopted: int = 0
    #: Seconds since the oldest event that waits was recorded; None if none does.
    oldest_age: float | None = None
    writer: WriterState = "not started"
    #: Failed attempts since the last that succeeded, and what the last failure was. No values, no secrets.
    consecutive_failures: int = 0
    last_error: str | None = None
    #: Why events do not go to the spool, if they do not.
    spool_error: str | None = None

    @property
    def waiting(self) -> int:
        """Accepted, and not yet in the database."""
        return self.spooled + self.in_memory + self.adopted


def describe_reject(reject: Mapping[str, Any] = MappingProxyType({})) -> str:
    """Which event was rejected, and why: ``action``, ``id`` and ``reason`` of the database's answer."""
    action, event_id, reason = (one_line(reject.get(name, "?"), 200) for name in ("action", "id", "reason"))
    return f"{action} ({event_id}): {reason}"


def describe_database_error(error: psycopg.Error) -> str:
    """What a statement failed with, without the values that PostgreSQL may quote in its message."""
    if error.sqlstate is None or error.diag.message_primary is None:
        return one_line(error, 300)
    return one_line(redact_message(error.sqlstate, error.diag.message_primary), 300)


def one_line(text: object, limit: int) -> str:
    """Text for a log line or an error: one line of printable characters, at most ``limit`` of them."""
    line = " ".join(str(text).split())[:limit]
    return "".join(each if each.isprintable() else "?" for each in line)


class Tally:
    """The counters, and the one place that complains: in the log, once a minute for each kind of trouble."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._complained: dict[str, float] = {}
        self.stored = self.duplicates = self.rejected = self.refused = self.dropped = 0
        self.sent_again = self.beyond_window = 0
        self.batches = 0
        self.batch_seconds = 0.0
        self.failures = 0
        self.last_error: str | None = None
        self.spool_error: str | None = None
        self.state: WriterState = "not started"

    def drop(self, why: str, count: int = 1) -> None:
        """Count events that could not be accepted."""
        with self._lock:
            self.dropped += count
        self.complain("dropped", "an audit event could not be accepted (%s); %s so far", why, self.dropped)

    def complain(self, kind: str, message: str, *arguments: object) -> None:
        """Log a warning, unless one of this kind was logged within the last minute. Never raises."""
        now = time.monotonic()
        with self._lock:
            if now - self._complained.get(kind, -_INTERVAL_S) < _INTERVAL_S:
                return
            # Before logging: a handler that records an audit event must not come back here.
            self._complained[kind] = now
        with contextlib.suppress(Exception):
            _log.warning(message, *arguments)

    def settled(self, receipt: Receipt, seconds: float) -> None:
        """Count a batch that the database has taken, and how long that took."""
        self.batches += 1
        self.batch_seconds += seconds
        self.stored += receipt.stored
        self.duplicates += receipt.duplicates
        self.rejected += receipt.rejected
        self.failures, self.last_error = 0, None
        if receipt.rejected:
            example = describe_reject(*receipt.rejects[:1])
            self.complain(
                "rejected",
                "audit events were rejected, %s so far; among them %s. See: usersync audit rejects",
                self.rejected,
                example,
            )

    def caught_up(self) -> None:
        """Say what a failover or a restore had cost."""
        self.complain(
            "moved",
            "the database has moved (a failover, a restore to a point in time, an upgrade): %s audit events "
            "that it had confirmed and lost were sent again; %s older ones, which are kept no longer, may be "
            "lost",
            self.sent_again,
            self.beyond_window,
        )

    def failed(self, reason: str) -> None:
        """Count an attempt that failed for a reason that will pass."""
        self.failures += 1
        self.last_error = reason
        self.complain("away", "audit events wait, the database does not take them: %s", reason)
