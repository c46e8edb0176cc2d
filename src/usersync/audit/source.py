"""Where the writer takes events from: a spool file or the queue in memory."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterable


@dataclass(frozen=True, slots=True)
class Entry:
    """One event that waits. ``number`` grows from event to event of the same source."""

    number: int
    payload: bytes


def fitting(events: Iterable[tuple[int, bytes]], size: int) -> list[Entry]:
    """As many of the first events, number and payload, as are no larger than ``size``; but one at least."""
    batch: list[Entry] = []
    for number, payload in events:
        size -= len(payload)
        if size < 0 and batch:
            break
        batch.append(Entry(number, payload))
    return batch


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
