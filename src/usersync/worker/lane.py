"""The thread and the event loop in which the events of one subscription are handled."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import TimeoutError as StillRunning
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

T = TypeVar("T")

_LOOK_S = 0.25


class OverdueError(Exception):
    """The lane hangs: a blocking function does not return."""


class Lane:
    """Runs coroutines, one at a time. If a blocking function in one hangs, the thread is left alone."""

    def __init__(self, name: str) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._serve, name=f"usersync {name}", daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_forever()
        finally:
            self._loop.close()

    def run(self, work: Coroutine[Any, Any, T], is_overdue: Callable[[], bool] = lambda: False) -> T:
        """Run to the end. Raises ``OverdueError`` when ``is_overdue()`` is true; then leave the lane."""
        running = asyncio.run_coroutine_threadsafe(work, self._loop)
        while True:
            try:
                return running.result(_LOOK_S)
            except StillRunning:
                if running.done():
                    raise
                if is_overdue():
                    raise OverdueError from None

    @property
    def is_alive(self) -> bool:
        """Whether the thread still runs."""
        return self._thread.is_alive()

    def leave(self) -> None:
        """End the thread when the work in hand ends, if it ever does. Does not wait."""
        self._loop.call_soon_threadsafe(self._loop.stop)
