"""Work that nobody may have to wait for longer than they want to, blocking and with asyncio.

What waits is written once, as a generator that yields the futures it waits for. Either driver gives up on a
future after a while and goes on; the work itself goes on too, and its result serves whoever comes next.
"""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import Future, wait
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

T = TypeVar("T")


def in_thread(work: Callable[[], T]) -> Future[T]:
    """Run ``work`` in a thread of its own; returns at once.

    Unlike an executor's, the thread holds up neither the end of the interpreter nor work that is begun
    later. Raises ``RuntimeError`` if there is no thread to be had.
    """
    future: Future[T] = Future()
    # From here on nobody who waits can cancel it for the others.
    future.set_running_or_notify_cancel()

    def run() -> None:
        try:
            result = work()
        except BaseException as error:  # noqa: BLE001 - it is the waiters' to see
            future.set_exception(error)
        else:
            future.set_result(result)

    threading.Thread(target=run, name="usersync-background", daemon=True).start()
    return future


def drive(steps: Generator[Future[Any], None, T], timeout: float) -> T:
    """Run ``steps`` to their end, waiting for each future for ``timeout`` seconds at the most. Blocks."""
    try:
        while True:
            wait([next(steps)], timeout=timeout)
    except StopIteration as end:
        return end.value  # type: ignore[no-any-return]


async def drive_async(steps: Generator[Future[Any], None, T], timeout: float) -> T:  # noqa: ASYNC109
    """``drive()`` for asyncio."""
    try:
        while True:
            # wait() and not wait_for(): giving up, or being cancelled, must not cancel what others wait for.
            waited_for = asyncio.wrap_future(next(steps))
            waited_for.add_done_callback(seen)
            await asyncio.wait([waited_for], timeout=timeout)
    except StopIteration as end:
        return end.value  # type: ignore[no-any-return]


def seen(future: asyncio.Future[Any]) -> None:
    """Mark the error as seen: the waiters find it in the concurrent future, and asyncio need not log it."""
    if not future.cancelled():
        future.exception()
