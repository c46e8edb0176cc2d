"""Whether changes of the tracked tables are still recorded, with their current columns."""

from __future__ import annotations

from typing import TYPE_CHECKING

from usersync.audit.reading import installed_settings
from usersync.audit.tracking.tables import tracked
from usersync.core.audit_log import COMMAND, has_log
from usersync.doctor.context import Context, Definition, Verdict, number
from usersync.models import Finding

if TYPE_CHECKING:
    from usersync.audit.tracking.tables import TrackedTable
    from usersync.transports.steps import Steps


def look(context: Context) -> Steps[Verdict]:  # noqa: ARG001 - the functions were generated from the settings in the database
    settings = yield from installed_settings()
    tables = yield from tracked(settings)
    if tables and not (yield from has_log(settings)):
        return Verdict("", (_without_log(tables),))
    return Verdict(
        f"{number(len(tables), 'table')}, recorded as installed" if tables else "none",
        tuple(_finding(table) for table in tables if table.state != "current"),
    )


def _without_log(tables: tuple[TrackedTable, ...]) -> Finding:
    return Finding(
        "D029",
        "audit log",
        f"no change is recorded of {', '.join(str(each.table) for each in tables)}: there is no audit log",
        COMMAND,
    )


def _finding(table: TrackedTable) -> Finding:
    reasons = "; ".join(table.reasons)
    # Untracking removes the last trace that changes were recorded, so it is left to a person.
    gone = table.state == "gone"
    return Finding(
        "D029",
        f"table {table.table}",
        f"{table.table}: {reasons}",
        f"-- If the table will not be restored: {table.command}" if gone else table.command,
        "problem" if table.broken else "warning",
    )


CHECK = Definition("D029", "Tracked tables", look)
