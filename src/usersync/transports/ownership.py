"""Whose connection it is, and whose transaction: decided here, and nowhere else.

A connection is usersync's own (opened for a connection string, or taken out of a pool for the time of an
operation) or borrowed. On a borrowed one the transaction is the application's, unless the connection is in
autocommit mode and idle. That is decided while the driver's lock is held, and the statement runs before the
lock is released: other threads and tasks may use the connection at the same time.

In the application's transaction a statement runs in a savepoint, so that its failure leaves the transaction
usable. The savepoint, the statement and the release are one message to the server: a cancelled call cannot
leave a part of them behind.

What is done on the connection is a generator of the driver's kind, which the blocking connection and the
asyncio one both wait for.
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

from usersync.errors import ConnectionFailedError, DatabaseError, UsersyncError
from usersync.transports.steps import BEGIN

if TYPE_CHECKING:
    from psycopg.abc import PQGen

    from usersync.transports.steps import Row, Statement

AnyConnection = psycopg.Connection[Any] | psycopg.AsyncConnection[Any]

_SAVEPOINT = "savepoint usersync"
_RELEASE = "release savepoint usersync"


@dataclass
class _Origin:
    """Where a connection was first used: it cannot be used in another process, or in two event loops."""

    pid: int
    loop: ref[asyncio.AbstractEventLoop] | None


_origins: WeakKeyDictionary[object, _Origin] = WeakKeyDictionary()


def check_origin(shared: object) -> None:
    """Raise ``ConnectionFailedError`` for a connection or a pool of another process or event loop.

    The first call notes where it is used.
    """
    origin = _origins.get(shared)
    loop = _running_loop()
    if origin is None:
        _origins[shared] = _Origin(os.getpid(), ref(loop) if loop else None)
        return
    kind = type(shared).__name__
    if origin.pid != os.getpid():
        raise ConnectionFailedError(
            f"this {kind} was made in process {origin.pid}, and cannot be used in process {os.getpid()}",
            hint="Make it after the fork, or pass a connection string.",
        )
    if loop is None or not _is_tied(shared, origin.loop, loop):
        origin.loop = ref(loop) if loop else origin.loop
        return
    raise ConnectionFailedError(
        f"this {kind} is used in another event loop",
        hint="Make one in each event loop, or pass a connection string.",
    )


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


def _is_tied(shared: object, before: ref[asyncio.AbstractEventLoop] | None, now: object) -> bool:
    """Whether it cannot be used in this loop. A connection can, once the other loop has ended."""
    if before is None or before() is now:
        return False
    earlier = before()
    if isinstance(shared, psycopg.AsyncConnection):
        return earlier is not None and not earlier.is_closed()
    return isinstance(shared, AsyncConnectionPool)


def other_loop(error: RuntimeError) -> ConnectionFailedError:
    """The error for a lock of the driver's that another event loop has waited for."""
    return ConnectionFailedError(
        f"the connection belongs to another event loop: {error}",
        hint="Make one in each event loop, or pass a connection string.",
    )


class Turn:
    """What one operation does on a connection, statement by statement."""

    def __init__(self, connection: AnyConnection) -> None:
        check_origin(connection)
        self._connection = connection
        #: Whether a transaction that the operation began is open. The driver's lock is held meanwhile.
        self.is_open = False
        #: Whether every statement so far was committed when it had run.
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
        """Roll back what the operation began and did not end, because it was interrupted."""
        self.is_open = False
        with suppress(psycopg.Error):
            yield from self._run(psycopg.Cursor, "rollback")

    def _check_joined(self, status: TransactionStatus, statement: Statement) -> None:
        if statement is BEGIN:
            raise UsersyncError(
                "this needs a transaction of its own, and would become part of the application's",
                hint="Pass a connection string, a pool, or a connection in autocommit mode that is idle.",
            )
        if status == TransactionStatus.INERROR:
            raise DatabaseError(
                "the transaction on this connection has failed already (SQLSTATE 25P02)",
                hint="Roll it back, or roll back to a savepoint, and call again.",
                sqlstate="25P02",
            )
        if status == TransactionStatus.ACTIVE:
            raise UsersyncError(
                "the connection is busy: a statement or a COPY of the application has not ended",
                hint="End it first, or pass a connection string.",
            )

    def _nested(self, statement: Statement) -> PQGen[list[Row]]:
        try:
            if self._is_pipelined:
                return (yield from self._one_by_one(statement))
            text = f"{_SAVEPOINT};\n{statement.sql}\n;{_RELEASE}"
            return (yield from self._run(psycopg.ClientCursor, text, statement.params))[-2]
        except Exception:
            # What failed before it was sent has left no savepoint, and no failed transaction.
            yield from self._settle()
            if self._status == TransactionStatus.INERROR:
                yield from self._back_to_savepoint()
            raise

    def _one_by_one(self, statement: Statement) -> PQGen[list[Row]]:
        """A pipeline takes one statement at a time."""
        yield from self._run(psycopg.Cursor, _SAVEPOINT)
        results = yield from self._run(psycopg.Cursor, statement.sql, statement.params)
        yield from self._run(psycopg.Cursor, _RELEASE)
        return results[-1]

    def _settle(self) -> PQGen[None]:
        """In a pipeline: read what is still on its way, or the status is that of before the failure."""
        pipeline: Any = self._connection._pipeline  # noqa: SLF001 - as in _run
        if pipeline is not None:
            with suppress(psycopg.Error):
                yield from pipeline._sync_gen()  # noqa: SLF001

    def _back_to_savepoint(self) -> PQGen[None]:
        with suppress(psycopg.Error):
            yield from self._run(psycopg.Cursor, f"rollback to {_SAVEPOINT}")
            yield from self._run(psycopg.Cursor, _RELEASE)

    def _run(self, kind: type[psycopg.Cursor[Any]], sql: str, params: Any = None) -> PQGen[list[list[Row]]]:
        """Run one message; the rows of each of its statements."""
        connection: Any = self._connection
        cursor = kind(connection, row_factory=dict_row)
        # These two are what execute() and sync() do once they have the driver's lock, which is held here.
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
    """In pipeline mode: wait for the results of what the application has sent so far.

    Raises what its own statements fail with, which is not ours to swallow.
    """
    if connection.info.pipeline_status != PipelineStatus.OFF:
        with connection.pipeline() as pipeline:
            pipeline.sync()


async def settle_async(connection: psycopg.AsyncConnection[Any]) -> None:
    """The same for a connection of asyncio."""
    if connection.info.pipeline_status != PipelineStatus.OFF:
        async with connection.pipeline() as pipeline:
            await pipeline.sync()
