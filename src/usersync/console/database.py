"""Runs the operations of pages."""

from __future__ import annotations

import asyncio
from concurrent.futures import Future
from threading import BoundedSemaphore, Thread, local
from typing import TYPE_CHECKING, Any, TypeVar

from usersync.config.dsn import Sealed, describe_target
from usersync.errors import NeedsDatabaseError
from usersync.transports.psycopg import transport_for
from usersync.transports.steps import in_transaction, query

if TYPE_CHECKING:
    from collections.abc import Callable

    from usersync.models import Check
    from usersync.transports.psycopg import Transport
    from usersync.transports.steps import Steps

T = TypeVar("T")

#: The number of pages that read at a time: each takes a connection.
_PAGES = 4


class Database:
    """The database of the console. A connection string gives each page a connection of its own, so a lost
    connection ends one page only.
    """

    def __init__(self, source: Any) -> None:
        self._source = source
        self._transport = transport_for(source)
        self._room = BoundedSemaphore(_PAGES)
        #: ``transport``: that of the page which the thread reads.
        self._page = local()

    @property
    def target(self) -> str:
        """The database's host, port and name, without a password."""
        return describe_target(
            self._source.text if isinstance(self._source, Sealed) else self._source.conninfo
        )

    async def read(self, work: Callable[[], T]) -> T:
        """Call a function that blocks, in a thread. A slow one does not delay the end of the process."""
        done = Future[T]()

        def call() -> None:
            with self._room:
                if not done.set_running_or_notify_cancel():
                    return
                transport = self._page.transport = transport_for(self._source)
                try:
                    done.set_result(work())
                except BaseException as error:  # noqa: BLE001 - raised where the result is awaited
                    done.set_exception(error)
                finally:
                    transport.close()

        # A daemon, unlike the threads of an executor.
        Thread(target=call, name="usersync-console", daemon=True).start()
        return await asyncio.wrap_future(done)

    def run(self, operation: Steps[T]) -> T:
        """Run an operation on the connection of the page, in a function that ``read()`` calls. Blocks."""
        page: Transport = self._page.transport
        return page.run(operation)

    def run_kept(self, operation: Steps[T]) -> T:
        """Run an operation on a connection that stays open for the next one. Blocks."""
        return self._transport.run(operation)

    def close_kept(self) -> None:
        """Close the connection of ``run_kept()``. Does not block."""
        Thread(target=self._transport.close, name="usersync-console", daemon=True).start()

    def run_limited(self, operation: Steps[T], limit_s: float) -> T:
        """Run an operation that only reads, in a transaction whose statements have a time limit. Blocks.

        Raises ``DatabaseError`` with the SQLSTATE 57014 for a statement that takes longer.
        """
        return self.run(in_transaction(_limited(operation, limit_s)))

    def doctor(self) -> tuple[Check, ...]:
        """Run the checks of ``usersync doctor``. Blocks. Raises ``NeedsDatabaseError`` for a pool."""
        from usersync.manage import doctor  # noqa: PLC0415 - only if used

        if not isinstance(self._source, Sealed):
            raise NeedsDatabaseError(
                "the checks need a connection string, and this console has a pool",
                hint="Pass a connection string to console.app(), or run: usersync doctor",
            )
        return doctor(self._source.text)


def _limited(operation: Steps[T], limit_s: float) -> Steps[T]:
    yield from query("set transaction read only")
    yield from query(f"set local statement_timeout = {round(limit_s * 1_000)}")
    return (yield from operation)
