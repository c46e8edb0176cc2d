"""Whether the database accepts writes of the auth server's role and of this role."""

from __future__ import annotations

from typing import TYPE_CHECKING

from usersync.doctor.context import Context, Definition, Verdict
from usersync.models import Finding
from usersync.schema.trial.role_settings import settings_in_force

if TYPE_CHECKING:
    from usersync.transports.steps import Row, Steps

_ON = {"on", "true", "yes", "1"}

_DISK = (
    "-- Supabase does this when the disk is full: free space, or enlarge the disk. If Supabase does not "
    "undo it then:\n"
)


def look(context: Context) -> Steps[Verdict]:
    if context.found("D036"):
        in_force = yield from settings_in_force(context.settings, "default_transaction_read_only")
        of_roles = tuple(_finding(row) for row in in_force if row["value"].lower() in _ON)
        return Verdict("", of_roles or context.found("D036"))
    rows = yield from settings_in_force(context.settings, "default_transaction_read_only")
    return Verdict("accepted", tuple(_finding(row) for row in rows if row["value"].lower() in _ON))


def _finding(row: Row) -> Finding:
    whose = "each sign-up and sign-in fails" if row["is_auth_server"] else "usersync cannot write"
    return Finding(
        "D036",
        f"role {row['role']}",
        f"transactions of {row['role']} are read-only (default_transaction_read_only, "
        f"{row['origin']}): {whose}",
        f"{_DISK}{row['fix']}",
    )


CHECK = Definition("D036", "Writes", look, "nothing")
