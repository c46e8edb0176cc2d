"""Connecting and closing that no fork can come between.

A child that is born while another thread is inside libpq or SQLite, and has one of their locks or OpenSSL's,
would wait for that lock for ever.
"""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING, Any, TypeVar

import psycopg

if TYPE_CHECKING:
    from collections.abc import Generator

T = TypeVar("T")

#: Held by a thread while it is inside SQLite or libpq, and by a thread that forks. Never held while it
#: waits for the network.
gate = threading.RLock()


class GatedConnection(psycopg.Connection[Any]):
    """A connection whose connecting and closing a fork waits for."""

    @classmethod
    def _connect_gen(cls, *arguments: Any, **options: Any) -> Generator[Any, Any, Any]:
        return _gated(super()._connect_gen(*arguments, **options))

    def close(self) -> None:
        """See psycopg."""
        with gate:
            super().close()


class GatedAsyncConnection(psycopg.AsyncConnection[Any]):
    """The same for asyncio."""

    @classmethod
    def _connect_gen(cls, *arguments: Any, **options: Any) -> Generator[Any, Any, Any]:
        return _gated(super()._connect_gen(*arguments, **options))


def _gated(steps: Generator[Any, Any, T]) -> Generator[Any, Any, T]:
    """The same steps. The gate is shut while one is taken, and open while the next is waited for."""
    ready = None
    try:
        while True:
            with gate:
                wanted = steps.send(ready)
            ready = yield wanted
    except StopIteration as end:
        return end.value  # type: ignore[no-any-return]
    finally:
        with gate:
            steps.close()


os.register_at_fork(before=gate.acquire, after_in_parent=gate.release, after_in_child=gate.release)
