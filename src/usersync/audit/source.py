"""Where the writer takes events from: a spool file or the queue in memory."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Entry:
    """One event that waits. ``number`` grows from event to event of the same source."""

    number: int
    payload: bytes


class Source(Protocol):
    """Events in the order in which they came. Numbers are never used twice.

    ``last`` is the number of the newest event, ``done`` that up to which all are settled.
    """

    done: int

    @property
    def last(self) -> int: ...

    def read(self, events: int, size: int) -> list[Entry]:
        """The oldest events, at most so many, and so many bytes unless a single one is larger."""

    def discard(self, through: int) -> None:
        """Forget the events up to this one: the database has them."""

    def set_aside(self, entry: Entry, reason: str) -> None:
        """Take the event out of the way and keep it, with the reason, where that is possible."""
