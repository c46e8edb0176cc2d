"""The connection of a transactional handler, blocking or of asyncio."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import psycopg

from usersync.transports.psycopg import connect
from usersync.transports.psycopg_async import connect_async
from usersync.transports.run import run, run_async

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from contextlib import AbstractAsyncContextManager

    from usersync.transports.steps import Steps

T = TypeVar("T")


class Session(Protocol):
    """A connection of its own. It is used in the lane's thread only."""

    @property
    def connection(self) -> psycopg.Connection[Any] | psycopg.AsyncConnection[Any]:
        """What the handler gets."""

    def transaction(self) -> AbstractAsyncContextManager[None]:
        """A transaction, or in a transaction a savepoint. ``psycopg.Rollback`` undoes it."""

    async def run(self, operation: Steps[T]) -> T:
        """Run an operation as part of the transaction."""

    async def close(self) -> None: ...


class BlockingSession:
    """For blocking handlers."""

    def __init__(self, dsn: str) -> None:
        self.connection = connect(dsn)
        # The database may have another default.
        self.connection.isolation_level = psycopg.IsolationLevel.READ_COMMITTED

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[None]:
        with self.connection.transaction():
            yield

    async def run(self, operation: Steps[T]) -> T:
        return run(operation, self.connection)

    async def close(self) -> None:
        self.connection.close()


class AsyncSession:
    """For async handlers."""

    def __init__(self, connection: psycopg.AsyncConnection[Any]) -> None:
        self.connection = connection

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[None]:
        async with self.connection.transaction():
            yield

    async def run(self, operation: Steps[T]) -> T:
        return await run_async(operation, self.connection)

    async def close(self) -> None:
        await self.connection.close()


async def open_session(dsn: str, *, is_async: bool) -> Session:
    """Open the connection. Raises ``ConnectionFailedError``."""
    if not is_async:
        return BlockingSession(dsn)
    connection = await connect_async(dsn)
    await connection.set_isolation_level(psycopg.IsolationLevel.READ_COMMITTED)
    return AsyncSession(connection)
