"""Keeps delivered events for a while.

The promotion of a standby that lags, or a restore to a point in time, loses events whose storage the database
had confirmed. Kept events are sent again: an event is stored once, however often it is sent.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable


@dataclass(frozen=True)
class Keep:
    """How long delivered events are kept, in milliseconds, and their maximum total bytes."""

    ms: int = 0
    size: int = 64 << 20


class Window:
    """The kept batches: last event number, delivery time and size of each."""

    def __init__(self, keep: Keep, batches: Iterable[tuple[int, int, int]] = ()) -> None:
        self._keep = keep
        self._batches = deque(batches)
        self._size = sum(size for _, _, size in self._batches)
        #: The number of the newest event that is no longer kept.
        self.expired = 0

    def __bool__(self) -> bool:
        return bool(self._batches)

    @property
    def is_kept(self) -> bool:
        """Whether events are to be kept."""
        return self._keep.ms > 0 and self._keep.size > 0

    def add(self, through: int, at_ms: int, size: int) -> None:
        """Add a delivered batch."""
        self._batches.append((through, at_ms, size))
        self._size += size

    def pop_expired(self, now_ms: int) -> int | None:
        """Return the last event number of the oldest batch, if its retention has passed.

        ``now_ms`` is a time at which the database was on the remembered timeline.
        """
        if not self._batches:
            return None
        through, at_ms, size = self._batches[0]
        if now_ms - at_ms < self._keep.ms and self._size <= self._keep.size:
            return None
        self._batches.popleft()
        self._size -= size
        self.expired = through
        return through

    def discard_through(self, through: int) -> None:
        """Stop keeping events up to this number, because there is no room."""
        self._batches.clear()
        self._size = 0
        self.expired = through

    @property
    def expires_ms(self) -> int:
        """When the newest batch expires, in milliseconds since 1970; 0 if there are no batches."""
        return self._batches[-1][1] + self._keep.ms if self._batches else 0
