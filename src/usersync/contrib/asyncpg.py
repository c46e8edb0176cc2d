"""asyncpg: passes the actor to the database, where row tracking records it.

::

    pool = await asyncpg.create_pool(dsn, connection_class=ContextConnection)

    with audit.context(actor_id=user.id):
        async with pool.acquire() as connection, connection.transaction():
            await connection.execute("insert into products (name) values ($1)", "Bolt")
"""

from __future__ import annotations

import functools
import re
from typing import TYPE_CHECKING, Any

from usersync.config.extras import needed
from usersync.contrib.transaction_settings import NAMES, NOTHING, settings_of_context

with needed("asyncpg", "usersync.contrib.asyncpg"):
    import asyncpg

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["ContextConnection"]

_SET = "select " + ", ".join(f"set_config('usersync.{name}', ${n}, true)" for n, name in enumerate(NAMES, 1))
_ROLLS_BACK = re.compile(r"\s*(rollback|abort|commit|end)\b", re.IGNORECASE)
_CONTROLS = re.compile(r"\s*(savepoint|release|begin|start|set|show)\b", re.IGNORECASE)


class ContextConnection(asyncpg.Connection):  # type: ignore[misc] # asyncpg has no types
    """A connection of asyncpg that passes the actor and the request to the database in each transaction.

    Use it as ``connection_class`` of ``asyncpg.connect()`` or ``asyncpg.create_pool()``. Row changes that
    ``usersync audit track`` records then have the actor, the request id, the tenant, the address and the user
    agent of the audit context. The settings are sent before the first statement of a transaction, and again
    after the context has changed; they end with the transaction. Without a context nothing is sent.

    Outside of a transaction nothing is sent, because there each statement is a transaction of its own. A
    prepared statement passes the context in which it was prepared, or that of the last statement of the
    transaction.
    """

    #: The settings that the open transaction has; None if unknown.
    _usersync_told: tuple[str, ...] | None = NOTHING

    async def _usersync_tell(self, query: object) -> None:
        statement = query if isinstance(query, str) else ""
        if not self.is_in_transaction():
            self._usersync_told = NOTHING
        elif _ROLLS_BACK.match(statement):
            # A rollback to a savepoint reverts the settings that were sent after it.
            self._usersync_told = None
        elif not _CONTROLS.match(statement):
            wanted = settings_of_context()
            if wanted != self._usersync_told:
                await asyncpg.Connection.execute(self, _SET, *wanted)
                self._usersync_told = wanted


def _telling(method: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(method)
    async def call(self: ContextConnection, *args: Any, **options: Any) -> Any:
        await self._usersync_tell(args[0] if args else None)
        return await method(self, *args, **options)

    return call


for _name in (
    *("execute", "executemany", "fetch", "fetchmany", "fetchrow", "fetchval"),
    *("copy_records_to_table", "copy_to_table", "prepare"),
):
    setattr(ContextConnection, _name, _telling(getattr(asyncpg.Connection, _name)))
