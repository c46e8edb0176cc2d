"""Stores events in the caller's own transaction: they commit if and only if the caller's work does.

Each runs in a savepoint, so that a failure (usersync is not installed, the table is locked) leaves the
transaction usable. A failed event is not put into the spool, because it would be stored even if the caller's
work is rolled back.

Connections are recognized by the module of their class. SQLAlchemy and Django are imported only for
their own connections.
"""

from __future__ import annotations

import json
import re
from contextlib import nullcontext
from importlib import import_module
from typing import TYPE_CHECKING, Any, Protocol

import psycopg

from usersync.audit.spool.address import full_name
from usersync.errors import ArgumentTypeError
from usersync.transports import ownership
from usersync.transports.run import execute, execute_async
from usersync.transports.steps import Call

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from usersync.transports.steps import Row, Statement

_RECORD = "select cast(public.record_audit_events(cast({} as jsonb)) as text) as answer"

Answer = dict[str, Any]


class SqlAlchemyConnection(Protocol):
    """A Connection or Session of SQLAlchemy."""

    def begin_nested(self) -> Any: ...

    def execute(self, statement: Any, parameters: Any = None, /) -> Any: ...


class DjangoConnection(Protocol):
    """A connection of Django."""

    alias: str
    in_atomic_block: bool

    def get_autocommit(self) -> bool: ...


class AsyncioConnection(Protocol):
    """An AsyncConnection or AsyncSession of SQLAlchemy."""

    def begin_nested(self) -> Any: ...

    async def run_sync(self, fn: Callable[..., Any], /, *arg: Any, **kw: Any) -> Any: ...


def is_async(connection: object) -> bool:
    """Whether the result of ``store()`` for this connection must be awaited."""
    if isinstance(connection, psycopg.AsyncConnection):
        return True
    return _comes_from(connection, "sqlalchemy") and callable(getattr(connection, "run_sync", None))


def fault(connection: object, *, blocking: bool = False) -> ArgumentTypeError | None:
    """Why the connection is not supported; None if it is."""
    if blocking and is_async(connection):
        return ArgumentTypeError(
            f"record_prepared_in() takes blocking connections, not {full_name(type(connection))}"
        )
    if (
        isinstance(connection, psycopg.Connection | psycopg.AsyncConnection)
        or (_comes_from(connection, "sqlalchemy") and hasattr(connection, "begin_nested"))
        or (_comes_from(connection, "django") and hasattr(connection, "in_atomic_block"))
    ):
        return None
    return ArgumentTypeError(
        f"record_in() takes connections of psycopg, SQLAlchemy and Django, not {full_name(type(connection))}",
        hint=_hint(connection),
    )


def _hint(connection: object) -> str | None:
    if connection is None or isinstance(connection, str):
        return "record() takes no connection. record_in() takes the one that has your transaction."
    if hasattr(connection, "fetchone"):
        return "Pass the connection of the cursor."
    if any(hasattr(connection, name) for name in ("connect", "getconn", "acquire", "begin")):
        return "Pass the connection that has your transaction, and not what makes connections."
    return None


def store(connection: Any, *payloads: bytes) -> Answer:
    """Store events through a blocking connection. Raises what the connection raises."""
    events = f"[{','.join(map(_in_ascii, payloads))}]"
    if isinstance(connection, psycopg.Connection):
        return _read(execute(connection, _record("%(events)s", events)))
    if _comes_from(connection, "sqlalchemy"):
        return _through_sqlalchemy(connection, events)
    return _through_django(connection, events)


def store_async(connection: Any, event: bytes) -> Awaitable[Answer]:
    """Like ``store()``, through an asyncio connection."""
    events = f"[{_in_ascii(event)}]"
    if isinstance(connection, psycopg.AsyncConnection):
        return _through_psycopg_async(connection, _record("%(events)s", events))
    # An AsyncSession passes its Session, an AsyncConnection its Connection.
    return connection.run_sync(_through_sqlalchemy, events)  # type: ignore[no-any-return]


def _record(place: str, events: str) -> Call:
    return Call(_RECORD.format(place), {"events": events})


def _in_ascii(event: bytes) -> str:
    """JSON in ASCII, which every client encoding can represent."""
    return re.sub(r"[^\x00-\x7f]+", lambda found: json.dumps(found[0])[1:-1], event.decode())


def _comes_from(connection: object, package: str) -> bool:
    return any(each.__module__.split(".", 1)[0] == package for each in type(connection).__mro__)


def settle(connection: object) -> None:
    """In psycopg's pipeline mode: see ``usersync.transports.ownership.settle()``."""
    if isinstance(connection, psycopg.Connection):
        ownership.settle(connection)


async def settle_async(connection: object) -> None:
    """Like ``settle()``, for an asyncio connection."""
    if isinstance(connection, psycopg.AsyncConnection):
        await ownership.settle_async(connection)


async def _through_psycopg_async(connection: psycopg.AsyncConnection[Any], statement: Statement) -> Answer:
    return _read(await execute_async(connection, statement))


def _through_sqlalchemy(connection: Any, events: str) -> Answer:
    text = import_module("sqlalchemy").text
    # A Session's own begin_nested() would flush pending objects, which may fail.
    session_connection = getattr(connection, "connection", None)
    on = session_connection() if callable(session_connection) else connection
    statement: Statement = _record(":events", events)
    # In autocommit there is no transaction to protect, and a savepoint is not possible.
    alone = getattr(on.connection.dbapi_connection, "autocommit", False)
    if alone:
        statement = statement.in_own_transaction()
    with nullcontext() if alone else on.begin_nested():
        return _read(on.execute(text(statement.sql), statement.params).mappings().fetchall())


def _through_django(connection: Any, events: str) -> Answer:
    transaction = import_module("django.db").transaction
    statement: Statement = _record("%(events)s", events)
    if connection.get_autocommit() and not connection.in_atomic_block:
        statement = statement.in_own_transaction()
    with transaction.atomic(using=connection.alias), connection.cursor() as cursor:
        cursor.execute(statement.sql, statement.params)
        return _read([{"answer": cursor.fetchone()[0]}])


def _read(rows: Sequence[Row]) -> Answer:
    answer: Answer = json.loads(rows[0]["answer"])
    return answer
