"""Prevents a fork while another thread connects or closes.

A child process that was forked while another thread held a lock of libpq, SQLite or OpenSSL would wait for
that lock for ever.
"""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING, Any, TypeVar

import psycopg

if TYPE_CHECKING:
    from collections.abc import Generator

T = TypeVar("T")

#: Held by a thread that runs code of SQLite or libpq, and by a thread that forks. Never held during a wait
#: for the network.
gate = threading.RLock()


class GatedConnection(psycopg.Connection[Any]):
    """A connection that holds the gate while it connects or closes, so that a fork waits."""

    @classmethod
    def _connect_gen(cls, *arguments: Any, **options: Any) -> Generator[Any, Any, Any]:
        return _gated(super()._connect_gen(*arguments, **options))

    def close(self) -> None:
        """See psycopg."""
        with gate:
            super().close()


class GatedAsyncConnection(psycopg.AsyncConnection[Any]):
    """``GatedConnection`` for asyncio."""

    @classmethod
    def _connect_gen(cls, *arguments: Any, **options: Any) -> Generator[Any, Any, Any]:
        return _gated(super()._connect_gen(*arguments, **options))


def _gated(steps: Generator[Any, Any, T]) -> Generator[Any, Any, T]:
    """Run the steps. The gate is held during each step, and released between two steps."""
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


if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(before=gate.acquire, after_in_parent=gate.release, after_in_child=gate.release)
