"""Work that nobody may have to wait for."""

from __future__ import annotations

import threading
from concurrent.futures import Future
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")


def in_thread(work: Callable[[], T]) -> Future[T]:
    """Run ``work`` in a thread of its own; returns at once.

    Unlike an executor's, the thread holds up neither the end of the interpreter nor work that is begun
    later, and a waiter who gives up or is cancelled does not cancel it for the others. Raises
    :class:`RuntimeError` if there is no thread to be had.
    """
    future: Future[T] = Future()
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
