"""What the audit log is asked for, and what it answers."""

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
    """An event as it is in the log. In a table of the application's own, what is not mapped may be None."""

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
    #: What tells it from others of the same time; part of a cursor.
    tie: str = field(compare=False, repr=False)

    @property
    def cursor(self) -> Cursor:
        """The place of this event in the order of a search."""
        return Cursor(self.occurred_at, self.tie)


@dataclass(frozen=True)
class EventFilter:
    """Which events are wanted: those to which all that is given applies.

    ``action`` may end in ``*``, and is a prefix then. ``since`` is included, ``until`` is not. Each word of
    ``text`` is looked for in the values of metadata and changes, in any case of letters, as a piece of one.
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
    """A place between two events. Its text is for command lines and addresses."""

    occurred_at: datetime
    tie: str

    def __str__(self) -> str:
        return f"{self.occurred_at.astimezone(UTC).isoformat()}~{self.tie}"

    @classmethod
    def parse(cls, text: str) -> Cursor:
        """Read what ``str()`` made; raises ``SettingsError``."""
        moment, _, tie = text.partition("~")
        try:
            at = datetime.fromisoformat(moment)
        except ValueError:
            at = None
        if at is None or at.tzinfo is None or not tie:
            raise SettingsError(f"{text!r} is not a cursor", hint="Pass the one that was printed.")
        return cls(at, tie)


@dataclass(frozen=True)
class EventPage:
    """Some events, and where the next ones begin; ``next`` is None after the last."""

    events: tuple[EventRecord, ...]
    next: Cursor | None


@dataclass(frozen=True)
class FieldChange:
    """What became of one field."""

    name: str
    before: Any
    after: Any


@dataclass(frozen=True)
class HistoryEntry:
    """One event of an entity's, with its changes field by field."""

    event: EventRecord
    changes: tuple[FieldChange, ...]

    @classmethod
    def of(cls, event: EventRecord) -> HistoryEntry:
        """Take the changes apart; what is not a pair is taken as the new value."""
        changes = event.changes if isinstance(event.changes, Mapping) else {}
        return cls(event, tuple(_field_change(name, value) for name, value in changes.items()))


def _field_change(name: str, value: Any) -> FieldChange:
    match value:
        case [before, after]:
            return FieldChange(name, before, after)
    return FieldChange(name, None, value)


@dataclass(frozen=True)
class TailCursor:
    """How far somebody who follows the log has come: all that was recorded before ``since``, and ``seen``."""

    since: datetime
    seen: frozenset[tuple[datetime, str]] = frozenset()


@dataclass(frozen=True)
class TailBatch:
    """What was recorded since the last look, in the order in which it was, and where to look on."""

    events: tuple[EventRecord, ...]
    cursor: TailCursor


@dataclass(frozen=True)
class DailyCount:
    """How many events of an action there were on a day (UTC), and how many of them did not succeed."""

    day: date
    action: str | None
    events: int
    unsuccessful: int


@dataclass(frozen=True)
class AuditPartition:
    """A partition of the log. The default one has no bounds and takes what has no month."""

    name: str
    starts_at: datetime | None
    ends_at: datetime | None
    is_default: bool
    #: Whether usersync made it, and may drop it.
    is_own: bool
    #: As of the last ANALYZE; None where there was none.
    estimated_rows: int | None
    bytes: int


@dataclass(frozen=True)
class PrunedPart:
    """What went from one partition: all of it, or rows of the default one."""

    name: str
    rows: int
    bytes: int
    dropped: bool


@dataclass(frozen=True)
class PruneResult:
    """What went, or with ``dry_run`` would go: everything before the beginning of a month (UTC)."""

    before: datetime
    dry_run: bool
    parts: tuple[PrunedPart, ...]

    @property
    def rows(self) -> int:
        """How many events."""
        return sum(part.rows for part in self.parts)


@dataclass(frozen=True)
class RejectedEvent:
    """An event that could not be stored because of what it contains."""

    reject_id: int
    event: Any
    sqlstate: str
    reason: str
    rejected_at: datetime


@dataclass(frozen=True)
class RecordResult:
    """What became of a batch."""

    stored: int = 0
    duplicates: int = 0
    rejected: int = 0

    def __add__(self, other: RecordResult) -> RecordResult:
        return RecordResult(
            self.stored + other.stored, self.duplicates + other.duplicates, self.rejected + other.rejected
        )
