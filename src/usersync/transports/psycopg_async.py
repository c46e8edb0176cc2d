"""The transports of asyncio clients; see ``usersync.transports.psycopg``."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import psycopg
from psycopg.pq import TransactionStatus
from psycopg_pool import AsyncConnectionPool

from usersync.config.dsn import (
    PIN_DATES,
    Sealed,
    check_dsn,
    connection_failed,
    connection_options,
    is_iso,
    is_lost,
    opened_async,
    sealed,
)
from usersync.errors import ArgumentTypeError
from usersync.transports import drivers
from usersync.transports.data_api import DataApi
from usersync.transports.data_api.exchange import run_over_api
from usersync.transports.fork_gate import GatedAsyncConnection
from usersync.transports.ownership import check_origin, only_one
from usersync.transports.processes import leave_alone, renew_in_child
from usersync.transports.run import run_async, run_reporting_commit_async, translate

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from usersync.transports.steps import Steps

T = TypeVar("T")

AsyncSource = (
    str
    | psycopg.AsyncConnection[Any]
    | AsyncConnectionPool[Any]
    | DataApi
    | drivers.AsyncpgConnection
    | drivers.AsyncpgPool
    | drivers.AsyncSqlAlchemyConnection
    | drivers.AsyncSqlExecutor
)


class AsyncTransport(Protocol):
    """Runs operations, from any task."""

    async def run(self, operation: Steps[T]) -> T: ...

    async def run_separately(self, operation: Steps[T]) -> T: ...

    def parallelism(self, workers: int) -> int: ...

    async def run_reporting_commit(self, operation: Steps[T]) -> tuple[T, bool]: ...

    async def close(self) -> None: ...


def async_transport_for(source: object) -> AsyncTransport:
    """The transport for the ``source`` of a client. Raises ``SettingsError``."""
    source = sealed(source)
    if isinstance(source, Sealed):
        return AsyncDsnTransport(source)
    if isinstance(source, psycopg.AsyncConnection):
        return AsyncConnectionTransport(source)
    if isinstance(source, AsyncConnectionPool):
        return AsyncPoolTransport(source)
    if isinstance(source, DataApi):
        return AsyncApiTransport(source)
    if drivers.is_async(source):
        return drivers.AsyncCallTransport(source)
    raise ArgumentTypeError(
        "AsyncUserSync takes a connection string, an AsyncConnection or a pool of psycopg, a connection or a "
        "pool of asyncpg, an AsyncConnection or AsyncSession of SQLAlchemy, or a DataApi, not "
        f"{drivers.full_name(type(source))}",
        hint="For blocking connections, use UserSync. For other drivers, write an AsyncSqlExecutor.",
    )


class AsyncDsnTransport:
    """One connection for each event loop, because connections and locks cannot be shared by event loops."""

    def __init__(self, dsn: Sealed) -> None:
        self._dsn = Sealed(check_dsn(dsn))
        self._slots: dict[asyncio.AbstractEventLoop, _Slot] = {}
        renew_in_child(self)

    async def run(self, operation: Steps[T]) -> T:
        slot = self._slot()
        async with slot.lock:
            if slot.connection is None or is_lost(slot.connection):
                slot.connection = await connect_async(self._dsn)
            return await run_async(operation, slot.connection)

    async def run_reporting_commit(self, operation: Steps[T]) -> tuple[T, bool]:
        return await self.run(operation), True

    async def run_separately(self, operation: Steps[T]) -> T:
        async with await connect_async(self._dsn) as connection:
            return await run_async(operation, connection)

    def parallelism(self, workers: int) -> int:
        return workers

    async def close(self) -> None:
        slot = self._slot()
        async with slot.lock:
            if slot.connection is not None:
                await slot.connection.close()
                slot.connection = None

    def forget(self) -> None:
        """Called in a forked process, which opens its own connections."""
        slots, self._slots = self._slots, {}
        for connection in (slot.connection for slot in slots.values()):
            if connection is not None:
                leave_alone(connection, [] if connection.closed else [connection.fileno()])

    def _slot(self) -> _Slot:
        self.close_ended()
        return self._slots.setdefault(asyncio.get_running_loop(), _Slot())

    def close_ended(self) -> None:
        """Close the connections of ended event loops."""
        for loop in [each for each in tuple(self._slots) if each.is_closed()]:
            ended = self._slots.pop(loop, None)
            if ended is not None and ended.connection is not None:
                ended.connection.pgconn.finish()


class _Slot:
    def __init__(self) -> None:
        self.lock = asyncio.Lock()
        self.connection: psycopg.AsyncConnection[Any] | None = None


class AsyncConnectionTransport:
    def __init__(self, connection: psycopg.AsyncConnection[Any]) -> None:
        check_origin(connection)
        self._connection = connection

    async def run(self, operation: Steps[T]) -> T:
        return await run_async(operation, self._connection)

    run_separately = run

    async def run_reporting_commit(self, operation: Steps[T]) -> tuple[T, bool]:
        return await run_reporting_commit_async(operation, self._connection)

    def parallelism(self, workers: int) -> int:
        return only_one(workers)

    async def close(self) -> None:
        """Leave it open: it belongs to the application."""


class AsyncPoolTransport:
    def __init__(self, pool: AsyncConnectionPool[Any]) -> None:
        check_origin(pool)
        self._pool = pool

    async def run(self, operation: Steps[T]) -> T:
        async with _from_pool(self._pool) as connection:
            return await run_async(operation, connection)

    run_separately = run

    async def run_reporting_commit(self, operation: Steps[T]) -> tuple[T, bool]:
        return await self.run(operation), True

    def parallelism(self, workers: int) -> int:
        return min(workers, self._pool.max_size)

    async def close(self) -> None:
        """Leave it open: it belongs to the application."""


class AsyncApiTransport:
    def __init__(self, api: DataApi) -> None:
        from usersync.transports.data_api.http import HttpClient  # noqa: PLC0415 - httpx, which a database can do without

        self._api = api
        self._http = HttpClient(api)

    async def run(self, operation: Steps[T]) -> T:
        from usersync.transports.data_api.http import drive_async  # noqa: PLC0415 - likewise

        return await drive_async(run_over_api(operation, self._api), self._http)

    run_separately = run

    async def run_reporting_commit(self, operation: Steps[T]) -> tuple[T, bool]:
        return await self.run(operation), True

    def parallelism(self, workers: int) -> int:
        return workers

    async def close(self) -> None:
        await self._http.close()


@asynccontextmanager
async def _from_pool(pool: AsyncConnectionPool[Any]) -> AsyncIterator[psycopg.AsyncConnection[Any]]:
    check_origin(pool)
    try:
        connection = await pool.getconn()
    except psycopg.OperationalError as error:
        raise translate(error) from error
    autocommit = connection.autocommit
    try:
        await connection.set_autocommit(True)
        yield connection
    finally:
        if connection.info.transaction_status == TransactionStatus.IDLE:
            await connection.set_autocommit(autocommit)
        await pool.putconn(connection)


async def connect_async(dsn: str | Sealed) -> psycopg.AsyncConnection[Any]:
    """Open a connection with usersync's options. Raises ``ConnectionFailedError``."""
    dsn = dsn if isinstance(dsn, Sealed) else Sealed(dsn)
    try:
        connection = await opened_async(GatedAsyncConnection.connect, dsn, connection_options())
        if not is_iso(connection):
            await connection.execute(PIN_DATES, [connection.info.backend_pid])
    except (psycopg.Error, UnicodeError) as error:
        connection_failed(error, dsn)
    return connection
