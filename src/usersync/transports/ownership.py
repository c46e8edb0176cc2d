"""Decides who owns a connection and its transaction: usersync or the application.

A connection belongs to usersync (opened for a connection string, or taken from a pool for one operation) or
is borrowed. On a borrowed connection, the transaction belongs to the application, unless the connection is
in autocommit mode and idle. This is decided, and the statement runs, while the driver's lock is held, because
other threads and tasks may use the connection at the same time.

In the application's transaction, a statement runs in a savepoint, so that the transaction stays usable after
a failure. The savepoint, the statement and the release are one message to the server, so that a cancelled
call cannot leave only some of them executed.

The steps are generators in psycopg's protocol, which both blocking and asyncio connections can run.
"""

from __future__ import annotations

import asyncio
import os
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary, ref

import psycopg
from psycopg.pq import PipelineStatus, TransactionStatus
from psycopg.rows import dict_row
from psycopg_pool import AsyncConnectionPool

from usersync.errors import ArgumentValueError, ConnectionFailedError, DatabaseError, UsersyncError
from usersync.transports.steps import BEGIN

if TYPE_CHECKING:
    from psycopg.abc import PQGen

    from usersync.transports.steps import Row, Statement

AnyConnection = psycopg.Connection[Any] | psycopg.AsyncConnection[Any]

_SAVEPOINT = "savepoint usersync"
_RELEASE = "release savepoint usersync"


@dataclass
class _Origin:
    """The process and the event loop of a connection's first use. It cannot be used in others."""

    pid: int
    loop: ref[asyncio.AbstractEventLoop] | None


_origins: WeakKeyDictionary[object, _Origin] = WeakKeyDictionary()


def check_origin(shared: object) -> None:
    """Raise ``ConnectionFailedError`` for a connection or a pool of another process or event loop.

    The first call stores its process and event loop.
    """
    origin = _origins.get(shared)
    loop = _running_loop()
    if origin is None:
        _origins[shared] = _Origin(os.getpid(), ref(loop) if loop else None)
        return
    kind = type(shared).__name__
    if origin.pid != os.getpid():
        raise ConnectionFailedError(
            f"this {kind} was created in process {origin.pid} and cannot be used in process {os.getpid()}",
            hint="Create it after the fork, or pass a connection string.",
        )
    if loop is None or not _is_tied(shared, origin.loop, loop):
        origin.loop = ref(loop) if loop else origin.loop
        return
    raise ConnectionFailedError(
        f"this {kind} is used in another event loop",
        hint="Create one in each event loop, or pass a connection string.",
    )


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


def _is_tied(shared: object, before: ref[asyncio.AbstractEventLoop] | None, now: object) -> bool:
    """Whether it cannot be used in this event loop. A connection can be, after the other loop has ended."""
    if before is None or before() is now:
        return False
    earlier = before()
    if isinstance(shared, psycopg.AsyncConnection):
        return earlier is not None and not earlier.is_closed()
    return isinstance(shared, AsyncConnectionPool)


def other_loop(error: RuntimeError) -> ConnectionFailedError:
    """The error for a driver's lock that was used in another event loop."""
    return ConnectionFailedError(
        f"the connection belongs to another event loop: {error}",
        hint="Create one in each event loop, or pass a connection string.",
    )


def only_one(workers: int) -> int:
    """The number of workers on a single connection. Raises ``SettingsError`` for several."""
    if workers > 1:
        raise ArgumentValueError(
            "several workers require a connection string or a pool, not a single connection"
        )
    return 1


def needs_own_transaction() -> UsersyncError:
    """The error for an operation that commits, on a connection in a transaction of the application."""
    return UsersyncError(
        "this requires a transaction of its own, and the connection is in the application's transaction",
        hint="Pass a connection string, a pool, or an idle connection in autocommit mode.",
    )


class Turn:
    """One operation's use of a connection, statement by statement."""

    def __init__(self, connection: AnyConnection) -> None:
        check_origin(connection)
        self._connection = connection
        #: Whether a transaction that the operation began is open. The driver's lock is held meanwhile.
        self.is_open = False
        #: Whether every statement so far committed by itself.
        self.committed = True

    @property
    def _status(self) -> TransactionStatus:
        return self._connection.info.transaction_status

    @property
    def _is_pipelined(self) -> bool:
        return self._connection.info.pipeline_status != PipelineStatus.OFF

    def steps(self, statement: Statement) -> PQGen[list[Row]]:
        """Run a statement. The driver's lock is held."""
        status = self._status
        if not self.is_open and not (self._connection.autocommit and status == TransactionStatus.IDLE):
            self._check_joined(status, statement)
            self.committed = False
            return (yield from self._nested(statement))
        try:
            own = statement if self.is_open else statement.in_own_transaction()
            return (yield from self._run(psycopg.Cursor, own.sql, own.params))[-1]
        finally:
            self.is_open = self._status not in (TransactionStatus.IDLE, TransactionStatus.UNKNOWN)

    def end(self) -> PQGen[None]:
        """Roll back the transaction of an interrupted operation."""
        self.is_open = False
        with suppress(psycopg.Error):
            yield from self._run(psycopg.Cursor, "rollback")

    def _check_joined(self, status: TransactionStatus, statement: Statement) -> None:
        if statement is BEGIN:
            raise needs_own_transaction()
        if status == TransactionStatus.INERROR:
            raise DatabaseError(
                "the transaction on this connection has failed already (SQLSTATE 25P02)",
                hint="Roll back the transaction, or roll back to a savepoint. Then call again.",
                sqlstate="25P02",
            )
        if status == TransactionStatus.ACTIVE:
            raise UsersyncError(
                "the connection is busy: a statement or a COPY of the application has not ended",
                hint="Wait until it has ended, or pass a connection string.",
            )

    def _nested(self, statement: Statement) -> PQGen[list[Row]]:
        try:
            if self._is_pipelined:
                return (yield from self._one_by_one(statement))
            text = f"{_SAVEPOINT};\n{statement.sql}\n;{_RELEASE}"
            return (yield from self._run(psycopg.ClientCursor, text, statement.params))[-2]
        except Exception:
            # A statement that failed before it was sent has left neither a savepoint nor a failed
            # transaction.
            yield from self._settle()
            if self._status == TransactionStatus.INERROR:
                yield from self._back_to_savepoint()
            raise

    def _one_by_one(self, statement: Statement) -> PQGen[list[Row]]:
        """In a pipeline, a message can contain only one statement."""
        yield from self._run(psycopg.Cursor, _SAVEPOINT)
        results = yield from self._run(psycopg.Cursor, statement.sql, statement.params)
        yield from self._run(psycopg.Cursor, _RELEASE)
        return results[-1]

    def _settle(self) -> PQGen[None]:
        """In a pipeline: read the outstanding results. Until then, the status does not show the failure."""
        pipeline: Any = self._connection._pipeline  # noqa: SLF001 - as in _run
        if pipeline is not None:
            with suppress(psycopg.Error):
                yield from pipeline._sync_gen()  # noqa: SLF001

    def _back_to_savepoint(self) -> PQGen[None]:
        with suppress(psycopg.Error):
            yield from self._run(psycopg.Cursor, f"rollback to {_SAVEPOINT}")
            yield from self._run(psycopg.Cursor, _RELEASE)

    def _run(self, kind: type[psycopg.Cursor[Any]], sql: str, params: Any = None) -> PQGen[list[list[Row]]]:
        """Run one message, and return the rows of each of its statements."""
        connection: Any = self._connection
        cursor = kind(connection, row_factory=dict_row)
        # execute() and sync() call these two generators after taking the driver's lock, which is held here.
        yield from cursor._execute_gen(sql.encode(connection.info.encoding), params, prepare=False)  # noqa: SLF001
        if connection._pipeline is not None:  # noqa: SLF001
            yield from connection._pipeline._sync_gen()  # noqa: SLF001
        results = [_rows(cursor)]
        while cursor.nextset():
            results.append(_rows(cursor))
        return results


def _rows(cursor: psycopg.Cursor[Any]) -> list[Row]:
    return cursor.fetchall() if cursor.description else []


def settle(connection: psycopg.Connection[Any]) -> None:
    """In pipeline mode: wait for the results of the application's statements so far, and raise their
    errors.
    """
    if connection.info.pipeline_status != PipelineStatus.OFF:
        with connection.pipeline() as pipeline:
            pipeline.sync()


async def settle_async(connection: psycopg.AsyncConnection[Any]) -> None:
    """``settle()`` for asyncio."""
    if connection.info.pipeline_status != PipelineStatus.OFF:
        async with connection.pipeline() as pipeline:
            await pipeline.sync()
