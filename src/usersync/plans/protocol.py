"""What a plan is: a generator that yields statements and is sent their rows.

A plan does no input or output of its own, so the blocking and the asyncio client share it. It runs over
one connection from beginning to end. A statement that fails raises inside the plan, as one of
:mod:`usersync.errors`.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, TypeVar

from usersync.errors import UsersyncError

T = TypeVar("T")

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Statement:
    """SQL to run, and what to bind in it. Without ``params`` it may be several statements at once."""

    sql: str
    params: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class Pause:
    """Wait for so many seconds."""

    seconds: float


Plan = Generator[Statement | Pause, list[Row], T]

BEGIN, COMMIT, ROLLBACK = Statement("begin"), Statement("commit"), Statement("rollback")


def query(sql: str, **params: Any) -> Plan[list[Row]]:
    """Run one statement and return its rows."""
    return (yield Statement(sql, params or None))


def query_row(sql: str, **params: Any) -> Plan[Row]:
    """Run one statement that returns exactly one row, and return that."""
    rows = yield from query(sql, **params)
    return rows[0]


def in_transaction(body: Plan[T]) -> Plan[T]:
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


def read_only(body: Plan[T]) -> Plan[T]:
    """Run ``body`` in a transaction of its own that the server lets write nothing, on a pinned search path.

    A table that others have locked is waited for two seconds.
    """

    def guarded() -> Plan[T]:
        yield from query("set transaction read only")
        yield from query("set local search_path = pg_catalog; set local lock_timeout = '2s'")
        return (yield from body)

    return in_transaction(guarded())
