"""Arguments and results of the audit log's operations."""

from __future__ import annotations

import hashlib
import json
import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, fields
from datetime import UTC, date, datetime, timedelta
from functools import partial
from typing import Any
from uuid import UUID

from usersync.config.audit_rules import SEVERITIES
from usersync.errors import ArgumentTypeError, ArgumentValueError


@dataclass(frozen=True)
class FieldChange:
    """The change of one field."""

    name: str
    before: Any
    after: Any


@dataclass(frozen=True)
class EventRecord:
    """A stored event. In an audit table of the application, fields without a column may be None.

    Times are in UTC. ``changes`` is ``{"field": [old, new]}``, and ``field_changes`` has the same field by
    field. ``changes`` and ``metadata`` are JSON data, which an application's own table may hold in any form.
    """

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
    #: The customer (organisation) that the event belongs to.
    tenant_id: str | None
    #: With impersonation: the user for whom the actor acted.
    on_behalf_of: str | None
    #: The role of the database session, written by the database.
    db_role: str | None
    traceparent: str | None
    #: info, low, medium, high or critical; None: not rated.
    severity: str | None
    #: Orders events of the same time; part of a cursor.
    tie: str = field(compare=False, repr=False)

    @property
    def field_changes(self) -> tuple[FieldChange, ...]:
        """The changes field by field. A value that is not a pair is taken as the new value."""
        changes = self.changes if isinstance(self.changes, Mapping) else {}
        return tuple(_field_change(name, value) for name, value in changes.items())

    @property
    def position(self) -> EventPosition:
        """The position of this event in the order of a search."""
        return EventPosition(self.occurred_at, self.tie)


def _field_change(name: str, value: Any) -> FieldChange:
    match value:
        case [before, after]:
            return FieldChange(name, before, after)
    return FieldChange(name, None, value)


@dataclass(frozen=True)
class EventFilter:
    """Which events to find: those that match all given fields. Other types raise ``ArgumentTypeError``, other
    values ``ArgumentValueError``.

    An ``action`` that ends in ``*`` is a prefix. ``since`` is inclusive, ``until`` exclusive; a time without
    a zone is taken as UTC. Each word of ``text`` is searched as a substring in the values of metadata and
    changes, ignoring case.
    """

    user_id: UUID | str | None = None
    actor_id: UUID | str | int | None = None
    entity_type: str | None = None
    entity_id: UUID | str | int | None = None
    action: str | None = None
    outcome: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    request_id: UUID | str | int | None = None
    text: str | None = None
    tenant_id: UUID | str | int | None = None
    on_behalf_of: UUID | str | int | None = None
    severity: str | None = None

    def __post_init__(self) -> None:
        for each in fields(self):
            if (value := getattr(self, each.name)) is not None:
                object.__setattr__(self, each.name, _CHECKS[each.name](each.name, value))
        if self.entity_id is not None and self.entity_type is None:
            raise ArgumentValueError(
                "entity_id: the entity_type is missing", hint='Pass both, as in ("product", 42).'
            )
        if self.since is not None and self.until is not None and self.since >= self.until:
            raise ArgumentValueError("since must be before until")

    def describe(self) -> dict[str, Any]:
        """The given fields as JSON data, in the form that ``usersync.audit_conditions()`` reads."""
        given = {each.name: getattr(self, each.name) for each in fields(self)}
        words = (given.pop("text") or "").split()
        found: dict[str, Any] = {
            name: value.isoformat() if isinstance(value, datetime) else str(value)
            for name, value in given.items()
            if value is not None
        }
        return found | {"words": words} if words else found


OUTCOMES = ("succeeded", "failed", "denied")


def as_uuid(name: str, value: object) -> UUID:
    """An id. Raises ``ArgumentTypeError`` and ``ArgumentValueError``."""
    if isinstance(value, UUID):
        return value
    if not isinstance(value, str):
        raise ArgumentTypeError(f"{name}: expected a UUID, got {_shown(value)}")
    try:
        return UUID(value)
    except ValueError:
        raise ArgumentValueError(f"{name}: expected a UUID, got {_shown(value)}") from None


def _as_key(name: str, value: object) -> str:
    if not isinstance(value, str | UUID | int) or isinstance(value, bool):
        raise ArgumentTypeError(f"{name}: expected a text, a UUID or a whole number, got {_shown(value)}")
    return _as_text(name, str(value))


def _as_text(name: str, value: object) -> str:
    if not isinstance(value, str):
        raise ArgumentTypeError(f"{name}: expected a text, got {_shown(value)}")
    if "\0" in value or _has_surrogates(value):
        raise ArgumentValueError(f"{name}: {_shown(value)} has characters that PostgreSQL does not store")
    return value


def _as_action(name: str, value: object) -> str:
    text = _as_text(name, value)
    if not re.fullmatch(r"[^*]+\*?|\*", text):
        raise ArgumentValueError(
            f"{name}: {_shown(text)} is neither an action nor a prefix",
            hint="A star is allowed at the end only, for example 'product.*'.",
        )
    return text


def _one_of(allowed: tuple[str, ...], name: str, value: object) -> str:
    if value not in allowed:
        raise ArgumentValueError(f"{name}: expected {', '.join(allowed)}, got {_shown(value)}")
    return str(value)


def _has_surrogates(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return True
    return False


def _as_moment(name: str, value: object) -> datetime:
    if not isinstance(value, datetime):
        raise ArgumentTypeError(f"{name}: expected a datetime, got {_shown(value)}")
    return value if value.tzinfo is not None else value.replace(tzinfo=UTC)


_CHECKS: Mapping[str, Callable[[str, object], object]] = {
    "user_id": as_uuid,
    "actor_id": _as_key,
    "entity_type": _as_text,
    "entity_id": _as_key,
    "action": _as_action,
    "outcome": partial(_one_of, OUTCOMES),
    "since": _as_moment,
    "until": _as_moment,
    "request_id": _as_key,
    "text": _as_text,
    "tenant_id": _as_key,
    "on_behalf_of": _as_key,
    "severity": partial(_one_of, SEVERITIES),
}


def _shown(value: object) -> str:
    return repr(value)[:80]


@dataclass(frozen=True)
class EventPosition:
    """A position between two events, in the order of their times."""

    occurred_at: datetime
    tie: str

    def describe(self) -> dict[str, str]:
        """The position as JSON data, in the form that ``usersync.audit_query()`` reads."""
        return {"time": self.occurred_at.isoformat(), "tie": self.tie}


@dataclass(frozen=True)
class Search:
    """A search: which events, in which order. A cursor belongs to one search."""

    wanted: EventFilter = EventFilter()
    oldest_first: bool = False

    def cursor(self, position: EventPosition) -> str:
        """The position as text for URLs and command lines: version, time, tie, check sum."""
        microseconds = (position.occurred_at - _EPOCH) // timedelta(microseconds=1)
        data = _VERSION + microseconds.to_bytes(8, "big", signed=True) + _packed(position.tie)
        return urlsafe_b64encode(data + self._check(data)).decode().rstrip("=")

    def position(self, cursor: object) -> EventPosition:
        """The position that a cursor names. Raises ``ArgumentValueError`` unless it is from this search."""
        try:
            data = urlsafe_b64decode(f"{cursor}{'=' * (-len(cursor) % 4)}" if isinstance(cursor, str) else "")
        except ValueError:
            data = b""
        data, check = data[:-_CHECKED], data[-_CHECKED:]
        if data.startswith(_VERSION) and len(data) >= _HEAD and self._check(data) == check:
            moment = int.from_bytes(data[1:_HEAD], "big", signed=True)
            # Anyone can compute the checksum, so the rest may be forged.
            with suppress(OverflowError, ValueError):
                return EventPosition(_EPOCH + timedelta(microseconds=moment), _unpacked(data[_HEAD:]))
        raise ArgumentValueError(
            f"{_shown(cursor)} is not a cursor of this search",
            hint="Pass the cursor that the previous page returned, with the same filters and order. Only "
            "since and until may differ.",
        )

    def _check(self, data: bytes) -> bytes:
        # Without the times: in a search of the last hour, they differ from page to page.
        wanted = {
            name: value for name, value in self.wanted.describe().items() if name not in {"since", "until"}
        }
        search = json.dumps([wanted, self.oldest_first], sort_keys=True).encode()
        return hashlib.sha256(search + data).digest()[:_CHECKED]


_VERSION = b"\x01"
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_HEAD = 9
_CHECKED = 6


def _packed(tie: str) -> bytes:
    """An event's id in 16 bytes; any other tie as text."""
    try:
        found = UUID(tie)
    except ValueError:
        return b"t" + tie.encode()
    return b"u" + found.bytes if str(found) == tie else b"t" + tie.encode()


def _unpacked(data: bytes) -> str:
    if data.startswith(b"u"):
        return str(UUID(bytes=data[1:]))
    tie = data[1:].decode()
    if "\0" in tie:
        raise ValueError("PostgreSQL has no text with NUL")
    return tie


@dataclass(frozen=True)
class EventPage:
    """A page of events. ``next`` is the cursor of the next page, or None after the last page.

    A page may have fewer events than requested and a next page, if its events are large.
    """

    events: tuple[EventRecord, ...]
    next: str | None


@dataclass(frozen=True)
class NumberedEvent(EventRecord):
    """An event of the feed."""

    #: The position of the event in the feed.
    number: int


@dataclass(frozen=True)
class FeedPage:
    """A page of the feed. ``position`` is the position after it: pass it to the next call, and store it."""

    events: tuple[NumberedEvent, ...]
    position: int
    #: Whether there are numbered events after this page, which the filter may or may not match.
    more: bool


@dataclass(frozen=True)
class SnapshotCursor:
    """The position of a reader that follows usersync's log: it has all events visible in ``snapshot``.

    With a ``target``, it also has the events visible there whose ``seq`` is not greater than ``after``.
    """

    snapshot: str
    target: str | None = None
    after: int = 0


@dataclass(frozen=True)
class TimeCursor:
    """The position of a reader that follows an application's audit table: it has all events recorded before
    ``since``, and ``seen``.
    """

    since: datetime
    seen: frozenset[tuple[datetime, str]] = frozenset()


@dataclass(frozen=True)
class FeedCursor:
    """The position of a reader that follows an application's audit table with a feed."""

    position: int


TailCursor = SnapshotCursor | TimeCursor | FeedCursor


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
class Hold:
    """A legal hold: events of a tenant, of an entity, or of all entities of a type are kept unchanged."""

    hold_id: int
    tenant_id: str | None
    entity_type: str | None
    entity_id: str | None
    reason: str
    created_at: datetime
    created_by: str

    @property
    def subject(self) -> str:
        """``tenant acme``, ``entity product/42`` or ``entity product``."""
        if self.tenant_id is not None:
            return f"tenant {self.tenant_id}"
        return "entity " + "/".join(part for part in (self.entity_type, self.entity_id) if part)


@dataclass(frozen=True)
class Retention:
    """The times before which events are removed: by action (an action or a prefix with a star), and for all
    other actions. None keeps the events.
    """

    default: datetime | None
    by_action: Mapping[str, datetime] = field(default_factory=dict)

    @property
    def latest(self) -> datetime | None:
        """All events since this time are kept."""
        given = [*self.by_action.values(), *([self.default] if self.default else [])]
        return max(given, default=None)


@dataclass(frozen=True)
class PrunedPart:
    """What was removed from one partition: the complete partition, or rows of it.

    ``held`` is the number of events that were kept because of legal holds only.
    """

    name: str
    rows: int
    bytes: int
    dropped: bool
    held: int = 0


@dataclass(frozen=True)
class PruneResult:
    """What was removed, or with ``dry_run`` would be: everything before the start of a month (UTC).

    With a retention by action, ``before`` is the latest of its times. ``holds`` are the legal holds, if they
    kept events.
    """

    before: datetime
    dry_run: bool
    parts: tuple[PrunedPart, ...]
    holds: tuple[Hold, ...] = ()

    @property
    def rows(self) -> int:
        """The number of removed events."""
        return sum(part.rows for part in self.parts)

    @property
    def held(self) -> int:
        """The number of events that legal holds kept."""
        return sum(part.held for part in self.parts)

    def describe(self) -> dict[str, Any]:
        """The details of the event ``usersync.log_pruned``."""
        return {
            "before": self.before.isoformat(),
            "events": self.rows,
            "held": self.held,
            "partitions": [part.name for part in self.parts if part.dropped],
        }


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
