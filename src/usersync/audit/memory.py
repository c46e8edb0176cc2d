"""The bounded queue in memory. When it is full, the newest event is not accepted.

The newest and not the oldest: an event whose ``record()`` has returned an id is never given up.
"""

from __future__ import annotations

import threading
from collections import deque
from itertools import islice

from usersync.audit.source import Entry


class MemoryQueue:
    """A source for the writer; bounded in events and in bytes. Threads may share it."""

    def __init__(self, max_events: int, max_bytes: int) -> None:
        self._max_events = max_events
        self._max_bytes = max_bytes
        self._entries: deque[Entry] = deque()
        self._times: deque[int] = deque()
        self._bytes = 0
        self._lock = threading.RLock()
        self.last = self.done = 0

    def append(self, at_ms: int, payload: bytes) -> bool:
        """Whether there was room."""
        with self._lock:
            if len(self._entries) >= self._max_events or self._bytes + len(payload) > self._max_bytes:
                return False
            self.last += 1
            self._entries.append(Entry(self.last, payload))
            self._times.append(at_ms)
            self._bytes += len(payload)
        return True

    def read(self, events: int, size: int) -> list[Entry]:
        """See :class:`~usersync.audit.source.Source`."""
        batch: list[Entry] = []
        with self._lock:
            for entry in islice(self._entries, events):
                size -= len(entry.payload)
                if size < 0 and batch:
                    break
                batch.append(entry)
        return batch

    def discard(self, through: int) -> None:
        """Forget the events up to this one."""
        with self._lock:
            while self._entries and self._entries[0].number <= through:
                self._bytes -= len(self._entries.popleft().payload)
                self._times.popleft()
            self.done = max(self.done, through)

    def set_aside(self, entry: Entry, reason: str) -> None:  # noqa: ARG002 - there is nowhere to keep it
        """Forget the event; it was counted and logged."""
        self.discard(entry.number)

    def oldest_ms(self) -> int | None:
        """When the oldest event was recorded, in milliseconds since 1970."""
        with self._lock:
            return self._times[0] if self._times else None

    def __len__(self) -> int:
        return len(self._entries)
