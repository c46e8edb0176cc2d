"""Whether the users table is there and takes the rows that are meant for it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from usersync.models import Finding
from usersync.plans.doctor.context import Context, Definition, Verdict, settled

if TYPE_CHECKING:
    from usersync.transports.steps import Plan


def look(context: Context) -> Plan[Verdict]:
    table = context.settings.users_table
    if not context.inspection.has_users_table:
        missing = Finding(
            "D012",
            f"table {table}",
            f"there is no table {table}: no user gets a row. If it was renamed, set users_table; "
            "otherwise a new one is made and filled",
            "usersync apply",
        )
        return settled(Verdict("", (missing,)))
    return settled(Verdict(f"{table} takes every user", context.found("D012")))


CHECK = Definition("D012", "Shape of the users table", look)
