"""Collects events instead of storing them, for tests of the code that records."""

from __future__ import annotations

import json
from contextlib import contextmanager
from typing import TYPE_CHECKING

from usersync.audit.reading import event_of
from usersync.config.audit_columns import FIELDS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from usersync.audit.event.event import Event
    from usersync.audit.models import EventRecord

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
    row = dict.fromkeys(FIELDS) | {"metadata": {}, "tie": ""} | json.loads(event.payload)
    events.append(event_of(row))
    return event.id
