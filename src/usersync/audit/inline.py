"""Events in the caller's own transaction: they commit if and only if the caller's work does.

Each runs in a savepoint, so that whatever goes wrong with it (usersync is not installed, the table is
locked) leaves the transaction as it was. There is no second way for such an event: put into the spool
instead, it would arrive even if the caller's work is rolled back.

Connections are told apart by where their classes come from; neither SQLAlchemy nor Django is imported
unless the connection is one of theirs.
"""

from __future__ import annotations

import json
from contextlib import nullcontext
from importlib import import_module
from typing import TYPE_CHECKING, Any

import psycopg
from psycopg.pq import TransactionStatus
from psycopg.rows import tuple_row

if TYPE_CHECKING:
    from collections.abc import Awaitable

_RECORD = "select public.record_audit_events(%s::jsonb)::text"
_RECORD_NAMED = "select cast(public.record_audit_events(cast(:events as jsonb)) as text)"

_SAVEPOINT = "savepoint usersync_audit"
_RELEASE = "release savepoint usersync_audit"
_BACK = "rollback to savepoint usersync_audit"

Answer = dict[str, int]


def is_async(connection: object) -> bool:
    """Whether what :func:`store` returns for this connection is to be awaited."""
    if isinstance(connection, psycopg.AsyncConnection):
        return True
    return _comes_from(connection, "sqlalchemy") and callable(getattr(connection, "run_sync", None))


def store(connection: Any, *payloads: bytes) -> Answer:
    """Store events through a connection that blocks. Raises what the connection raises."""
    events = f"[{b','.join(payloads).decode()}]"
    if isinstance(connection, psycopg.Connection):
        return _through_psycopg(connection, events)
    if _comes_from(connection, "sqlalchemy"):
        return _through_sqlalchemy(connection, events)
    if _comes_from(connection, "django"):
        return _through_django(connection, events)
    raise TypeError(
        f"record_in() takes connections of psycopg, SQLAlchemy and Django, not {type(connection).__name__}"
    )


def store_async(connection: Any, event: bytes) -> Awaitable[Answer]:
    """The same through a connection of asyncio."""
    events = f"[{event.decode()}]"
    if isinstance(connection, psycopg.AsyncConnection):
        return _through_psycopg_async(connection, events)
    # An AsyncSession hands over its Session, an AsyncConnection its Connection.
    return connection.run_sync(_through_sqlalchemy, events)  # type: ignore[no-any-return]


def _comes_from(connection: object, package: str) -> bool:
    return any(each.__module__.split(".", 1)[0] == package for each in type(connection).__mro__)


def _through_psycopg(connection: psycopg.Connection[Any], events: str) -> Answer:
    with psycopg.Cursor(connection, row_factory=tuple_row) as cursor:
        nested = _is_nested(connection)
        if nested:
            # Not transaction(): on an idle connection that would begin a transaction and commit it.
            cursor.execute(_SAVEPOINT)
        try:
            row = cursor.execute(_RECORD, (events,), prepare=False).fetchone()
        except psycopg.Error:
            if nested:
                cursor.execute(_BACK)
                cursor.execute(_RELEASE)
            raise
        if nested:
            cursor.execute(_RELEASE)
    return _read(row)


async def _through_psycopg_async(connection: psycopg.AsyncConnection[Any], events: str) -> Answer:
    async with psycopg.AsyncCursor(connection, row_factory=tuple_row) as cursor:
        nested = _is_nested(connection)
        if nested:
            await cursor.execute(_SAVEPOINT)
        try:
            await cursor.execute(_RECORD, (events,), prepare=False)
            row = await cursor.fetchone()
        except psycopg.Error:
            if nested:
                await cursor.execute(_BACK)
                await cursor.execute(_RELEASE)
            raise
        if nested:
            await cursor.execute(_RELEASE)
    return _read(row)


def _is_nested(connection: psycopg.Connection[Any] | psycopg.AsyncConnection[Any]) -> bool:
    """Whether the statement is part of a transaction, one that it begins itself included."""
    status = connection.info.transaction_status
    return not connection.autocommit or status != TransactionStatus.IDLE


def _through_sqlalchemy(connection: Any, events: str) -> Answer:
    text = import_module("sqlalchemy").text
    # A Session's own begin_nested() would flush what is pending in it, and may fail for that.
    session_connection = getattr(connection, "connection", None)
    on = session_connection() if callable(session_connection) else connection
    # In autocommit there is no transaction that could be spoilt, and no savepoint to be had.
    alone = getattr(on.connection.dbapi_connection, "autocommit", False)
    with nullcontext() if alone else on.begin_nested():
        row = on.execute(text(_RECORD_NAMED), {"events": events}).fetchone()
    return _read(row)


def _through_django(connection: Any, events: str) -> Answer:
    transaction = import_module("django.db").transaction
    with transaction.atomic(using=connection.alias), connection.cursor() as cursor:
        cursor.execute(_RECORD, [events])
        return _read(cursor.fetchone())


def _read(row: Any) -> Answer:
    answer: Answer = json.loads(row[0])
    return answer
