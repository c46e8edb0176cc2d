"""The fields of an entity at a moment, computed from the changes in its events."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from usersync.audit.models import EventFilter, FieldChange
from usersync.audit.reading import search
from usersync.config.periods import iso

if TYPE_CHECKING:
    from collections.abc import Iterator
    from uuid import UUID

    from usersync.audit.models import EventRecord
    from usersync.transports.steps import Steps

#: The number of events that are read on each side of the moment.
MOST_READ = 2_000
_PAGE = 200

#: The last part of actions that create or delete an entity. Tracked tables use "inserted" and "deleted".
_CREATED, _DELETED = ("created", "inserted"), ("deleted",)
_UNIT = timedelta(microseconds=1)
_LATEST = datetime.max.replace(tzinfo=UTC) - _UNIT


@dataclass(frozen=True)
class FieldState:
    """A field at the moment."""

    name: str
    value: Any
    #: The event that set the value. None: the value is the old value of a later event.
    set_by: EventRecord | None


@dataclass(frozen=True)
class EntityState:
    """An entity at a moment, as far as the audit log knows it. Times are in UTC."""

    at: datetime
    fields: tuple[FieldState, ...]
    #: The event that created or deleted the entity before the moment, or creates it after the moment.
    bound: EventRecord | None
    #: The first event after the moment, if the log has none before.
    oldest: EventRecord | None
    has_events: bool
    #: Whether there are more events than were read.
    is_cut: bool

    @property
    def exists(self) -> bool | None:
        """Whether the entity existed. None: unknown, the log has no event for it."""
        if self.bound is None:
            return None
        return self.bound.occurred_at <= self.at and _is(self.bound, _CREATED)

    @property
    def notes(self) -> tuple[str, ...]:
        """What the log contains about the entity at this time, in sentences."""
        return tuple(self._notes())

    def _notes(self) -> Iterator[str]:
        if not self.has_events:
            yield "The audit log has no event of this entity."
        elif self.bound is not None:
            verb = "created" if _is(self.bound, _CREATED) else "deleted"
            when = iso(self.bound.occurred_at)
            yield f"Existed: {verb} at {when}." if self.exists else f"Did not exist: {verb} at {when}."
        elif self.oldest is not None:
            yield (
                "The log has no event of this entity before this time: its oldest one is from "
                f"{iso(self.oldest.occurred_at)}. The values are the old values of later events. "
                "Fields that did not change later are missing."
            )
        else:
            yield "The log does not contain the creation. Fields without a recorded change are missing."
        if self.is_cut:
            yield (
                f"Only the {MOST_READ:,} events before and after this time were read. Fields that changed "
                "only in other events are missing."
            )


def state_at(entity_type: str, entity_id: UUID | str | int, at: datetime) -> Steps[EntityState]:
    """The state of an entity at the moment ``at``, which includes the events of this moment.

    Reads at most ``MOST_READ`` events before and after it. The last part of an action shows whether it
    creates the entity (``created``, ``inserted``) or deletes it (``deleted``). Ignores failed and denied
    events.
    """
    this = EventFilter(entity_type=entity_type, entity_id=entity_id)
    next_moment = min(at, _LATEST) + _UNIT
    earlier, is_cut = yield from _read(replace(this, until=next_moment), oldest_first=False)
    if earlier and _is(earlier[0], _DELETED):
        return EntityState(at, (), earlier[0], None, has_events=True, is_cut=False)
    later, later_cut = yield from _read(replace(this, since=next_moment), oldest_first=True)
    if not earlier and later and _is(later[0], _CREATED):
        return EntityState(at, (), later[0], None, has_events=True, is_cut=False)
    found: dict[str, FieldState] = {}
    for event in earlier:
        if _is(event, _DELETED):  # Of an earlier entity with this id.
            break
        for change in event.field_changes:
            found.setdefault(change.name, FieldState(change.name, change.after, event))
    for event in later:
        if _is(event, _CREATED):
            break
        for change in event.field_changes:
            found.setdefault(change.name, FieldState(change.name, change.before, None))
    created = earlier[-1] if earlier and _is(earlier[-1], _CREATED) else None
    oldest = later[0] if later and not earlier else None
    return EntityState(
        at,
        tuple(found[name] for name in sorted(found)),
        created,
        oldest,
        has_events=bool(earlier or later),
        is_cut=is_cut or later_cut,
    )


def difference(before: EntityState, after: EntityState) -> tuple[FieldChange, ...]:
    """The fields whose values differ between two states. A missing field is None."""
    old, new = ({each.name: each.value for each in state.fields} for state in (before, after))
    return tuple(
        FieldChange(name, old.get(name), new.get(name))
        for name in sorted(old | new)
        if _as_json(old.get(name)) != _as_json(new.get(name))
    )


def _as_json(value: Any) -> str:
    """A value for a comparison. In Python, true equals 1."""
    return json.dumps(value, sort_keys=True)


def _read(wanted: EventFilter, *, oldest_first: bool) -> Steps[tuple[list[EventRecord], bool]]:
    """The events up to the creation or deletion of the entity, and whether there are more."""
    found: list[EventRecord] = []
    read, after = 0, None
    while True:
        page = yield from search(wanted, after=after, limit=_PAGE, oldest_first=oldest_first)
        for event in page.events:
            if event.outcome not in {"failed", "denied"}:
                found.append(event)
                if _is(event, _CREATED + _DELETED):
                    return found, False
        read += len(page.events)
        after = page.next
        if after is None or read >= MOST_READ:
            return found, after is not None


def _is(event: EventRecord, words: tuple[str, ...]) -> bool:
    return (event.action or "").rpartition(".")[2] in words
