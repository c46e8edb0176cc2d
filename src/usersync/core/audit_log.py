"""Whether there is an audit log. It is created on request; another table may have its name."""

from __future__ import annotations

from typing import TYPE_CHECKING

from usersync.errors import NotInstalledError
from usersync.sql.audit_expressions import audit_log
from usersync.transports.steps import query_row

if TYPE_CHECKING:
    from usersync.config.settings import Settings
    from usersync.transports.steps import Steps

#: The command that creates the log.
COMMAND = "usersync audit enable"


def has_log(settings: Settings) -> Steps[bool]:
    """Whether there is an audit log."""
    return bool((yield from query_row(f"select {audit_log(settings)} is not null as found"))["found"])


def has_events(settings: Settings) -> Steps[bool]:
    """Whether there is an audit log that holds an event."""
    if not (yield from has_log(settings)):
        return False
    row = yield from query_row(f"select exists (select from {settings.audit_table.quoted}) as found")
    return bool(row["found"])


def no_log() -> NotInstalledError:
    """The error of operations that require a log."""
    return NotInstalledError("there is no audit log in this database", hint=f"To create it, run: {COMMAND}")
