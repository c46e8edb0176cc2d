"""What an asyncio client runs its plans over; see :mod:`usersync.transports.psycopg`."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import psycopg
from psycopg.pq import TransactionStatus
from psycopg_pool import AsyncConnectionPool

from usersync.connecting import check_dsn, connection_failed, is_lost, options_for
from usersync.errors import SettingsError
from usersync.rest import DataApi
from usersync.rest.exchange import converse
from usersync.transports.run import run_async, translate

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from usersync.transports.steps import Plan

T = TypeVar("T")

AsyncSource = str | psycopg.AsyncConnection[Any] | AsyncConnectionPool[Any] | DataApi


class AsyncLink(Protocol):
    """Runs plans, from any task."""

    async def run(self, plan: Plan[T]) -> T: ...

    async def run_apart(self, plan: Plan[T]) -> T: ...

    def room_for(self, workers: int) -> int: ...

    def in_a_transaction(self) -> bool: ...

    async def close(self) -> None: ...


def async_link_to(source: object) -> AsyncLink:
    """The link for whatever a client was made from; raises :class:`SettingsError`."""
    if isinstance(source, str):
        return AsyncAddressLink(check_dsn(source))
    if isinstance(source, psycopg.AsyncConnection):
        return AsyncConnectionLink(source)
    if isinstance(source, AsyncConnectionPool):
        return AsyncPoolLink(source)
    if isinstance(source, DataApi):
        return AsyncApiLink(source)
    raise SettingsError(
        "expected an address, an AsyncConnection, an AsyncConnectionPool or a DataApi; "
        f"got {type(source).__name__}",
        hint="UserSync takes the blocking kinds.",
    )


class AsyncAddressLink:
    def __init__(self, dsn: str) -> None:
        self._dsn = dsn
        self._own: psycopg.AsyncConnection[Any] | None = None
        self._lock = asyncio.Lock()

    async def run(self, plan: Plan[T]) -> T:
        async with self._lock:
            if self._own is None or is_lost(self._own):
                self._own = await connect_async(self._dsn)
            return await run_async(plan, self._own)

    async def run_apart(self, plan: Plan[T]) -> T:
        async with await connect_async(self._dsn) as connection:
            return await run_async(plan, connection)

    def room_for(self, workers: int) -> int:
        return workers

    def in_a_transaction(self) -> bool:
        return False

    async def close(self) -> None:
        async with self._lock:
            if self._own is not None:
                await self._own.close()
                self._own = None


class AsyncConnectionLink:
    def __init__(self, connection: psycopg.AsyncConnection[Any]) -> None:
        self._connection = connection

    async def run(self, plan: Plan[T]) -> T:
        return await run_async(plan, self._connection)

    run_apart = run

    def room_for(self, workers: int) -> int:
        if workers > 1:
            raise SettingsError("several workers need an address or a pool, not one connection")
        return 1

    def in_a_transaction(self) -> bool:
        return self._connection.info.transaction_status != TransactionStatus.IDLE

    async def close(self) -> None:
        """It is the caller's."""


class AsyncPoolLink:
    def __init__(self, pool: AsyncConnectionPool[Any]) -> None:
        self._pool = pool

    async def run(self, plan: Plan[T]) -> T:
        async with _from_pool(self._pool) as connection:
            return await run_async(plan, connection)

    run_apart = run

    def room_for(self, workers: int) -> int:
        return min(workers, self._pool.max_size)

    def in_a_transaction(self) -> bool:
        return False

    async def close(self) -> None:
        """It is the caller's."""


class AsyncApiLink:
    def __init__(self, api: DataApi) -> None:
        from usersync.rest.http import Wire  # noqa: PLC0415 - httpx, which a database can do without

        self._api = api
        self._wire = Wire(api)

    async def run(self, plan: Plan[T]) -> T:
        from usersync.rest.http import drive_async  # noqa: PLC0415 - likewise

        return await drive_async(converse(plan, self._api), self._wire)

    run_apart = run

    def room_for(self, workers: int) -> int:
        return workers

    def in_a_transaction(self) -> bool:
        return False

    async def close(self) -> None:
        await self._wire.close()


@asynccontextmanager
async def _from_pool(pool: AsyncConnectionPool[Any]) -> AsyncIterator[psycopg.AsyncConnection[Any]]:
    try:
        connection = await pool.getconn()
    except psycopg.OperationalError as error:
        raise translate(error) from error
    try:
        yield connection
    finally:
        await pool.putconn(connection)


async def connect_async(dsn: str) -> psycopg.AsyncConnection[Any]:
    """Open a connection the way usersync does; raises :class:`~usersync.errors.ConnectionFailedError`."""
    try:
        return await psycopg.AsyncConnection.connect(dsn, **options_for(dsn))
    except (psycopg.Error, UnicodeError) as error:
        connection_failed(error, dsn)
