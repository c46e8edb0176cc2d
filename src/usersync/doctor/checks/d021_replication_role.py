"""Whether triggers fire at all: a session in the role ``replica`` skips them without a word."""

from __future__ import annotations

from typing import TYPE_CHECKING

from usersync.doctor.context import Context, Definition, Verdict
from usersync.models import Finding
from usersync.schema.trial.role_settings import settings_in_force

if TYPE_CHECKING:
    from usersync.transports.steps import Row, Steps


def look(context: Context) -> Steps[Verdict]:
    rows = yield from settings_in_force(context.settings, "session_replication_role")
    silent = [row for row in rows if row["value"] == "replica"]
    return Verdict("triggers fire", tuple(_finding(row) for row in silent))


def _finding(row: Row) -> Finding:
    return Finding(
        "D021",
        f"role {row['role']}",
        f"sessions of {row['role']} start with session_replication_role = replica ({row['origin']}), where "
        "no trigger fires. Sessions that are open keep it: restart the auth server afterwards",
        row["fix"],
    )


CHECK = Definition("D021", "Replication role", look, "source")
