"""Stores events in the caller's own transaction: they commit if and only if the caller's work does.

Each runs in a savepoint, so that a failure (usersync is not installed, the table is locked) leaves the
transaction usable. A failed event is not put into the spool, because it would be stored even if the caller's
work is rolled back.

psycopg and Django have their own paths; ``usersync.transports.drivers`` has the other drivers.
"""

from __future__ import annotations

import json
import re
from importlib import import_module
from typing import TYPE_CHECKING, Any, Protocol

import psycopg

from usersync.errors import ArgumentTypeError
from usersync.transports import drivers, ownership
from usersync.transports.run import execute, execute_async
from usersync.transports.steps import Call

if TYPE_CHECKING:
    from collections.abc import Sequence

    from usersync.transports.steps import Row, Statement

_RECORD = "select cast(public.record_audit_events(%(events)s::jsonb) as text) as answer"

Answer = dict[str, Any]


class DjangoConnection(Protocol):
    """A connection of Django."""

    alias: str
    in_atomic_block: bool

    def get_autocommit(self) -> bool: ...


#: What ``record_in()`` takes.
BlockingConnection = (
    psycopg.Connection[Any] | drivers.SqlAlchemyConnection | DjangoConnection | drivers.SqlExecutor
)
#: What ``arecord_in()`` takes.
AsyncioConnection = (
    psycopg.AsyncConnection[Any]
    | drivers.AsyncSqlAlchemyConnection
    | drivers.AsyncpgConnection
    | drivers.AsyncpgPool
    | drivers.AsyncSqlExecutor
)


def is_async(connection: object) -> bool:
    """Whether the result of ``store()`` for this connection must be awaited."""
    return isinstance(connection, psycopg.AsyncConnection) or drivers.is_async(connection)


def _is_blocking(connection: object) -> bool:
    return not is_async(connection) and (
        isinstance(connection, psycopg.Connection)
        or drivers.is_sqlalchemy(connection)
        or _is_django(connection)
        or drivers.is_executor(connection)
    )


def _is_django(connection: object) -> bool:
    return drivers.comes_from(connection, "django") and hasattr(connection, "in_atomic_block")


def fault(connection: object, method: str = "record_in") -> ArgumentTypeError | None:
    """Why this method does not support the connection; None if it does."""
    if method != "arecord_in" and _is_blocking(connection):
        return None
    if method != "record_prepared_in" and is_async(connection):
        return None
    return ArgumentTypeError(
        f"{method}() does not take {drivers.full_name(type(connection))}", hint=_hint(connection, method)
    )


def _hint(connection: object, method: str) -> str:  # noqa: PLR0911 - a list of cases
    if _is_blocking(connection):
        return "For blocking connections, call record_in()."
    if is_async(connection):
        return "For connections of asyncio, call arecord_in()."
    if connection is None or isinstance(connection, str):
        return f"{method}() takes the connection that has your transaction. record() takes no connection."
    for driver, what in _OTHERS.items():
        if drivers.comes_from(connection, driver):
            return f"For {what}, write a SqlExecutor of three lines. docs/python.md has an example."
    if any(hasattr(connection, name) for name in ("connect", "getconn", "acquire", "begin")):
        return "Pass the connection that has your transaction, and not what makes connections."
    if hasattr(connection, "fetchone"):
        return "Pass the connection of the cursor."
    return (
        "It takes connections of psycopg, asyncpg, SQLAlchemy (Connection, Session) and Django. For other "
        "drivers, write a SqlExecutor."
    )


#: Drivers of which docs/python.md has an example.
_OTHERS = {"psycopg2": "psycopg2", "pg8000": "pg8000", "peewee": "peewee", "tortoise": "Tortoise"}


def store(connection: Any, *payloads: bytes) -> Answer:
    """Store events through a blocking connection. Raises what the connection raises."""
    events = f"[{','.join(map(_in_ascii, payloads))}]"
    if isinstance(connection, psycopg.Connection):
        return _read(execute(connection, _record(events)))
    if _is_django(connection):
        return _through_django(connection, events)
    answer: Answer = drivers.call_blocking(connection, _record(events))[0]
    return answer


async def store_async(connection: Any, event: bytes) -> Answer:
    """Like ``store()``, through an asyncio connection."""
    events = f"[{_in_ascii(event)}]"
    if isinstance(connection, psycopg.AsyncConnection):
        return _read(await execute_async(connection, _record(events)))
    answer: Answer = (await drivers.call_async(connection, _record(events)))[0]
    return answer


def _record(events: str) -> Call:
    return Call(_RECORD, {"events": events})


def _in_ascii(event: bytes) -> str:
    """JSON in ASCII, which every client encoding can represent."""
    return re.sub(r"[^\x00-\x7f]+", lambda found: json.dumps(found[0])[1:-1], event.decode())


def settle(connection: object) -> None:
    """In psycopg's pipeline mode: see ``usersync.transports.ownership.settle()``."""
    if isinstance(connection, psycopg.Connection):
        ownership.settle(connection)


async def settle_async(connection: object) -> None:
    """Like ``settle()``, for an asyncio connection."""
    if isinstance(connection, psycopg.AsyncConnection):
        await ownership.settle_async(connection)


def _through_django(connection: Any, events: str) -> Answer:
    transaction = import_module("django.db").transaction
    statement: Statement = _record(events)
    if connection.get_autocommit() and not connection.in_atomic_block:
        statement = statement.in_own_transaction()
    with transaction.atomic(using=connection.alias), connection.cursor() as cursor:
        cursor.execute(statement.sql, statement.params)
        return _read([{"answer": cursor.fetchone()[0]}])


def _read(rows: Sequence[Row]) -> Answer:
    answer: Answer = json.loads(rows[0]["answer"])
    return answer
