"""The sessions that hold a lock for which usersync has waited too long."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from usersync.errors import UsersyncError
from usersync.sql.expressions import literal
from usersync.sql.render import render_catalog
from usersync.transports.steps import PIN_SEARCH_PATH, query, read_only

if TYPE_CHECKING:
    from datetime import datetime

    from usersync.config.mapping import TableName
    from usersync.config.settings import Settings
    from usersync.transports.steps import Steps


@dataclass(frozen=True)
class Blocker:
    """A session that holds a lock on one of the tables that usersync works with."""

    pid: int
    user: str
    #: The table.
    what: str
    mode: str
    state: str
    #: When its transaction began.
    since: datetime
    #: The first 200 characters of its last statement.
    query: str

    def __str__(self) -> str:
        return (
            f"pid {self.pid}, user {self.user}, {self.state} since {self.since:%Y-%m-%d %H:%M:%S %Z}, holds "
            f"{self.mode} on {self.what}: {self.query or 'no query'}"
        )


def blockers(settings: Settings, *tables: TableName) -> Steps[tuple[Blocker, ...]]:
    """The sessions that hold locks on these tables, on usersync's tables or on tracked tables. Empty if the
    lock was released, or if the locks cannot be read."""
    watched = ", ".join(literal(each.quoted) for each in tables)
    text = render_catalog("blockers", settings, watched_tables=watched)
    try:
        rows = yield from read_only(query(PIN_SEARCH_PATH + text))
    except UsersyncError:
        return ()
    return tuple(Blocker(**row) for row in rows)


def advice(found: tuple[Blocker, ...]) -> str:
    """A hint: wait for these sessions, or end them."""
    if not found:
        return "The lock was released meanwhile. Run the command again."
    return (
        f"{'; '.join(map(str, found))}. Wait for it, or end it: select pg_terminate_backend({found[0].pid}); "
        "then run this again."
    )
