"""The interface of what the writer reads events from: a spool file or the queue in memory."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterable

    from usersync.audit.spool.binding import DatabaseBinding


@dataclass(frozen=True, slots=True)
class Entry:
    """A waiting event. ``number`` increases from event to event of the same source."""

    number: int
    payload: bytes
    #: Why it cannot be sent, or None. If set, the payload is empty.
    problem: str | None = None


def fitting(events: Iterable[tuple[int, Any, bytes]], size: int) -> list[Entry]:
    """The first events, at least one, with a total of at most ``size`` bytes.

    Each row is number, payload and SQLite's type of it. usersync always writes a BLOB: any other type is
    returned alone, with an error.
    """
    batch: list[Entry] = []
    for number, payload, kind in events:
        if kind != b"blob":
            return batch or [Entry(number, b"", f"the event is {kind.decode().upper()}, not a BLOB")]
        size -= len(payload)
        if size < 0 and batch:
            break
        batch.append(Entry(number, payload))
    return batch


class EventSource(Protocol):
    """Events in the order of recording. Numbers are never used twice.

    ``last`` is the number of the newest event; ``done`` the number up to which all events were processed.
    """

    done: int
    #: The database that the events are for.
    binding: DatabaseBinding

    @property
    def last(self) -> int: ...

    def read(self, events: int, size: int) -> list[Entry]:
        """The oldest events, at most the given number and bytes; one event may be larger."""

    def name_batch(self, through: int) -> str:
        """The id of the batch of the waiting events up to this number: the same in each attempt."""

    def discard(self, through: int, size: int = 0) -> None:
        """Mark the events up to this number, of the given bytes, as stored in the database."""

    def quarantine(self, entry: Entry, reason: str) -> None:
        """Quarantine the event with the reason, if the source can keep it."""


class KeepingSource(EventSource, Protocol):
    """A source that keeps delivered events for a while."""

    #: The number up to which kept events were sent again to a database that has moved.
    sent_again: int

    @property
    def keeps(self) -> bool:
        """Whether any delivered events are kept."""

    @property
    def expired(self) -> int:
        """How many delivered events are no longer kept."""

    def delivered(self, after: int, events: int, size: int) -> list[Entry]:
        """Kept events with a number larger than ``after``."""

    def prune(self, now_ms: int) -> None:
        """Delete events whose retention has passed at ``now_ms``."""
