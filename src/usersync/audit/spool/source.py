"""Where the writer takes events from: a spool file or the queue in memory."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterable

    from usersync.audit.spool.belonging import Belonging


@dataclass(frozen=True, slots=True)
class Entry:
    """One event that waits. ``number`` grows from event to event of the same source."""

    number: int
    payload: bytes
    #: Why it cannot be sent, if it cannot; the payload is empty then.
    problem: str | None = None


def fitting(events: Iterable[tuple[int, Any, bytes]], size: int) -> list[Entry]:
    """As many of the first events as are no larger than ``size``, but one at least.

    Number, payload and SQLite's type of each: what is no BLOB was not written by us, and comes alone.
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


class Source(Protocol):
    """Events in the order in which they came. Numbers are never used twice.

    ``last`` is the number of the newest event, ``done`` that up to which all are settled.
    """

    done: int
    #: The database that they are for.
    belonging: Belonging

    @property
    def last(self) -> int: ...

    def read(self, events: int, size: int) -> list[Entry]:
        """The oldest events, at most so many, and so many bytes unless a single one is larger."""

    def discard(self, through: int, size: int = 0) -> None:
        """Settle the events up to this one, of so many bytes: the database has them."""

    def set_aside(self, entry: Entry, reason: str) -> None:
        """Take the event out of the way and keep it, with the reason, where that is possible."""


class KeepingSource(Source, Protocol):
    """A source that keeps for a while what was delivered."""

    #: Up to which number that was sent again to a database that has moved.
    sent_again: int

    @property
    def keeps(self) -> bool:
        """Whether there is anything of that kind."""

    @property
    def gone(self) -> int:
        """How many of the events that were delivered are kept no longer."""

    def delivered(self, after: int, events: int, size: int) -> list[Entry]:
        """Those that are kept whose number is larger than ``after``."""

    def prune(self, now_ms: int) -> None:
        """Let go of what is not to be kept any longer at ``now_ms``."""
