"""What was delivered and is kept for a while.

A standby that lags and is promoted, or a restore to a point in time, loses what the database had confirmed.
Whoever kept it can send it again: an event is stored once, however often it is sent.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable


@dataclass(frozen=True)
class Keep:
    """How long what was delivered is kept, in milliseconds, and how many bytes of it at the most."""

    ms: int = 0
    size: int = 64 << 20


class Window:
    """The batches that are kept: up to which number, when they were delivered, and how large they are."""

    def __init__(self, keep: Keep, batches: Iterable[tuple[int, int, int]] = ()) -> None:
        self._keep = keep
        self._batches = deque(batches)
        self._size = sum(size for _, _, size in self._batches)
        #: The number of the newest event that is kept no longer.
        self.gone = 0

    def __bool__(self) -> bool:
        return bool(self._batches)

    @property
    def is_kept(self) -> bool:
        """Whether anything is to be kept."""
        return self._keep.ms > 0 and self._keep.size > 0

    def add(self, through: int, at_ms: int, size: int) -> None:
        """Note a batch that was delivered."""
        self._batches.append((through, at_ms, size))
        self._size += size

    def pop_expired(self, now_ms: int) -> int | None:
        """The number of the last event of the oldest batch, if that is not to be kept any longer.

        For a moment at which the database was seen to be where it was.
        """
        if not self._batches:
            return None
        through, at_ms, size = self._batches[0]
        if now_ms - at_ms < self._keep.ms and self._size <= self._keep.size:
            return None
        self._batches.popleft()
        self._size -= size
        self.gone = through
        return through

    def let_go(self, through: int) -> None:
        """Keep nothing up to this number: there is no room."""
        self._batches.clear()
        self._size = 0
        self.gone = through

    @property
    def expires_ms(self) -> int:
        """When the newest batch is kept no longer; 0 if there is none."""
        return self._batches[-1][1] + self._keep.ms if self._batches else 0
