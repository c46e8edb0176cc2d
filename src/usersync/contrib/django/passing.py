"""The audit context as settings of the database's transaction, where row tracking reads them.

They go in front of each statement that writes, in the same message: that costs no round trip, and holds in
autocommit too, because PostgreSQL runs the statements of one message in one transaction. They are local to
it, so that nothing is left on a connection that is kept, or that a pooler gives to somebody else next.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import psycopg
from django.db.backends.signals import connection_created
from psycopg import sql as psycopg_sql
from psycopg.pq import TransactionStatus

from usersync.contrib.django.config import config
from usersync.contrib.transaction_settings import NAMES, NOTHING, settings_of_context

if TYPE_CHECKING:
    from collections.abc import Callable

_WRITES = re.compile(r"\s*(insert|update|delete|merge|truncate|with|call|do)\b", re.IGNORECASE)

#: On a connection of Django's: whether the transaction that is open was told something.
_TOLD = "_usersync_told"


def install() -> None:
    """Have connections to ``USERSYNC["DATABASE"]`` do so from now on, if ``PASS_CONTEXT`` says that."""
    connection_created.connect(_prepare, dispatch_uid="usersync")


def _prepare(connection: Any, **_: object) -> None:
    wrappers = connection.execute_wrappers
    wanted = config().pass_context and connection.alias == config().database
    if wanted and connection.vendor == "postgresql" and _pass not in wrappers:
        wrappers.append(_pass)


def _pass(
    execute: Callable[..., Any], statement: Any, params: Any, many: bool, context: dict[str, Any]
) -> Any:
    connection, cursor = context["connection"], context["cursor"]
    own = connection.connection
    if getattr(connection, _TOLD, False) and own.info.transaction_status == TransactionStatus.IDLE:
        # What the last transaction was told has ended with it.
        setattr(connection, _TOLD, False)
    if not isinstance(statement, str) or not _WRITES.match(statement):
        return execute(statement, params, many, context)
    wanted = settings_of_context()
    if wanted == NOTHING and not getattr(connection, _TOLD, False):
        return execute(statement, params, many, context)
    setting = _setting(wanted, own)
    setattr(connection, _TOLD, not own.autocommit)
    if many or not isinstance(cursor.cursor, psycopg.ClientCursor):
        # Several statements in one message are not to be had here, and so nothing in autocommit.
        if not own.autocommit:
            own.execute(setting)
        return execute(statement, params, many, context)
    prefix = setting.replace("%", "%%") if params is not None else setting
    result = execute(f"{prefix}; {statement}", params, many, context)
    cursor.nextset()
    return result


def _setting(values: tuple[str, ...], connection: Any) -> str:
    calls = [
        psycopg_sql.SQL("set_config({}, {}, true)").format(f"usersync.{name}", value)
        for name, value in zip(NAMES, values, strict=True)
    ]
    return psycopg_sql.SQL("select {}").format(psycopg_sql.SQL(", ").join(calls)).as_string(connection)
