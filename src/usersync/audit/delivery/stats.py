"""Counters and state of an audit log."""

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
    """The counters of one process since its first use of this log. They count events, except where noted.

    Counts of sent events include those of dead processes whose spools were taken over.
    """

    #: ``record()`` returned an id.
    accepted: int = 0
    #: Stored in the database: new events, and events that an earlier attempt had stored.
    stored: int = 0
    duplicates: int = 0
    #: The database keeps them in ``usersync.audit_rejects``.
    rejected: int = 0
    #: Quarantined: the database takes them in no form. The spool keeps them, with the reason.
    quarantined: int = 0
    #: Lost by the database in a failover or a restore after it had stored them, and sent again.
    sent_again: int = 0
    #: Older than the kept events, where the oldest kept event was lost: these may be lost as well.
    beyond_window: int = 0
    #: ``record()`` returned None: no room, or unreadable. These are lost.
    dropped: int = 0
    #: The number of stored batches, and their total duration in seconds.
    batches: int = 0
    batch_seconds: float = 0.0
    #: Waiting in this process's spool, in its memory, and in spools taken over from dead processes.
    spooled: int = 0
    in_memory: int = 0
    adopted: int = 0
    #: Seconds since the oldest waiting event was recorded; None if no event waits.
    oldest_age: float | None = None
    writer: WriterState = "not started"
    #: Failed attempts since the last success, and the last failure, without values and secrets.
    consecutive_failures: int = 0
    last_error: str | None = None
    #: Why events are not written to the spool; None if they are.
    spool_error: str | None = None

    @property
    def waiting(self) -> int:
        """The number of accepted events that are not in the database yet."""
        return self.spooled + self.in_memory + self.adopted


def describe_reject(reject: Mapping[str, Any] = MappingProxyType({})) -> str:
    """The rejected event and the reason: ``action``, ``id`` and ``reason`` of the database's answer."""
    action, event_id, reason = (one_line(reject.get(name, "?"), 200) for name in ("action", "id", "reason"))
    return f"{action} ({event_id}): {reason}"


def describe_database_error(error: psycopg.Error) -> str:
    """A statement's error, without the values that PostgreSQL may quote in its message."""
    if error.sqlstate is None or error.diag.message_primary is None:
        return one_line(error, 300)
    return one_line(redact_message(error.sqlstate, error.diag.message_primary), 300)


def one_line(text: object, limit: int) -> str:
    """Text for a log line or an error: one line of printable characters, at most ``limit`` of them."""
    line = " ".join(str(text).split())[:limit]
    return "".join(each if each.isprintable() else "?" for each in line)


class Counters:
    """The counters, and the only place that logs warnings: one a minute for each kind of problem."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._complained: dict[str, float] = {}
        self.stored = self.duplicates = self.rejected = self.quarantined = self.dropped = 0
        self.sent_again = self.beyond_window = 0
        self.batches = 0
        self.batch_seconds = 0.0
        self.failures = 0
        self.last_error: str | None = None
        self.spool_error: str | None = None
        self.state: WriterState = "not started"

    def drop(self, why: str, count: int = 1) -> None:
        """Count events that were not accepted."""
        with self._lock:
            self.dropped += count
        self.warn("dropped", "an audit event was not accepted (%s); %s so far", why, self.dropped)

    def warn(self, kind: str, message: str, *arguments: object) -> None:
        """Log a warning, unless one of this kind was logged within the last minute. Never raises."""
        now = time.monotonic()
        with self._lock:
            if now - self._complained.get(kind, -_INTERVAL_S) < _INTERVAL_S:
                return
            # Set before logging: a handler that records an audit event must not recurse here.
            self._complained[kind] = now
        with contextlib.suppress(Exception):
            _log.warning(message, *arguments)

    def settled(self, receipt: Receipt, seconds: float) -> None:
        """Count a stored batch and its duration."""
        self.batches += 1
        self.batch_seconds += seconds
        self.stored += receipt.stored
        self.duplicates += receipt.duplicates
        self.rejected += receipt.rejected
        self.failures, self.last_error = 0, None
        if receipt.rejected:
            example = describe_reject(*receipt.rejects[:1])
            self.warn(
                "rejected",
                "audit events were rejected, %s so far; among them %s. See: usersync audit rejects",
                self.rejected,
                example,
            )

    def caught_up(self) -> None:
        """Log what a failover or a restore had lost."""
        self.warn(
            "moved",
            "the database has moved (a failover, a restore to a point in time, an upgrade): %s audit events "
            "that it had confirmed and lost were sent again; %s older ones, which are no longer kept, may be "
            "lost",
            self.sent_again,
            self.beyond_window,
        )

    def failed(self, reason: str) -> None:
        """Count an attempt that failed for a temporary reason."""
        self.failures += 1
        self.last_error = reason
        self.warn("away", "audit events are not delivered yet, and wait: %s", reason)
