"""Wait for a change that another thread, process or session makes."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable


def until(condition: Callable[[], Any], timeout: float = 30.0) -> Any:
    """Wait until the condition returns a true value, and return this value.

    Fails after ``timeout`` seconds.
    """
    deadline = time.monotonic() + timeout
    while not (found := condition()):
        assert time.monotonic() < deadline, "the condition did not come true in time"
        time.sleep(0.01)
    return found
