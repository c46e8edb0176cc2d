"""Background work with a limited wait, blocking and with asyncio.

A caller is a generator that yields the futures that it waits for. Both drivers stop waiting for a future
after a time-out. The work continues, and later callers use its result.
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
    """Run ``work`` in a new thread; returns at once.

    Unlike an executor's thread, it delays neither the exit of the interpreter nor later work. Raises
    ``RuntimeError`` if no thread can be started.
    """
    future: Future[T] = Future()
    # From here on no caller can cancel it for the others.
    future.set_running_or_notify_cancel()

    def run() -> None:
        try:
            result = work()
        except BaseException as error:  # noqa: BLE001 - the callers get it from the future
            future.set_exception(error)
        else:
            future.set_result(result)

    threading.Thread(target=run, name="usersync-background", daemon=True).start()
    return future


def drive(steps: Generator[Future[Any], None, T], timeout: float) -> T:
    """Run ``steps`` to their end, waiting at most ``timeout`` seconds for each future. Blocks."""
    try:
        while True:
            wait([next(steps)], timeout=timeout)
    except StopIteration as end:
        return end.value  # type: ignore[no-any-return]


async def drive_async(steps: Generator[Future[Any], None, T], timeout: float) -> T:  # noqa: ASYNC109
    """``drive()`` for asyncio."""
    try:
        while True:
            # wait(), not wait_for(): a time-out or a cancellation must not cancel the work for other callers.
            waited_for = asyncio.wrap_future(next(steps))
            waited_for.add_done_callback(seen)
            await asyncio.wait([waited_for], timeout=timeout)
    except StopIteration as end:
        return end.value  # type: ignore[no-any-return]


def seen(future: asyncio.Future[Any]) -> None:
    """Retrieve the error so that asyncio does not log it: callers get it from the concurrent future."""
    if not future.cancelled():
        future.exception()
