"""A clock that goes on while the machine sleeps, for leases."""

from __future__ import annotations

import time

_ID = getattr(time, "CLOCK_BOOTTIME", None)


def now() -> float:
    """Seconds since some moment. Never goes back, and on Linux counts the time of a suspended machine."""
    return time.monotonic() if _ID is None else time.clock_gettime(_ID)
