"""The audit context as settings of the database's transaction, where row tracking reads them.

They are sent before each statement that writes, in the same message. That costs no round trip, and works in
autocommit too, because PostgreSQL runs the statements of one message in one transaction. They are local to
the transaction, so the next user of a kept or pooled connection does not have them.
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

#: On a Django connection: whether the settings were sent in the open transaction.
_TOLD = "_usersync_told"


def install() -> None:
    """Send the settings on connections to ``USERSYNC["DATABASE"]`` from now on if ``PASS_CONTEXT`` is set."""
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
        # The settings ended with the last transaction.
        setattr(connection, _TOLD, False)
    if not isinstance(statement, str) or not _WRITES.match(statement):
        return execute(statement, params, many, context)
    wanted = settings_of_context()
    if wanted == NOTHING and not getattr(connection, _TOLD, False):
        return execute(statement, params, many, context)
    setting = _setting(wanted, own)
    setattr(connection, _TOLD, not own.autocommit)
    if many or not isinstance(cursor.cursor, psycopg.ClientCursor):
        # One message can have only one statement here, so nothing is sent in autocommit.
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
