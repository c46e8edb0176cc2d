"""Collects events instead of storing them, for tests of the code that records."""

from __future__ import annotations

import json
from contextlib import contextmanager
from datetime import datetime
from typing import TYPE_CHECKING
from uuid import UUID

from usersync.audit.models import EventRecord

if TYPE_CHECKING:
    from collections.abc import Iterator

    from usersync.audit.event.event import Event

#: Open captures, the newest last: the log, or None for every log of this process, and its events.
_open: list[tuple[object, list[EventRecord]]] = []


@contextmanager
def captured(log: object = None) -> Iterator[list[EventRecord]]:
    """Collect the events that ``log``, or every log of this process, records in the block.

    They are collected from all threads and tasks, and not stored.
    """
    mine: tuple[object, list[EventRecord]] = (log, [])
    _open.append(mine)
    try:
        yield mine[1]
    finally:
        # By identity: another capture may hold equal events.
        _open[:] = [each for each in _open if each is not mine]


def capture_of(log: object) -> list[EventRecord] | None:
    """The list for the events of this log; None if they are to be stored."""
    return next((events for owner, events in reversed(_open) if owner is None or owner is log), None)


def take(events: list[EventRecord], event: Event) -> str:
    """Add an event. Returns its id."""
    found = json.loads(event.payload)
    user_id = found.get("user_id")
    events.append(
        EventRecord(
            **{name: found.get(name) for name in _PLAIN},
            id=UUID(event.id),
            occurred_at=datetime.fromisoformat(found["occurred_at"]),
            recorded_at=None,
            user_id=_uuid(user_id),
            metadata=found.get("metadata") or {},
            db_role=None,
            tie="",
        )
    )
    return event.id


def _uuid(text: str | None) -> UUID | None:
    try:
        return UUID(text) if text else None
    except ValueError:
        return None


_PLAIN = (
    *("action", "outcome", "actor_id", "actor_type", "entity_type", "entity_id", "changes", "request_id"),
    *("ip", "user_agent", "source", "tenant_id", "on_behalf_of", "traceparent", "severity"),
)
