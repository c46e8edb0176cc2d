"""Calls of usersync's functions over connections of other drivers than psycopg.

An operation that yields only ``Call`` statements runs over asyncpg, SQLAlchemy, and over anything that runs
one statement (``SqlExecutor``). Types do not matter: the answer of a call is converted to text in the
database, and JSON is sent as text. The statements of an erasure also run over asyncpg and SQLAlchemy.

Drivers are recognized by the module of their class, so usersync imports no driver that the application does
not use.
"""

from __future__ import annotations

import asyncio
import inspect
import json
import re
from contextlib import asynccontextmanager, nullcontext, suppress
from functools import partial
from importlib import import_module
from typing import TYPE_CHECKING, Any, Protocol, TypeVar
from uuid import UUID

import psycopg

from usersync.errors import ConnectionFailedError, NeedsDatabaseError, UsersyncError
from usersync.transports.ownership import needs_own_transaction, only_one
from usersync.transports.run import error_for_state, translate
from usersync.transports.steps import (
    BEGIN,
    COMMIT,
    PIN_SEARCH_PATH,
    ROLLBACK,
    Call,
    Pause,
    Statement,
    report_wait,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Generator, Iterator, Sequence

    from usersync.transports.steps import Row, Steps

T = TypeVar("T")

_SAVEPOINT, _RELEASE = "savepoint usersync", "release savepoint usersync"
_ROLL_BACK = "rollback to savepoint usersync"


class SqlExecutor(Protocol):
    """A connection of any driver, in three lines of the application's own code."""

    def execute(self, sql: str, params: Sequence[Any], /) -> Sequence[Sequence[Any]]:
        """Run one statement and return its rows; none for a statement without rows.

        The placeholders in ``sql`` are ``%s``; without ``params``, there are none. Raises the driver's
        errors.
        """


class AsyncSqlExecutor(Protocol):
    """A connection of any asyncio driver. ``execute()`` is a coroutine function."""

    async def execute(self, sql: str, params: Sequence[Any], /) -> Sequence[Sequence[Any]]:
        """Like ``SqlExecutor.execute()``, with the placeholders ``$1``, ``$2``, …"""


class AsyncpgConnection(Protocol):
    """A connection of asyncpg."""

    def is_in_transaction(self) -> bool: ...

    async def fetchrow(self, query: str, *args: Any) -> Any: ...


class AsyncpgPool(Protocol):
    """A pool of asyncpg."""

    def acquire(self) -> Any: ...

    def get_max_size(self) -> int: ...


class SqlAlchemyConnection(Protocol):
    """A Connection or a Session of SQLAlchemy."""

    def begin_nested(self) -> Any: ...

    def execute(self, statement: Any, parameters: Any = None, /) -> Any: ...


class AsyncSqlAlchemyConnection(Protocol):
    """An AsyncConnection or an AsyncSession of SQLAlchemy."""

    def begin_nested(self) -> Any: ...

    async def run_sync(self, fn: Callable[..., Any], /, *arg: Any, **kw: Any) -> Any: ...


def comes_from(value: object, package: str) -> bool:
    """Whether the class of the value, or a base class, is defined in this package."""
    return any(each.__module__.split(".", 1)[0] == package for each in type(value).__mro__)


def is_sqlalchemy(value: object) -> bool:
    """Whether it is a Connection or a Session of SQLAlchemy, blocking or not."""
    return comes_from(value, "sqlalchemy") and hasattr(value, "begin_nested")


def is_async_sqlalchemy(value: object) -> bool:
    """Whether it is an AsyncConnection or an AsyncSession of SQLAlchemy."""
    return is_sqlalchemy(value) and hasattr(value, "run_sync")


def is_asyncpg(value: object) -> bool:
    """Whether it is a connection or a pool of asyncpg."""
    return comes_from(value, "asyncpg") and (hasattr(value, "is_in_transaction") or is_asyncpg_pool(value))


def is_asyncpg_pool(value: object) -> bool:
    """Whether it is a pool of asyncpg."""
    return comes_from(value, "asyncpg") and hasattr(value, "get_max_size")


def full_name(kind: type) -> str:
    """A class's name with its module: several drivers have a ``Connection``."""
    return f"{kind.__module__}.{kind.__qualname__}"


def is_executor(value: object) -> bool:
    """Whether it is a ``SqlExecutor`` or an ``AsyncSqlExecutor``, and neither a connection nor a cursor."""
    kind = type(value)
    return callable(getattr(kind, "execute", None)) and not any(
        hasattr(value, name) for name in ("cursor", "fetchone", "fetch", "connect", "begin")
    )


def is_async_executor(value: object) -> bool:
    """Whether it is an ``AsyncSqlExecutor``."""
    return is_executor(value) and inspect.iscoroutinefunction(type(value).execute)  # type: ignore[attr-defined]


def is_async(value: object) -> bool:
    """Whether it is one of these for asyncio."""
    return is_asyncpg(value) or is_async_sqlalchemy(value) or is_async_executor(value)


_PLACE = re.compile(r"%\((\w+)\)s(::jsonb)?")

#: A statement and its parameters.
Command = tuple[str, "Sequence[Any]"]
#: The rows, and whether they are committed.
CallResult = tuple[Any, bool]


def _command(statement: Statement, place: Callable[[int], str]) -> Command:
    """The statement with placeholders by position. Its answer is a text."""
    params: list[Any] = []

    def put(found: re.Match[str]) -> str:
        params.append((statement.params or {})[found[1]])
        # A driver may have a codec of the application for jsonb, which would convert the text again.
        return f"cast(cast({place(len(params))} as text) as jsonb)" if found[2] else place(len(params))

    return f"select cast(answer as text) as answer from ({_PLACE.sub(put, statement.sql)}) as call", params


def _commands(
    statement: Call, place: Callable[[int], str], *, is_inside: bool | None
) -> Generator[Command, Any, CallResult]:
    """The commands of a call. In a transaction of the application they use a savepoint, so that it stays
    usable.

    ``is_inside`` says whether there is a transaction; None if the driver does not say it.
    """
    if is_inside is None:
        try:
            yield _SAVEPOINT, ()
        except Exception:  # noqa: BLE001 - every driver has its own errors
            # Without a transaction, a savepoint is not possible. In a failed one, the call fails as well.
            is_inside = False
    elif is_inside:
        yield _SAVEPOINT, ()
    if is_inside is False:
        return (yield _command(statement.in_own_transaction(), place)), True
    try:
        rows = yield _command(statement, place)
    except BaseException:
        with suppress(Exception):
            yield _ROLL_BACK, ()
            yield _RELEASE, ()
        raise
    yield _RELEASE, ()
    return rows, False


def call_blocking(connection: Any, statement: Call) -> CallResult:
    """Call one of usersync's functions through a blocking connection. Returns the answer, and whether it is
    committed. Raises the driver's errors.
    """
    if is_sqlalchemy(connection):
        return _through_sqlalchemy(connection, statement)
    commands = _commands(statement, lambda _: "%s", is_inside=None)
    try:
        command = next(commands)
        while True:
            try:
                rows = connection.execute(*command)
            except BaseException as error:  # noqa: BLE001 - it is raised again, after the rollback
                command = commands.throw(error)
            else:
                command = commands.send(rows)
    except StopIteration as end:
        rows, committed = end.value
    return _answer(rows), committed


async def call_async(connection: Any, statement: Call) -> CallResult:
    """``call_blocking()`` for asyncio. A pool lends a connection for the call."""
    if is_async_sqlalchemy(connection):
        # An AsyncSession passes its Session, an AsyncConnection its Connection.
        return await connection.run_sync(_through_sqlalchemy, statement)  # type: ignore[no-any-return]
    if is_asyncpg_pool(connection):
        async with connection.acquire() as lent:
            return await call_async(lent, statement)
    if is_asyncpg(connection):
        commands = _commands(statement, lambda n: f"${n}", is_inside=connection.is_in_transaction())
        execute = partial(_execute_asyncpg, connection)
    else:
        commands = _commands(statement, lambda n: f"${n}", is_inside=None)
        execute = connection.execute
    try:
        command = next(commands)
        while True:
            try:
                rows = await execute(*command)
            except BaseException as error:  # noqa: BLE001 - it is raised again, after the rollback
                command = commands.throw(error)
            else:
                command = commands.send(rows)
    except StopIteration as end:
        rows, committed = end.value
    return _answer(rows), committed


async def execute_async(connection: Any, statement: Statement) -> list[Row]:
    """Run a statement that is not a call, outside of the application's transactions. Raises the driver's
    errors.
    """
    if is_async_sqlalchemy(connection):
        return await connection.run_sync(_execute_sqlalchemy, statement)  # type: ignore[no-any-return]
    sql, params = _plain_command(statement, lambda n: f"${n}")
    if not _RETURNS_ROWS.match(statement.sql):
        await connection.execute(sql)
        return []
    # asyncpg takes the text of an id for every type, and an id only for uuid.
    plain = (str(each) if isinstance(each, UUID) else each for each in params)
    return _rows([dict(row) for row in await connection.fetch(sql, *plain)])


def _execute_sqlalchemy(connection: Any, statement: Statement) -> list[Row]:
    sql, params = _plain_command(statement, lambda n: f"(:p{n})", escape=_COLON)
    bound = {f"p{n}": value for n, value in enumerate(params, 1)}
    found = _sqlalchemy_connection(connection).execute(import_module("sqlalchemy").text(sql), bound)
    return _rows([dict(row) for row in found.mappings()]) if found.returns_rows else []


#: What SQLAlchemy would take for a parameter.
_COLON = re.compile(r"(?<![:\w\\]):(?=\w+(?!:))")

_RETURNS_ROWS = re.compile(r"\s*(select|with|update)\b", re.IGNORECASE)
_CHANGES = re.compile(r"\bupdate\b", re.IGNORECASE)


def _plain_command(
    statement: Statement, place: Callable[[int], str], *, escape: re.Pattern[str] | None = None
) -> Command:
    """The statement with placeholders by position. Rows of a query become texts in JSON.

    PostgreSQL allows an UPDATE only in the outermost statement; those of usersync return no JSON.
    """
    params: list[Any] = []

    def put(found: re.Match[str]) -> str:
        if found[0] == "%%":
            return "%"
        params.append((statement.params or {})[found[1]])
        return f"cast(cast({place(len(params))} as text) as jsonb)" if found[2] else place(len(params))

    sql = statement.sql
    if escape is not None:
        sql = escape.sub(r"\\:", sql)
    if statement.params is not None:
        sql = _PLACE_OR_PERCENT.sub(put, sql)
    if _RETURNS_ROWS.match(sql) and not _CHANGES.search(sql):
        sql = f"select cast(to_jsonb(call) as text) as {_JSON_ROW} from ({sql}) as call"
    return sql, params


_PLACE_OR_PERCENT = re.compile(rf"{_PLACE.pattern}|%%")
_JSON_ROW = "usersync_row"


def _rows(found: list[dict[str, Any]]) -> list[Row]:
    return [json.loads(row[_JSON_ROW]) if _JSON_ROW in row else row for row in found]


def is_alone(connection: Any) -> bool:
    """Whether no transaction of the application is open, so that each statement commits by itself."""
    if is_asyncpg(connection):
        return not connection.is_in_transaction()
    return bool(getattr(_sqlalchemy_connection(connection).connection.dbapi_connection, "autocommit", False))


def _sqlalchemy_connection(connection: Any) -> Any:
    # A Session's own methods would flush pending objects, which may fail.
    of_session = getattr(connection, "connection", None)
    return of_session() if callable(of_session) else connection


def _answer(rows: Sequence[Sequence[Any]]) -> Any:
    said = rows[0][0]
    return None if said is None else json.loads(said)


async def _execute_asyncpg(connection: Any, sql: str, params: Sequence[Any]) -> Any:
    # execute() prepares nothing, and returns no rows.
    return await (connection.fetch if sql.startswith("select") else connection.execute)(sql, *params)


def _through_sqlalchemy(connection: Any, statement: Call) -> CallResult:
    text = import_module("sqlalchemy").text
    on = _sqlalchemy_connection(connection)
    # In autocommit there is no transaction to protect, and a savepoint is not possible.
    alone = is_alone(connection)
    sql, params = _command(statement.in_own_transaction() if alone else statement, lambda n: f":p{n}")
    with nullcontext() if alone else on.begin_nested():
        rows = on.execute(text(sql), {f"p{n}": value for n, value in enumerate(params, 1)}).fetchall()
    return _answer(rows), alone


class AsyncCallTransport:
    """An operation over a connection or a pool of asyncpg, SQLAlchemy or an ``AsyncSqlExecutor``."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection
        self._is_pool = is_asyncpg_pool(connection)
        # asyncpg allows one statement at a time.
        self._turn = asyncio.Lock()

    async def run(self, operation: Steps[T]) -> T:
        return (await self.run_reporting_commit(operation))[0]

    run_separately = run

    async def run_reporting_commit(self, operation: Steps[T]) -> tuple[T, bool]:
        async with self._lent() as (connection, turn):
            session = _Session(connection, turn)
            try:
                step = next(operation)
                while True:
                    try:
                        rows = await session.take(step)
                    except UsersyncError as error:
                        step = operation.throw(error)
                    else:
                        step = operation.send(rows)
            except StopIteration as end:
                return end.value, session.all_committed
            finally:
                operation.close()
                await session.end()

    @asynccontextmanager
    async def _lent(self) -> AsyncIterator[tuple[Any, asyncio.Lock]]:
        if not self._is_pool:
            yield self._connection, self._turn
            return
        try:
            lent = await self._connection.acquire()
        except Exception as error:  # noqa: BLE001 - every driver has its own errors
            raise translated(error) from None
        try:
            yield lent, asyncio.Lock()
        finally:
            await self._connection.release(lent)

    def parallelism(self, workers: int) -> int:
        if self._is_pool:
            return min(workers, int(self._connection.get_max_size()))
        return only_one(workers)

    async def close(self) -> None:
        """Leave it open: it belongs to the application."""


class _Session:
    """The steps of one operation on one connection."""

    def __init__(self, connection: Any, turn: asyncio.Lock) -> None:
        self._connection = connection
        self._turn = turn
        #: Whether a transaction that the operation began is open. The connection is not shared meanwhile.
        self._is_open = False
        self.all_committed = True

    async def take(self, step: Statement | Pause) -> list[Row]:
        if isinstance(step, Pause):
            report_wait(step)
            await asyncio.sleep(step.seconds)
            return []
        if not self._is_open:
            await self._turn.acquire()
        try:
            return await (self._call(step) if isinstance(step, Call) else self._execute(step))
        except UsersyncError:
            raise
        except Exception as error:  # noqa: BLE001 - every driver has its own errors
            raise translated(error) from None
        finally:
            if not self._is_open:
                self._turn.release()

    async def _call(self, step: Call) -> list[Row]:
        answer, committed = await call_async(self._connection, step)
        self.all_committed &= committed
        return [{"answer": answer}]

    async def _execute(self, step: Statement) -> list[Row]:
        if is_executor(self._connection):
            raise NeedsDatabaseError(
                "this does not work over an AsyncSqlExecutor",
                hint="Pass a connection string, or a connection or a pool of psycopg or asyncpg.",
            )
        if not self._is_open and not await self._is_alone():
            raise needs_own_transaction()
        if step.sql.startswith(PIN_SEARCH_PATH) and not self._is_open:
            return await self._pinned(step)
        rows = await execute_async(self._connection, step)
        self._is_open = step is BEGIN or (self._is_open and step not in (COMMIT, ROLLBACK))
        return rows

    async def _pinned(self, step: Statement) -> list[Row]:
        """Two statements in one text, which some drivers do not send. The first lasts until the transaction
        ends.
        """
        await execute_async(self._connection, BEGIN)
        try:
            await execute_async(self._connection, Statement(PIN_SEARCH_PATH.rstrip().rstrip(";")))
            body = Statement(step.sql.removeprefix(PIN_SEARCH_PATH), step.params)
            return await execute_async(self._connection, body)
        finally:
            await execute_async(self._connection, ROLLBACK)

    async def _is_alone(self) -> bool:
        if is_async_sqlalchemy(self._connection):
            return bool(await self._connection.run_sync(is_alone))
        return is_alone(self._connection)

    async def end(self) -> None:
        """Roll back the transaction of an interrupted operation."""
        if self._is_open:
            try:
                with suppress(Exception):
                    await execute_async(self._connection, ROLLBACK)
            finally:
                self._is_open = False
                self._turn.release()


def translated(error: Exception) -> UsersyncError:
    """The error of usersync for an error of any driver. DETAIL is left out, because it quotes values."""
    for each in _chain(error):
        if isinstance(each, UsersyncError):
            return each
        if isinstance(each, psycopg.Error):
            return translate(each)
        fields = _fields(each)
        if fields is not None:
            return error_for_state(*fields)
    said = " ".join(str(error).split())[:300]
    return ConnectionFailedError(
        f"the database connection failed: {type(error).__name__}: {said}",
        hint="Check the connection and the server, then try again.",
    )


def describe_error(error: BaseException) -> tuple[str | None, str]:
    """SQLSTATE and message of the driver's error in this error. Without a SQLSTATE, the error's text."""
    found = next(filter(None, map(_fields, _chain(error))), None)
    return found[:2] if found is not None else (None, str(error))


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """The error, and the driver's error in it, which SQLAlchemy keeps as ``orig``."""
    while error is not None:
        yield error
        error = getattr(error, "orig", None) or error.__cause__


def _fields(error: Any) -> tuple[str, str, str | None] | None:
    """SQLSTATE, message and hint of an error of asyncpg, psycopg2 or pg8000."""
    state = getattr(error, "sqlstate", None) or getattr(error, "pgcode", None)
    if isinstance(state, str):
        diag = getattr(error, "diag", None)
        message = getattr(error, "message", None) or getattr(diag, "message_primary", None)
        return state, message or str(error).partition("\n")[0], getattr(error, "hint", None)
    given = error.args[0] if error.args else None
    if isinstance(given, dict) and "C" in given:
        return given["C"], str(given.get("M")), given.get("H")
    return None
