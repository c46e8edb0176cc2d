"""Arguments and results of the audit log's operations."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Any

from usersync.errors import SettingsError

if TYPE_CHECKING:
    from uuid import UUID


@dataclass(frozen=True)
class EventRecord:
    """A stored event. In the application's own table, fields without a column may be None."""

    id: UUID | None
    occurred_at: datetime
    recorded_at: datetime | None
    action: str | None
    outcome: str | None
    actor_id: str | None
    actor_type: str | None
    user_id: UUID | None
    entity_type: str | None
    entity_id: str | None
    changes: Any
    metadata: Any
    request_id: str | None
    ip: str | None
    user_agent: str | None
    source: str | None
    #: Orders events of the same time; part of a cursor.
    tie: str = field(compare=False, repr=False)

    @property
    def cursor(self) -> Cursor:
        """The position of this event in the order of a search."""
        return Cursor(self.occurred_at, self.tie)


@dataclass(frozen=True)
class EventFilter:
    """Which events to find: those that match all given fields.

    An ``action`` that ends in ``*`` is a prefix. ``since`` is inclusive, ``until`` exclusive. Each word of
    ``text`` is searched as a substring in the values of metadata and changes, ignoring case.
    """

    user_id: UUID | None = None
    actor_id: str | None = None
    entity_type: str | None = None
    entity_id: str | None = None
    action: str | None = None
    outcome: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    request_id: str | None = None
    text: str | None = None


@dataclass(frozen=True)
class Cursor:
    """A position between two events. Its text can be used in command lines and URLs."""

    occurred_at: datetime
    tie: str

    def __str__(self) -> str:
        return f"{self.occurred_at.astimezone(UTC).isoformat()}~{self.tie}"

    @classmethod
    def parse(cls, text: str) -> Cursor:
        """Parse the result of ``str()``. Raises ``SettingsError``."""
        moment, _, tie = text.partition("~")
        try:
            at = datetime.fromisoformat(moment)
        except ValueError:
            at = None
        if at is None or at.tzinfo is None or not tie:
            raise SettingsError(f"{text!r} is not a cursor", hint="Pass the cursor that a search printed.")
        return cls(at, tie)


@dataclass(frozen=True)
class EventPage:
    """A page of events; ``next`` is the position of the next page, or None after the last."""

    events: tuple[EventRecord, ...]
    next: Cursor | None


@dataclass(frozen=True)
class FieldChange:
    """The change of one field."""

    name: str
    before: Any
    after: Any


@dataclass(frozen=True)
class HistoryEntry:
    """One event of an entity, with its changes field by field."""

    event: EventRecord
    changes: tuple[FieldChange, ...]

    @classmethod
    def of(cls, event: EventRecord) -> HistoryEntry:
        """Split the changes into fields. A value that is not a pair is taken as the new value."""
        changes = event.changes if isinstance(event.changes, Mapping) else {}
        return cls(event, tuple(_field_change(name, value) for name, value in changes.items()))


def _field_change(name: str, value: Any) -> FieldChange:
    match value:
        case [before, after]:
            return FieldChange(name, before, after)
    return FieldChange(name, None, value)


@dataclass(frozen=True)
class TailCursor:
    """The position of a reader that follows the log: it has all events recorded before ``since``, and
    ``seen``.
    """

    since: datetime
    seen: frozenset[tuple[datetime, str]] = frozenset()


@dataclass(frozen=True)
class TailBatch:
    """The events recorded since the last call, in order, and the position for the next call."""

    events: tuple[EventRecord, ...]
    cursor: TailCursor


@dataclass(frozen=True)
class DailyCount:
    """The number of events of an action on a day (UTC), and how many of them did not succeed."""

    day: date
    action: str | None
    events: int
    unsuccessful: int


@dataclass(frozen=True)
class AuditPartition:
    """A partition of the log. The default partition has no bounds and holds events outside all months."""

    name: str
    starts_at: datetime | None
    ends_at: datetime | None
    is_default: bool
    #: Whether usersync created it and may drop it.
    is_own: bool
    #: From the last ANALYZE; None if there was none.
    estimated_rows: int | None
    bytes: int


@dataclass(frozen=True)
class PrunedPart:
    """What was removed from one partition: the complete partition, or rows of it."""

    name: str
    rows: int
    bytes: int
    dropped: bool


@dataclass(frozen=True)
class PruneResult:
    """What was removed, or with ``dry_run`` would be: everything before the start of a month (UTC)."""

    before: datetime
    dry_run: bool
    parts: tuple[PrunedPart, ...]

    @property
    def rows(self) -> int:
        """The number of removed events."""
        return sum(part.rows for part in self.parts)


@dataclass(frozen=True)
class RejectedEvent:
    """An event that was rejected because of its content."""

    reject_id: int
    event: Any
    sqlstate: str
    reason: str
    rejected_at: datetime


@dataclass(frozen=True)
class RecordResult:
    """The result of recording a batch."""

    stored: int = 0
    duplicates: int = 0
    rejected: int = 0

    def __add__(self, other: RecordResult) -> RecordResult:
        return RecordResult(
            self.stored + other.stored, self.duplicates + other.duplicates, self.rejected + other.rejected
        )
