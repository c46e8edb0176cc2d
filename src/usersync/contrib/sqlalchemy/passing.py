"""The audit context as settings of the database's transaction, where row tracking reads them.

The settings are local to the transaction, so the next user of a pooled connection does not have them. They
are sent once for each transaction, before the first statement that may write. A transaction that only reads
has no cost.
"""

from __future__ import annotations

import logging
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from sqlalchemy import CompoundSelect, Select, event, text
from sqlalchemy.engine import Engine
from sqlalchemy.sql import visitors
from sqlalchemy.sql.dml import UpdateBase
from sqlalchemy.sql.elements import (
    ReleaseSavepointClause,
    RollbackToSavepointClause,
    SavepointClause,
    TextClause,
)
from sqlalchemy.sql.functions import Function, FunctionElement

from usersync.audit.event.context import current
from usersync.contrib.transaction_settings import NAMES, NOTHING, settings_of_context
from usersync.errors import ArgumentTypeError, ArgumentValueError

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy.engine import Connection, ExecutionContext
    from sqlalchemy.engine.interfaces import Compiled
    from sqlalchemy.ext.asyncio import AsyncEngine

_log = logging.getLogger("usersync.sqlalchemy")

_SET = text("select " + ", ".join(f"set_config('usersync.{name}', :{name}, true)" for name in NAMES))

#: The key in a connection's info for the settings that its transaction has.
_KEY = "usersync"

_ROLLS_BACK = re.compile(r"\s*(rollback|abort)\b", re.IGNORECASE)
_CONTROLS = re.compile(
    r"\s*(savepoint|release|rollback|abort|commit|end|begin|start|set|show)\b", re.IGNORECASE
)
_SAVEPOINTS = (SavepointClause, ReleaseSavepointClause, RollbackToSavepointClause)


@dataclass
class _Told:
    """The settings of the transaction; None if unknown."""

    values: tuple[str, ...] | None


def pass_context(engine: Engine | AsyncEngine) -> None:
    """Pass the actor and the request to the database, in each transaction that may write.

    Row changes that ``usersync audit track`` records then have the actor, the request id, the address and the
    user agent of the audit context. Without a context nothing is sent. Calling it again has no effect.

    A connection in autocommit has no transaction, so nothing is sent; a warning says so once. Raises
    ``SettingsError`` if ``engine`` is not an engine for PostgreSQL.
    """
    target = getattr(engine, "sync_engine", engine)
    if not isinstance(target, Engine):
        raise ArgumentTypeError(
            f"pass_context: expected an Engine or an AsyncEngine, got {type(engine).__name__}",
            hint="Pass the result of create_engine() or create_async_engine().",
        )
    if target.dialect.name != "postgresql":
        raise ArgumentValueError(
            f"pass_context: expected an engine for PostgreSQL, and this is for {target.name}"
        )
    for name, listener in _LISTENERS.items():
        if not event.contains(target, name, listener):
            event.listen(target, name, listener)


def _forget(connection: Connection, *_: object) -> None:
    connection.info.pop(_KEY, None)


def _take_back(connection: Connection, *_: object) -> None:
    """A rollback to a savepoint also reverts the settings that were sent after it."""
    if told := connection.info.get(_KEY):
        told.values = None


def _before(
    connection: Connection,
    _cursor: object,
    statement: str,
    _parameters: object,
    context: ExecutionContext | None,
    _executemany: bool,
) -> None:
    told: _Told | None = connection.info.get(_KEY)
    if told is None and not current():
        return
    asked = context.compiled.statement if context is not None and context.compiled is not None else None
    if told is not None and _ROLLS_BACK.match(statement) and not isinstance(asked, _SAVEPOINTS):
        _take_back(connection)
    if asked is _SET or _changes_nothing(statement, context):
        return
    wanted = settings_of_context()
    if wanted == (NOTHING if told is None else told.values):
        return
    if getattr(connection.connection.dbapi_connection, "autocommit", False):
        _warn_once()
        return
    told = connection.info[_KEY] = _Told(None)
    connection.execute(_SET, dict(zip(NAMES, wanted, strict=True)))
    told.values = wanted


_LISTENERS: dict[str, Callable[..., None]] = {
    "begin": _forget,
    "commit": _forget,
    "rollback": _forget,
    "rollback_savepoint": _take_back,
    "before_cursor_execute": _before,
}


def _changes_nothing(statement: str, context: ExecutionContext | None) -> bool:
    """Whether the statement can fire no trigger: a query that calls no function of the application."""
    compiled = context.compiled if context is not None else None
    if compiled is None:
        return _CONTROLS.match(statement) is not None
    found = _known.get(compiled)
    if found is None:
        found = _known[compiled] = _only_reads(compiled.statement)
    return found


# There are few compiled statements: SQLAlchemy caches them, too.
_known: WeakKeyDictionary[Compiled, bool] = WeakKeyDictionary()


def _only_reads(statement: Any) -> bool:
    if isinstance(statement, _SAVEPOINTS):
        return True
    if isinstance(statement, TextClause):
        return _CONTROLS.match(statement.text) is not None
    if not isinstance(statement, Select | CompoundSelect):
        return False
    return not any(_may_change(part) for part in visitors.iterate(statement))


def _may_change(part: object) -> bool:
    if isinstance(part, FunctionElement):
        # SQLAlchemy has a separate class for count, sum, now and similar functions.
        return type(part) is Function or type(part).__module__ != Function.__module__
    return isinstance(part, UpdateBase | TextClause)


def _warn_once() -> None:
    global _warned  # noqa: PLW0603 - once a process
    if not _warned:
        _warned = True
        _log.warning(
            "a connection in autocommit has no transaction, so the actor cannot be passed; row tracking "
            "takes the database role instead"
        )


_warned = False
