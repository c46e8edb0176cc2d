"""What an operation is: a generator that yields statements and is sent their rows.

An operation does no input or output of its own, so the blocking and the asyncio client share it. It runs over
one connection from beginning to end. A statement that fails raises inside the operation, as one of
``usersync.errors``.
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
    """SQL to run, and what to bind in it. Without ``params`` it may be several statements at once."""

    sql: str
    params: Mapping[str, Any] | None = None

    def in_own_transaction(self) -> Statement:
        """The statement to run where no transaction of the application's can be open."""
        return self


@dataclass(frozen=True)
class Call(Statement):
    """A function of ours in ``public``, which the Data API can call as well as a connection can.

    ``sql`` is a SELECT without FROM.
    """

    function: str = ""
    #: Plain JSON data.
    arguments: Mapping[str, Any] = field(default_factory=dict)

    def in_own_transaction(self) -> Statement:
        """The call, after the database was told that the transaction ends with it."""
        return Statement(OWN_TRANSACTION + self.sql + " from told", self.params)


#: What names and values look like as text, where an operation compares or reads them, whatever the session
#: says. And no compilation: for a query of the catalog it takes seconds, and the query milliseconds.
PINNED_SESSION = (
    "set local search_path = pg_catalog; set local quote_all_identifiers = off; "
    "set local datestyle = 'ISO, MDY'; set local intervalstyle = 'postgres'; set local jit = off"
)

#: Before a SELECT without FROM, whose FROM ``told`` then is: ``usersync.owns_transaction()`` reads it.
OWN_TRANSACTION = (
    "with told as materialized (select pg_catalog.set_config('usersync.transaction', 'own', true)) "
)


@dataclass(frozen=True)
class Pause:
    """Wait for so many seconds."""

    seconds: float
    #: The reason for the wait, as a text for people; see ``ON_WAIT``.
    why: str | None = None


#: Called with the reason for a wait that takes long enough to be reported.
ON_WAIT: ContextVar[Callable[[str], None] | None] = ContextVar("usersync_on_wait", default=None)


def report_wait(pause: Pause) -> None:
    """Tell ``ON_WAIT`` what is waited for. Called by what drives an operation."""
    tell = ON_WAIT.get()
    if pause.why is not None and tell is not None:
        tell(pause.why)


Steps = Generator[Statement | Pause, list[Row], T]

#: What an answer has to look like, see ``fits()``.
Shape = Any

#: Whatever the default of the role or the database is. Above READ COMMITTED, a row that others change is an
#: error.
BEGIN = Statement("begin isolation level read committed")
COMMIT, ROLLBACK = Statement("commit"), Statement("rollback")


#: Before statements that call functions without naming their schema: a function of the same name in a schema
#: on the session's path could fit better than PostgreSQL's own. Until the transaction ends.
PINNED = "select set_config('search_path', 'pg_catalog, pg_temp', true);\n"


def query(sql: str, **params: Any) -> Steps[list[Row]]:
    """Run one statement and return its rows."""
    return (yield from _timed(Statement(sql, params or None)))


def query_row(sql: str, **params: Any) -> Steps[Row]:
    """Run one statement that returns exactly one row, and return that."""
    rows = yield from query(sql, **params)
    return rows[0]


def call(function: str, *, returns: Shape, **arguments: Any) -> Steps[Any]:
    """Call a function of ours in ``public`` and return its answer, which is plain JSON data.

    An operation that does nothing but this runs over the Data API, too. There somebody else may have
    answered, so the answer is held against ``returns``; raises ``ConnectionFailedError``.
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
    """Run a statement; an error of the database says how long it took."""
    began = time.monotonic()
    try:
        return (yield statement)
    except DatabaseError as error:
        error.seconds = time.monotonic() - began
        raise


def operate(operation: str, *, returns: Shape, **arguments: Any) -> Steps[Any]:
    """Ask ``public.usersync`` for an operation; ids may be given as such."""
    return (yield from call("usersync", returns=returns, operation=operation, arguments=_plain(arguments)))


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(each) for key, each in value.items() if each is not None}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    return str(value) if isinstance(value, UUID) else value


def checked(answer: Any, shape: Shape) -> Any:
    """The answer, if it has the shape; raises ``ConnectionFailedError``."""
    if not fits(answer, shape):
        raise ConnectionFailedError(
            "the answer is not what usersync's function returns",
            hint="Somebody else answered: a proxy, or another server than the project's. Check SUPABASE_URL.",
        )
    return answer


def fits(answer: Any, shape: Shape) -> bool:
    """Whether the answer has the shape: a type, a test, a list of one shape, or a mapping of them."""
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
    """The shape of what nobody looks at."""
    return True


def uuid_text(answer: Any) -> bool:
    """The shape of an id."""
    return isinstance(answer, str) and _UUID.fullmatch(answer) is not None


def time_text(answer: Any) -> bool:
    """The shape of a moment."""
    try:
        return datetime.fromisoformat(answer).tzinfo is not None
    except (TypeError, ValueError):
        return False


def optional(shape: Shape) -> Shape:
    """The shape of what may be null."""
    return lambda answer: answer is None or fits(answer, shape)


_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


def in_transaction(body: Steps[T]) -> Steps[T]:
    """Run ``body`` in a transaction of its own: all of it or nothing.

    The connection must not be in a transaction already.
    """
    yield BEGIN
    try:
        result = yield from body
    except Exception:
        # Where the connection is gone, so is the transaction, and the reason is the error that is here.
        with suppress(UsersyncError):
            yield ROLLBACK
        raise
    yield COMMIT
    return result


def read_only(body: Steps[T]) -> Steps[T]:
    """Run ``body`` in a transaction of its own that the server lets write nothing, on a pinned search path.

    A table that others have locked is waited for as long as ``COMMAND_LOCK_TIMEOUT`` says.
    """

    def guarded() -> Steps[T]:
        yield from query("set transaction read only")
        yield from query(f"{PINNED_SESSION}; set local lock_timeout = '{COMMAND_LOCK_TIMEOUT}'")
        return (yield from body)

    return in_transaction(guarded())
