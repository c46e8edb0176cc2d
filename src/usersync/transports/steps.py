"""Operations: generators that yield statements and are sent the rows.

An operation does no input or output, so the blocking and the asyncio client share it. It runs on one
connection from beginning to end. A statement that fails raises one of ``usersync.errors`` in the operation.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Generator, Mapping
from contextlib import suppress
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, TypeVar
from uuid import UUID

from usersync.errors import ConnectionFailedError, DatabaseError, UsersyncError
from usersync.sql.render import COMMAND_LOCK_TIMEOUT

T = TypeVar("T")

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Statement:
    """SQL to run, and its parameters. Without ``params``, the SQL may be several statements."""

    sql: str
    params: Mapping[str, Any] | None = None

    def in_own_transaction(self) -> Statement:
        """The statement to run when no transaction of the application is open."""
        return self


@dataclass(frozen=True)
class Call(Statement):
    """A call of one of usersync's functions in ``public``, which also works over the Data API.

    ``sql`` is a SELECT without FROM.
    """

    function: str = ""
    #: Plain JSON data.
    arguments: Mapping[str, Any] = field(default_factory=dict)

    def in_own_transaction(self) -> Statement:
        """The call, after telling the database that the transaction ends with this statement."""
        return Statement(OWN_TRANSACTION + self.sql + " from told", self.params)


#: Fixes the text form of names and values for operations that compare or parse them, independent of the
#: session's settings. Disables JIT: compiling a query of the catalog takes seconds, running it milliseconds.
PIN_SESSION = (
    "set local search_path = pg_catalog; set local quote_all_identifiers = off; "
    "set local datestyle = 'ISO, MDY'; set local intervalstyle = 'postgres'; set local jit = off"
)

#: The prefix of ``select …``, with `` from told`` at its end, so that it runs first.
#: ``usersync.owns_transaction()`` reads the setting.
OWN_TRANSACTION = (
    "with told as materialized (select pg_catalog.set_config('usersync.transaction', 'own', true)) "
)


@dataclass(frozen=True)
class Pause:
    """Wait for a number of seconds."""

    seconds: float
    #: The reason, for people; see ``ON_WAIT``.
    why: str | None = None


#: Is called with the reason of a wait that is long enough to report.
ON_WAIT: ContextVar[Callable[[str], None] | None] = ContextVar("usersync_on_wait", default=None)


def report_wait(pause: Pause) -> None:
    """Call ``ON_WAIT`` with the reason of a wait."""
    tell = ON_WAIT.get()
    if pause.why is not None and tell is not None:
        tell(pause.why)


Steps = Generator[Statement | Pause, list[Row], T]

#: The expected structure of an answer, see ``fits()``.
Shape = Any

#: The isolation level is set, because the role or the database may have another default. Above READ
#: COMMITTED, a row that another session changes is an error.
BEGIN = Statement("begin isolation level read committed")
COMMIT, ROLLBACK = Statement("commit"), Statement("rollback")


#: For statements that call functions without their schema: a function of the same name in the session's
#: search_path could be chosen instead of PostgreSQL's. Lasts until the transaction ends.
PIN_SEARCH_PATH = "select set_config('search_path', 'pg_catalog, pg_temp', true);\n"


def query(sql: str, **params: Any) -> Steps[list[Row]]:
    """Run one statement and return its rows."""
    return (yield from _timed(Statement(sql, params or None)))


def query_row(sql: str, **params: Any) -> Steps[Row]:
    """Run one statement that returns exactly one row, and return the row."""
    rows = yield from query(sql, **params)
    return rows[0]


def call(function: str, *, returns: Shape, **arguments: Any) -> Steps[Any]:
    """Call one of usersync's functions in ``public`` and return its answer, which is plain JSON data.

    An operation of calls only also runs over the Data API. There a proxy may have answered, so an answer that
    does not match ``returns`` raises ``ConnectionFailedError``.
    """
    places, params = [], {}
    for name, value in arguments.items():
        nested = isinstance(value, dict | list)
        places.append(f"{name} => %({name})s{'::jsonb' if nested else ''}")
        params[name] = json.dumps(value) if nested else value
    sql = f"select public.{function}({', '.join(places)}) as answer"
    rows = yield from _timed(Call(sql, params or None, function, arguments))
    return checked(rows[0]["answer"], returns)


def _timed(statement: Statement) -> Steps[list[Row]]:
    """Run a statement. A ``DatabaseError`` gets its duration in ``seconds``."""
    began = time.monotonic()
    try:
        return (yield statement)
    except DatabaseError as error:
        error.seconds = time.monotonic() - began
        raise


def operate(operation: str, *, returns: Shape, **arguments: Any) -> Steps[Any]:
    """Call ``public.usersync`` with the name and the arguments of an operation. Arguments may be UUIDs."""
    return (yield from call("usersync", returns=returns, operation=operation, arguments=_plain(arguments)))


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(each) for key, each in value.items() if each is not None}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    return str(value) if isinstance(value, UUID) else value


def checked(answer: Any, shape: Shape) -> Any:
    """Return the answer if it has the shape; otherwise raise ``ConnectionFailedError``."""
    if not fits(answer, shape):
        raise ConnectionFailedError(
            "the answer is not what usersync's function returns",
            hint="A proxy or another server may have answered. Check SUPABASE_URL.",
        )
    return answer


def fits(answer: Any, shape: Shape) -> bool:
    """Whether the answer has the shape: a type, a predicate, a list of one shape, or a mapping of shapes."""
    if isinstance(shape, dict):
        return isinstance(answer, dict) and all(
            key in answer and fits(answer[key], each) for key, each in shape.items()
        )
    if isinstance(shape, list):
        return isinstance(answer, list) and all(fits(each, shape[0]) for each in answer)
    if isinstance(shape, type):
        return type(answer) is shape
    return bool(shape(answer))


def anything(_: Any) -> bool:
    """The shape of an answer that is not used."""
    return True


def uuid_text(answer: Any) -> bool:
    """The shape of an id."""
    return isinstance(answer, str) and _UUID.fullmatch(answer) is not None


def time_text(answer: Any) -> bool:
    """The shape of a time with its zone."""
    try:
        return datetime.fromisoformat(answer).tzinfo is not None
    except (TypeError, ValueError):
        return False


def optional(shape: Shape) -> Shape:
    """A shape, or null."""
    return lambda answer: answer is None or fits(answer, shape)


_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


def in_transaction(body: Steps[T]) -> Steps[T]:
    """Run ``body`` in its own transaction, which commits completely or not at all.

    The connection must not be in a transaction already.
    """
    yield BEGIN
    try:
        result = yield from body
    except Exception:
        # If the connection was lost, ROLLBACK fails too. The first error is the reason.
        with suppress(UsersyncError):
            yield ROLLBACK
        raise
    yield COMMIT
    return result


def read_only(body: Steps[T]) -> Steps[T]:
    """Run ``body`` in its own read-only transaction, with a fixed search_path.

    Waits at most ``COMMAND_LOCK_TIMEOUT`` for a locked table.
    """

    def guarded() -> Steps[T]:
        yield from query("set transaction read only")
        yield from query(f"{PIN_SESSION}; set local lock_timeout = '{COMMAND_LOCK_TIMEOUT}'")
        return (yield from body)

    return in_transaction(guarded())
