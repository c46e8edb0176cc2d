"""Runs an operation on a connection, blocking or with asyncio, and translates the driver's errors.

The two variants differ only in ``await``. Their common code is in ``usersync.transports.ownership``.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any, Self, TypeVar

import psycopg
from psycopg_pool import PoolTimeout, TooManyRequests

from usersync.errors import ConnectionFailedError, UsersyncError, error_for_sqlstate
from usersync.transports.ownership import Turn, other_loop, settle, settle_async
from usersync.transports.steps import Pause, Statement, Steps, report_wait

if TYPE_CHECKING:
    from usersync.transports.steps import Row

T = TypeVar("T")


def run(operation: Steps[T], connection: psycopg.Connection[Any]) -> T:
    """Run ``operation`` and return its result. Blocks.

    In a transaction of the application, each statement runs in a savepoint, so that the transaction stays
    usable after a failure. Otherwise each statement commits by itself. Raises ``UsersyncError``, and in
    pipeline mode also errors of the application's own statements.
    """
    return run_reporting_commit(operation, connection)[0]


def run_reporting_commit(operation: Steps[T], connection: psycopg.Connection[Any]) -> tuple[T, bool]:
    """``run()``. Also returns whether the result is committed, so that no later rollback can undo it."""
    with _Blocking(connection) as driver:
        settle(connection)
        try:
            step = next(operation)
            while True:
                try:
                    rows = driver.take(step)
                except psycopg.Error as error:
                    step = operation.throw(translate(error))
                else:
                    step = operation.send(rows)
        except StopIteration as end:
            return end.value, driver.turn.committed
        finally:
            operation.close()


def execute(connection: psycopg.Connection[Any], statement: Statement) -> list[Row]:
    """Run one statement and return its rows. Raises the driver's errors."""
    with _Blocking(connection) as driver:
        return driver.take(statement)


class _Blocking:
    """Holds the driver's lock for each statement, and during a transaction that the operation began."""

    def __init__(self, connection: psycopg.Connection[Any]) -> None:
        self._connection = connection
        self.turn = Turn(connection)

    def take(self, step: Statement | Pause) -> list[Row]:
        if isinstance(step, Pause):
            report_wait(step)
            time.sleep(step.seconds)
            return []
        if not self.turn.is_open:
            self._connection.lock.acquire()
        try:
            return self._connection.wait(self.turn.steps(step))
        finally:
            if not self.turn.is_open:
                self._connection.lock.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.turn.is_open:
            try:
                self._connection.wait(self.turn.end())
            finally:
                self._connection.lock.release()


async def run_async(operation: Steps[T], connection: psycopg.AsyncConnection[Any]) -> T:
    """See ``run()``."""
    return (await run_reporting_commit_async(operation, connection))[0]


async def run_reporting_commit_async(
    operation: Steps[T], connection: psycopg.AsyncConnection[Any]
) -> tuple[T, bool]:
    """See ``run_reporting_commit()``."""
    async with _Awaiting(connection) as driver:
        await settle_async(connection)
        try:
            step = next(operation)
            while True:
                try:
                    rows = await driver.take(step)
                except psycopg.Error as error:
                    step = operation.throw(translate(error))
                else:
                    step = operation.send(rows)
        except StopIteration as end:
            return end.value, driver.turn.committed
        finally:
            operation.close()


async def execute_async(connection: psycopg.AsyncConnection[Any], statement: Statement) -> list[Row]:
    """See ``execute()``."""
    async with _Awaiting(connection) as driver:
        return await driver.take(statement)


class _Awaiting:
    """See ``_Blocking``."""

    def __init__(self, connection: psycopg.AsyncConnection[Any]) -> None:
        self._connection = connection
        self.turn = Turn(connection)

    async def take(self, step: Statement | Pause) -> list[Row]:
        if isinstance(step, Pause):
            report_wait(step)
            await asyncio.sleep(step.seconds)
            return []
        if not self.turn.is_open:
            await self._acquire()
        try:
            return await self._connection.wait(self.turn.steps(step))
        finally:
            if not self.turn.is_open:
                self._connection.lock.release()

    async def _acquire(self) -> None:
        try:
            await self._connection.lock.acquire()
        except RuntimeError as error:
            raise other_loop(error) from error

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        if self.turn.is_open:
            try:
                await self._connection.wait(self.turn.end())
            finally:
                self._connection.lock.release()


def translate(error: psycopg.Error) -> UsersyncError:
    """The error of usersync for an error of the driver, which becomes its ``__cause__``.

    DETAIL is left out, because it quotes values such as e-mail addresses. A driver's error with DETAIL
    becomes ``__context__`` instead, because tracebacks print a cause in full.
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
            f"the connection pool had no free connection: {message}",
            hint="Make the pool larger, or find out what holds its connections.",
        )
    if state is None and isinstance(error, psycopg.OperationalError):
        return _connection_failed(message)
    return error_for_state(state, message, error.diag.message_hint)


def error_for_state(state: str | None, message: str, hint: str | None) -> UsersyncError:
    """The error of usersync for a SQLSTATE that any driver reports."""
    # 57P01 to 57P05: the server shuts down, starts up, or ended the session.
    if state is not None and (state[:2] == "08" or state[:4] == "57P0"):
        return _connection_failed(message)
    return error_for_sqlstate(state, message, hint)


def _connection_failed(message: str) -> ConnectionFailedError:
    return ConnectionFailedError(
        f"the database connection failed: {message}", hint="Check the server, then try again."
    )
