"""Drives a plan over a connection, blocking or with asyncio, and says in our words what went wrong.

The two drivers differ in ``await`` and in nothing else; what they share is below them.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import asynccontextmanager, contextmanager, nullcontext, suppress
from typing import TYPE_CHECKING, Any, TypeVar

import psycopg
from psycopg.pq import TransactionStatus
from psycopg.rows import dict_row
from psycopg_pool import PoolTimeout, TooManyRequests

from usersync.errors import (
    ConnectionFailedError,
    UsersyncError,
    refused,
)
from usersync.transports.steps import BEGIN, Pause, Plan, Statement

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

T = TypeVar("T")

_CANCEL_TIMEOUT_S = 2.0


def run(plan: Plan[T], connection: psycopg.Connection[Any]) -> T:
    """Drive ``plan`` to its end and return its result. Blocks.

    On a connection that is in a transaction, each statement runs in a savepoint, so that a failure leaves
    the caller's transaction usable. On an idle one, each statement commits by itself. Raises
    :class:`UsersyncError`.
    """
    with _settled(connection) as nested:
        try:
            step = next(plan)
            while True:
                try:
                    rows = _execute(step, connection, nested=nested)
                except psycopg.Error as error:
                    step = plan.throw(translate(error))
                else:
                    step = plan.send(rows)
        except StopIteration as end:
            return end.value  # type: ignore[no-any-return]
        finally:
            plan.close()


def _execute(step: Statement | Pause, connection: psycopg.Connection[Any], *, nested: bool) -> list[Any]:
    if isinstance(step, Pause):
        time.sleep(step.seconds)
        return []
    if nested:
        _refuse_begin(step)
    savepoint = connection.transaction() if nested else nullcontext()
    with savepoint, connection.cursor(row_factory=dict_row) as cursor:
        cursor.execute(step.sql.encode(connection.info.encoding), step.params, prepare=False)
        while cursor.nextset():  # of several statements, it is the last one's rows that count
            pass
        return cursor.fetchall() if cursor.description else []


@contextmanager
def _settled(connection: psycopg.Connection[Any]) -> Iterator[bool]:
    """Yield whether the connection is in a transaction; if not, have each statement commit meanwhile."""
    if not _is_idle(connection):
        yield True
        return
    autocommit = connection.autocommit
    connection.autocommit = True
    try:
        yield False
    finally:
        if _is_active(connection):
            # Interrupted between sending a statement and reading its answer: of no more use to anybody.
            with suppress(psycopg.Error):
                connection.cancel_safe(timeout=_CANCEL_TIMEOUT_S)
            connection.close()
        if not connection.closed:
            # A plan that was interrupted may have left a transaction open.
            if not _is_idle(connection):
                connection.rollback()
            connection.autocommit = autocommit


async def run_async(plan: Plan[T], connection: psycopg.AsyncConnection[Any]) -> T:
    """Drive ``plan`` to its end and return its result; see :func:`run`."""
    async with _settled_async(connection) as nested:
        try:
            step = next(plan)
            while True:
                try:
                    rows = await _execute_async(step, connection, nested=nested)
                except psycopg.Error as error:
                    step = plan.throw(translate(error))
                else:
                    step = plan.send(rows)
        except StopIteration as end:
            return end.value  # type: ignore[no-any-return]
        finally:
            plan.close()


async def _execute_async(
    step: Statement | Pause, connection: psycopg.AsyncConnection[Any], *, nested: bool
) -> list[Any]:
    if isinstance(step, Pause):
        await asyncio.sleep(step.seconds)
        return []
    if nested:
        _refuse_begin(step)
    savepoint = connection.transaction() if nested else nullcontext()
    async with savepoint, connection.cursor(row_factory=dict_row) as cursor:
        await cursor.execute(step.sql.encode(connection.info.encoding), step.params, prepare=False)
        while cursor.nextset():
            pass
        return await cursor.fetchall() if cursor.description else []


@asynccontextmanager
async def _settled_async(connection: psycopg.AsyncConnection[Any]) -> AsyncIterator[bool]:
    if not _is_idle(connection):
        yield True
        return
    autocommit = connection.autocommit
    await connection.set_autocommit(True)
    try:
        yield False
    finally:
        if _is_active(connection):
            with suppress(psycopg.Error):
                await connection.cancel_safe(timeout=_CANCEL_TIMEOUT_S)
            await connection.close()
        if not connection.closed:
            if not _is_idle(connection):
                await connection.rollback()
            await connection.set_autocommit(autocommit)


def _is_idle(connection: psycopg.Connection[Any] | psycopg.AsyncConnection[Any]) -> bool:
    return connection.info.transaction_status == TransactionStatus.IDLE


def _is_active(connection: psycopg.Connection[Any] | psycopg.AsyncConnection[Any]) -> bool:
    return connection.info.transaction_status == TransactionStatus.ACTIVE


def _refuse_begin(step: Statement) -> None:
    if step is BEGIN:
        raise UsersyncError(
            "this needs a transaction of its own, and the connection is in one already",
            hint="Commit or roll back first, or pass a connection of its own.",
        )


def translate(error: psycopg.Error) -> UsersyncError:
    """Our error for one of the driver's, which stays reachable as ``__cause__``.

    DETAIL is left out: it quotes values, e-mail addresses among them. An error of the driver's that has one
    is only reachable as ``__context__``, because tracebacks show a cause in full.
    """
    ours = _translated(error)
    if error.diag.message_detail:
        ours.__suppress_context__ = True
    else:
        ours.__cause__ = error
    return ours


def _translated(error: psycopg.Error) -> UsersyncError:
    state, message = error.sqlstate, (error.diag.message_primary or str(error)).strip()
    if isinstance(error, PoolTimeout | TooManyRequests):
        return ConnectionFailedError(
            f"the pool had no connection to give: {message}",
            hint="Make it larger, or look for what holds its connections.",
        )
    if _is_connection_failure(error):
        return ConnectionFailedError(
            f"the database connection failed: {message}", hint="Check the server, and try again."
        )
    return refused(state, message, error.diag.message_hint)


def _is_connection_failure(error: psycopg.Error) -> bool:
    if error.sqlstate is None:
        return isinstance(error, psycopg.OperationalError)
    # 57P01 to 57P05: the server shuts down, starts up, or ended the session.
    return error.sqlstate[:2] == "08" or error.sqlstate[:4] == "57P0"
