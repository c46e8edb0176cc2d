"""Events in the caller's own transaction: they commit if and only if the caller's work does.

Each runs in a savepoint, so that whatever goes wrong with it (usersync is not installed, the table is
locked) leaves the transaction as it was. There is no second way for such an event: put into the spool
instead, it would arrive even if the caller's work is rolled back.

Connections are told apart by where their classes come from; neither SQLAlchemy nor Django is imported
unless the connection is one of theirs.
"""

from __future__ import annotations

import asyncio
import json
import re
from contextlib import nullcontext, suppress
from importlib import import_module
from typing import TYPE_CHECKING, Any

import psycopg
from psycopg.pq import PipelineStatus, TransactionStatus
from psycopg.rows import tuple_row

from usersync.audit.address import full_name

if TYPE_CHECKING:
    from collections.abc import Awaitable, Coroutine

_RECORD = "select public.record_audit_events(%s::jsonb)::text"
_RECORD_NAMED = "select cast(public.record_audit_events(cast(:events as jsonb)) as text)"

_SAVEPOINT = "savepoint usersync_audit"
_RELEASE = "release savepoint usersync_audit"
_BACK = "rollback to savepoint usersync_audit"

Answer = dict[str, Any]


def is_async(connection: object) -> bool:
    """Whether what :func:`store` returns for this connection is to be awaited."""
    if isinstance(connection, psycopg.AsyncConnection):
        return True
    return _comes_from(connection, "sqlalchemy") and callable(getattr(connection, "run_sync", None))


def store(connection: Any, *payloads: bytes) -> Answer:
    """Store events through a connection that blocks. Raises what the connection raises."""
    events = f"[{','.join(map(_in_ascii, payloads))}]"
    if isinstance(connection, psycopg.Connection):
        return _through_psycopg(connection, events)
    if _comes_from(connection, "sqlalchemy") and hasattr(connection, "begin_nested"):
        return _through_sqlalchemy(connection, events)
    if _comes_from(connection, "django"):
        return _through_django(connection, events)
    raise TypeError(
        f"record_in() takes connections of psycopg, SQLAlchemy and Django, not {full_name(type(connection))}"
    )


def store_async(connection: Any, event: bytes) -> Awaitable[Answer]:
    """The same through a connection of asyncio."""
    events = f"[{_in_ascii(event)}]"
    if isinstance(connection, psycopg.AsyncConnection):
        return _through_psycopg_async(connection, events)
    # An AsyncSession hands over its Session, an AsyncConnection its Connection.
    return connection.run_sync(_through_sqlalchemy, events)  # type: ignore[no-any-return]


def _in_ascii(event: bytes) -> str:
    """JSON that every client encoding has the characters for."""
    return re.sub(r"[^\x00-\x7f]+", lambda found: json.dumps(found[0])[1:-1], event.decode())


def _comes_from(connection: object, package: str) -> bool:
    return any(each.__module__.split(".", 1)[0] == package for each in type(connection).__mro__)


def _through_psycopg(connection: psycopg.Connection[Any], events: str) -> Answer:
    with psycopg.Cursor(connection, row_factory=tuple_row) as cursor:
        nested = _is_nested(connection)
        if nested:
            # Not transaction(): on an idle connection that would begin a transaction and commit it.
            cursor.execute(_SAVEPOINT)
            settle(connection)
        try:
            row = cursor.execute(_RECORD, (events,), prepare=False).fetchone()
        except BaseException:
            with suppress(psycopg.Error):
                settle(connection)
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
            await _whole(_begin(cursor))
        try:
            await cursor.execute(_RECORD, (events,), prepare=False)
            row = await cursor.fetchone()
        except BaseException:
            with suppress(psycopg.Error):
                await _whole(_undo(cursor, nested=nested))
            raise
        if nested:
            await _whole(cursor.execute(_RELEASE))
    return _read(row)


async def _begin(cursor: psycopg.AsyncCursor[Any]) -> None:
    await cursor.execute(_SAVEPOINT)
    await settle_async(cursor.connection)


async def _undo(cursor: psycopg.AsyncCursor[Any], *, nested: bool) -> None:
    await settle_async(cursor.connection)
    if nested:
        await cursor.execute(_BACK)
        await cursor.execute(_RELEASE)


async def _whole(statements: Coroutine[Any, Any, object]) -> None:
    """Run these to their end, and be cancelled only then: half of them would leave the transaction failed."""
    task = asyncio.ensure_future(statements)
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.wait([task])
        except asyncio.CancelledError as error:
            cancelled = error
    failure = task.exception()
    if cancelled is not None:
        raise cancelled
    if failure is not None:
        raise failure


def settle(connection: object) -> None:
    """In pipeline mode: have the answers to what the application has sent so far.

    Raises what its own statements fail with, which is not for us to swallow.
    """
    if isinstance(connection, psycopg.Connection) and _is_pipelined(connection):
        with connection.pipeline() as pipeline:
            pipeline.sync()


async def settle_async(connection: object) -> None:
    """The same for a connection of asyncio."""
    if isinstance(connection, psycopg.AsyncConnection) and _is_pipelined(connection):
        async with connection.pipeline() as pipeline:
            await pipeline.sync()


def _is_pipelined(connection: psycopg.Connection[Any] | psycopg.AsyncConnection[Any]) -> bool:
    return connection.info.pipeline_status != PipelineStatus.OFF


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
