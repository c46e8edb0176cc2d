"""The bounded queue in memory. When it is full, the newest event is not accepted.

The oldest are kept, because an event is never dropped after its ``record()`` has returned an id.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from itertools import islice
from typing import TYPE_CHECKING

from usersync.audit.spool.batch import NO_BATCH
from usersync.audit.spool.binding import DatabaseBinding, Destination, Origin
from usersync.audit.spool.source import fitting
from usersync.audit.spool.window import Keep, Window

if TYPE_CHECKING:
    from usersync.audit.spool.source import Entry
    from usersync.core.position import DatabasePosition


_NO_HOME, _NO_KEEP = Destination(), Keep()


class MemoryQueue:
    """A source for the writer, bounded in events and in bytes. Threads may share it."""

    def __init__(
        self, max_events: int, max_bytes: int, destination: Destination = _NO_HOME, keep: Keep = _NO_KEEP
    ) -> None:
        self._max_events = max_events
        self._max_bytes = max_bytes
        # Recording time and payload. Numbers are computed from positions: a counter would be wrong after a
        # signal handler recorded in the middle of an append.
        self._events: deque[tuple[int, bytes]] = deque()
        self._bytes = 0
        self._lock = threading.RLock()
        self.done = 0
        self.quarantined_count = self.sent_again = 0
        self.binding = DatabaseBinding(destination, Origin(destination), _nothing)
        # Number and payload of kept events. They do not use the room of waiting events.
        self._kept: deque[tuple[int, bytes]] = deque()
        self._window = Window(Keep(keep.ms, min(keep.size, max_bytes)))
        self._batch = NO_BATCH

    @property
    def last(self) -> int:
        """See ``EventSource``."""
        with self._lock:
            return self.done + len(self._events)

    def append(self, at_ms: int, payload: bytes) -> bool:
        """Append an event. False if the queue is full."""
        size = len(payload)
        with self._lock:
            if len(self._events) >= self._max_events or self._bytes + size > self._max_bytes:
                return False
            self._events.append((at_ms, payload))
            self._bytes += size
        return True

    def read(self, events: int, size: int) -> list[Entry]:
        """See ``EventSource``."""
        with self._lock:
            # Copied in one step, because a signal handler may append while a loop iterates over the queue.
            waiting = self._batch.end(self.done, self.last) - self.done
            oldest = enumerate(list(islice(self._events, min(events, waiting))), self.done + 1)
            return fitting(((number, payload, b"blob") for number, (_, payload) in oldest), size)

    def name_batch(self, through: int) -> str:
        """See ``EventSource``."""
        with self._lock:
            self._batch = self._batch.named(self.done, through)
            return self._batch.id

    def discard(self, through: int, size: int = 0) -> None:
        """Mark the events up to this number as delivered."""
        with self._lock:
            while self._events and self.done < through:
                self._pop(keep=self._window.is_kept)
            if self._window.is_kept:
                self._window.add(through, time.time_ns() // 1_000_000, size)

    def hand_over(self, through: int) -> None:
        """Remove the events up to this number, because they are in the spool now."""
        with self._lock:
            while self._events and self.done < through:
                self._pop(keep=False)

    def _pop(self, *, keep: bool) -> None:
        _, payload = self._events.popleft()
        self._bytes -= len(payload)
        self.done += 1
        if keep:
            self._kept.append((self.done, payload))

    def quarantine(self, entry: Entry, reason: str) -> None:  # noqa: ARG002 - memory has no quarantine
        """Drop the event. It was counted and logged."""
        with self._lock:
            self.quarantined_count += 1
            if self._events and self.done < entry.number:
                self._pop(keep=False)

    @property
    def keeps(self) -> bool:
        """Whether any delivered events are kept."""
        return bool(self._window)

    @property
    def expired(self) -> int:
        """How many delivered events are no longer kept."""
        return self._window.expired

    def delivered(self, after: int, events: int, size: int) -> list[Entry]:
        """See ``KeepingSource``."""
        kept = islice((each for each in self._kept if each[0] > after), events)
        return fitting(((number, payload, b"blob") for number, payload in kept), size)

    def prune(self, now_ms: int) -> None:
        """See ``KeepingSource``."""
        while (through := self._window.pop_expired(now_ms)) is not None:
            while self._kept and self._kept[0][0] <= through:
                self._kept.popleft()

    def oldest_ms(self) -> int | None:
        """When the oldest event was recorded, in milliseconds since 1970."""
        with self._lock:
            return self._events[0][0] if self._events else None

    def __len__(self) -> int:
        return len(self._events)


def _nothing(_: DatabasePosition) -> None:
    """Does nothing: memory does not store the database."""
