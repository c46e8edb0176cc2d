"""The bounded queue in memory. When it is full, the newest event is not accepted.

The newest and not the oldest: an event whose ``record()`` has returned an id is never given up.
"""

from __future__ import annotations

import threading
from collections import deque
from itertools import islice
from typing import TYPE_CHECKING

from usersync.audit.source import fitting

if TYPE_CHECKING:
    from usersync.audit.source import Entry


class MemoryQueue:
    """A source for the writer; bounded in events and in bytes. Threads may share it."""

    def __init__(self, max_events: int, max_bytes: int) -> None:
        self._max_events = max_events
        self._max_bytes = max_bytes
        # When each was recorded, and what it is. The numbers follow from the places: given out one by one,
        # they would go wrong when a signal handler records in the middle.
        self._events: deque[tuple[int, bytes]] = deque()
        self._bytes = 0
        self._lock = threading.RLock()
        self.done = 0

    @property
    def last(self) -> int:
        """See :class:`~usersync.audit.source.Source`."""
        with self._lock:
            return self.done + len(self._events)

    def append(self, at_ms: int, payload: bytes) -> bool:
        """Whether there was room."""
        size = len(payload)
        with self._lock:
            if len(self._events) >= self._max_events or self._bytes + size > self._max_bytes:
                return False
            self._events.append((at_ms, payload))
            self._bytes += size
        return True

    def read(self, events: int, size: int) -> list[Entry]:
        """See :class:`~usersync.audit.source.Source`."""
        with self._lock:
            # A list at once: a signal handler may add to the queue between two steps of a loop over it.
            oldest = enumerate(list(islice(self._events, events)), self.done + 1)
            return fitting(((number, payload) for number, (_, payload) in oldest), size)

    def discard(self, through: int) -> None:
        """Forget the events up to this one."""
        with self._lock:
            while self._events and self.done < through:
                size = len(self._events.popleft()[1])
                self._bytes -= size
                self.done += 1

    def set_aside(self, entry: Entry, reason: str) -> None:  # noqa: ARG002 - there is nowhere to keep it
        """Forget the event; it was counted and logged."""
        self.discard(entry.number)

    def oldest_ms(self) -> int | None:
        """When the oldest event was recorded, in milliseconds since 1970."""
        with self._lock:
            return self._events[0][0] if self._events else None

    def __len__(self) -> int:
        return len(self._events)
