"""What a plan is: a generator that yields statements and is sent their rows.

A plan does no input or output of its own, so the blocking and the asyncio client share it. It runs over
one connection from beginning to end. A statement that fails raises inside the plan, as one of
:mod:`usersync.errors`.
"""

from __future__ import annotations

import json
from collections.abc import Generator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, TypeVar
from uuid import UUID

from usersync.errors import UsersyncError

T = TypeVar("T")

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Statement:
    """SQL to run, and what to bind in it. Without ``params`` it may be several statements at once."""

    sql: str
    params: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class Call(Statement):
    """A function of ours in ``public``, which the Data API can call as well as a connection can."""

    function: str = ""
    #: Plain JSON data.
    arguments: Mapping[str, Any] = field(default_factory=dict)


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


def call(function: str, **arguments: Any) -> Plan[Any]:
    """Call a function of ours in ``public`` and return its answer, which is plain JSON data.

    A plan that does nothing but this runs over the Data API, too.
    """
    places, params = [], {}
    for name, value in arguments.items():
        nested = isinstance(value, dict)
        places.append(f"{name} => %({name})s{'::jsonb' if nested else ''}")
        params[name] = json.dumps(value) if nested else value
    sql = f"select public.{function}({', '.join(places)}) as answer"
    rows = yield Call(sql, params or None, function, arguments)
    return rows[0]["answer"]


def operate(operation: str, **arguments: Any) -> Plan[Any]:
    """Ask ``public.usersync`` for an operation; ids may be given as such."""
    return (yield from call("usersync", operation=operation, arguments=_plain(arguments)))


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(each) for key, each in value.items() if each is not None}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    return str(value) if isinstance(value, UUID) else value


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
