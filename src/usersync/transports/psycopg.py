"""The transports of blocking clients: a connection string, a connection, a pool, or the Data API.

``usersync.transports.psycopg_async`` has those for asyncio.
"""

from __future__ import annotations

from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import psycopg
from psycopg.pq import TransactionStatus
from psycopg_pool import ConnectionPool

from usersync.config.dsn import (
    PIN_DATES,
    Sealed,
    check_dsn,
    connection_failed,
    connection_options,
    describe_host,
    is_iso,
    is_lost,
    look_up_dsn,
    no_dsn,
    opened,
    sealed,
    warn_of_other_databases,
)
from usersync.config.environment import look_up
from usersync.errors import ArgumentTypeError
from usersync.transports.data_api import DataApi
from usersync.transports.data_api.api import KEY_VARIABLES, OTHER_KEY_VARIABLES, URL_VARIABLE
from usersync.transports.data_api.exchange import run_over_api
from usersync.transports.drivers import full_name
from usersync.transports.fork_gate import GatedConnection
from usersync.transports.ownership import check_origin, only_one
from usersync.transports.processes import ForkSafeLock, leave_alone, renew_in_child
from usersync.transports.run import run, run_reporting_commit, translate

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from usersync.transports.steps import Steps

T = TypeVar("T")

_CANCEL_TIMEOUT_S = 2.0

Source = str | psycopg.Connection[Any] | ConnectionPool[Any] | DataApi


def find_source(*, directory: Path | None = None) -> str | DataApi:
    """The connection string from the environment if there is one, else the Data API. Raises
    ``SettingsError``.

    A connection string has priority, because it supports every operation.
    """
    if found := look_up_dsn(directory=directory):
        warn_of_other_databases(directory)
        return check_dsn(found.value, found.variable)
    # Not for the URL alone: it may be set only to verify access tokens.
    has_other_key = look_up(URL_VARIABLE, directory=directory) and look_up(
        *OTHER_KEY_VARIABLES, directory=directory
    )
    if has_other_key or look_up(*KEY_VARIABLES, directory=directory):
        warn_of_other_databases(directory)
        return DataApi.from_env(directory=directory)
    raise no_dsn(
        "neither SUPABASE_DB_URL or DATABASE_URL, nor SUPABASE_URL with SUPABASE_SECRET_KEY,", directory
    )


def has_source() -> bool:
    """Whether the environment names a database or a key, which may still be invalid."""
    return bool(look_up_dsn() or look_up(*KEY_VARIABLES, *OTHER_KEY_VARIABLES))


class Transport(Protocol):
    """Runs operations, from any thread."""

    def run(self, operation: Steps[T]) -> T:
        """Run an operation and return its result. Blocks."""

    def run_reporting_commit(self, operation: Steps[T]) -> tuple[T, bool]:
        """``run()``. Also returns whether the result is committed, so that no later rollback can undo it."""

    def run_separately(self, operation: Steps[T]) -> T:
        """``run()`` for a long operation: on a separate connection if possible, so that other calls do not
        wait.
        """

    def parallelism(self, workers: int) -> int:
        """The number of workers that can run in parallel. Raises ``SettingsError`` if only one can."""

    def close(self) -> None:
        """Close the connections that the transport has opened."""


def transport_for(source: object) -> Transport:
    """The transport for the ``source`` of a client. Raises ``SettingsError``."""
    source = sealed(source)
    if isinstance(source, Sealed):
        return DsnTransport(source)
    if isinstance(source, psycopg.Connection):
        return ConnectionTransport(source)
    if isinstance(source, ConnectionPool):
        return PoolTransport(source)
    if isinstance(source, DataApi):
        return ApiTransport(source)
    raise ArgumentTypeError(
        "UserSync takes a connection string, a Connection or a ConnectionPool of psycopg, or a DataApi, not "
        f"{full_name(type(source))}",
        hint="For connections of asyncio, use AsyncUserSync.",
    )


def describe_source(source: object) -> str:
    """The source of a client for people, without a password."""
    if isinstance(source, Sealed):
        return describe_host(source.text)
    if isinstance(source, DataApi):
        return source.host
    return full_name(type(source))


class DsnTransport:
    """One connection, opened at the first call and reopened after it was lost."""

    def __init__(self, dsn: Sealed) -> None:
        self._dsn = Sealed(check_dsn(dsn))
        self._own: psycopg.Connection[Any] | None = None
        self._lock = ForkSafeLock()
        renew_in_child(self)

    def run(self, operation: Steps[T]) -> T:
        with self._lock:
            if self._own is None or is_lost(self._own):
                self._own = connect(self._dsn)
            try:
                return run(operation, self._own)
            finally:
                self._drop_interrupted(self._own)

    def run_reporting_commit(self, operation: Steps[T]) -> tuple[T, bool]:
        return self.run(operation), True

    def run_separately(self, operation: Steps[T]) -> T:
        with connect(self._dsn) as connection:
            return run(operation, connection)

    def parallelism(self, workers: int) -> int:
        return workers

    def close(self) -> None:
        with self._lock:
            if self._own is not None:
                self._own.close()
                self._own = None

    def _drop_interrupted(self, connection: psycopg.Connection[Any]) -> None:
        """After Ctrl-C between a statement and its answer: cancel the statement, close the connection."""
        if connection.info.transaction_status == TransactionStatus.ACTIVE:
            with suppress(psycopg.Error):
                connection.cancel_safe(timeout=_CANCEL_TIMEOUT_S)
            connection.close()

    def forget(self) -> None:
        """Called in a forked process, which opens its own connection."""
        own, self._own = self._own, None
        if own is not None:
            leave_alone(own, [] if own.closed else [own.fileno()])


class ConnectionTransport:
    """A connection of the application, which may be in a transaction."""

    def __init__(self, connection: psycopg.Connection[Any]) -> None:
        check_origin(connection)
        self._connection = connection

    def run(self, operation: Steps[T]) -> T:
        return run(operation, self._connection)

    run_separately = run

    def run_reporting_commit(self, operation: Steps[T]) -> tuple[T, bool]:
        return run_reporting_commit(operation, self._connection)

    def parallelism(self, workers: int) -> int:
        return only_one(workers)

    def close(self) -> None:
        """Leave the connection open: it belongs to the application."""


class PoolTransport:
    """A pool of the application."""

    def __init__(self, pool: ConnectionPool[Any]) -> None:
        check_origin(pool)
        self._pool = pool

    def run(self, operation: Steps[T]) -> T:
        with _from_pool(self._pool) as connection:
            return run(operation, connection)

    run_separately = run

    def run_reporting_commit(self, operation: Steps[T]) -> tuple[T, bool]:
        return self.run(operation), True

    def parallelism(self, workers: int) -> int:
        # A worker keeps its connection, so more workers than connections would wait for ever.
        return min(workers, self._pool.max_size)

    def close(self) -> None:
        """Leave the pool open: it belongs to the application."""


class ApiTransport:
    """The Data API."""

    def __init__(self, api: DataApi) -> None:
        from usersync.transports.data_api.http import BlockingHttpClient  # noqa: PLC0415 - httpx, which a database can do without

        self._api = api
        self._http = BlockingHttpClient(api)

    def run(self, operation: Steps[T]) -> T:
        return self._http.drive(run_over_api(operation, self._api))

    run_separately = run

    def run_reporting_commit(self, operation: Steps[T]) -> tuple[T, bool]:
        return self.run(operation), True

    def parallelism(self, workers: int) -> int:
        return workers

    def close(self) -> None:
        self._http.close()


@contextmanager
def _from_pool(pool: ConnectionPool[Any]) -> Iterator[psycopg.Connection[Any]]:
    """A connection of a pool, in autocommit mode until it is returned."""
    check_origin(pool)
    try:
        connection = pool.getconn()
    except psycopg.OperationalError as error:
        raise translate(error) from error
    autocommit = connection.autocommit
    try:
        connection.autocommit = True
        yield connection
    finally:
        if connection.info.transaction_status == TransactionStatus.IDLE:
            connection.autocommit = autocommit
        pool.putconn(connection)


def connect(dsn: str | Sealed) -> psycopg.Connection[Any]:
    """Open a connection with usersync's options. Raises ``ConnectionFailedError``."""
    dsn = dsn if isinstance(dsn, Sealed) else Sealed(dsn)
    try:
        connection: psycopg.Connection[Any] = opened(GatedConnection.connect, dsn, connection_options())
        if not is_iso(connection):
            connection.execute(PIN_DATES, [connection.info.backend_pid])
    except (psycopg.Error, UnicodeError) as error:
        connection_failed(error, dsn)
    return connection
