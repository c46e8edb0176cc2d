"""The time of an event, and an id that sorts by time."""

from __future__ import annotations

import os
import threading
import time
from datetime import UTC, date, datetime

_NS_PER_MS, _NS_PER_S = 1_000_000, 1_000_000_000
_RANDOM_BITS = 62


class Clock:
    """Returns the current time, and ids made from it. Threads may share it."""

    def __init__(self) -> None:
        self._last = 0
        # A signal handler may record while it interrupts a thread that holds this lock.
        self._lock = threading.RLock()
        self._second: tuple[int, str] = (-1, "")

    def read(self) -> tuple[str, str]:
        """Return a new id and the current time, in ISO 8601 with a zone.

        The id is a UUID of version 7 (RFC 9562). Ids only increase within a process: the 12 bits after the
        milliseconds hold the fraction of the millisecond; if the clock stands still or goes back, the last
        value is incremented instead. The returned time is the clock's, even if it went back.
        """
        nanoseconds = time.time_ns()
        return self._id(nanoseconds), self._text(nanoseconds)

    def _id(self, nanoseconds: int) -> str:
        milliseconds, rest = divmod(nanoseconds, _NS_PER_MS)
        stamp = (milliseconds << 12) | (rest << 12) // _NS_PER_MS
        with self._lock:
            stamp = self._last = max(stamp, self._last + 1)
        random = int.from_bytes(os.urandom(8)) >> 2
        value = (stamp >> 12) << 80 | 7 << 76 | (stamp & 0xFFF) << 64 | 2 << _RANDOM_BITS | random
        text = f"{value:032x}"
        return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"

    def _text(self, nanoseconds: int) -> str:
        """Like ``isoformat()``, in a third of the time: it reuses the text of the last event's second."""
        second, rest = divmod(nanoseconds, _NS_PER_S)
        known, text = self._second
        if known != second:
            text = datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%dT%H:%M:%S")
            self._second = second, text
        return f"{text}.{rest // 1000:06}+00:00"


def moment(value: object) -> str | None:
    """``value`` as ISO 8601 in UTC. A value without a zone is taken as UTC. None if ``value`` is not a time.

    Accepts datetimes, dates, seconds since 1970, and ISO 8601 text.
    """
    try:
        return _in_utc(_as_datetime(value)).isoformat()
    except (TypeError, ValueError, OverflowError, OSError):
        return None


def _as_datetime(value: object) -> datetime:
    if isinstance(value, datetime):
        return value
    if isinstance(value, date):
        return datetime(value.year, value.month, value.day, tzinfo=UTC)
    if isinstance(value, str):
        return datetime.fromisoformat(value.strip())
    if isinstance(value, int | float) and not isinstance(value, bool):
        return datetime.fromtimestamp(value, UTC)
    raise TypeError


def _in_utc(value: datetime) -> datetime:
    return value.astimezone(UTC) if value.tzinfo is not None else value.replace(tzinfo=UTC)
