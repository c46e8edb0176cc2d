"""Whether triggers fire: a session with ``session_replication_role = replica`` skips them silently."""

from __future__ import annotations

from typing import TYPE_CHECKING

from usersync.doctor.context import Context, Definition, Verdict
from usersync.models import Finding
from usersync.schema.trial.role_settings import settings_in_force

if TYPE_CHECKING:
    from usersync.transports.steps import Row, Steps


def look(context: Context) -> Steps[Verdict]:
    rows = yield from settings_in_force(context.settings, "session_replication_role")
    replicas = [row for row in rows if row["value"] == "replica"]
    return Verdict("triggers fire", tuple(_finding(row) for row in replicas))


def _finding(row: Row) -> Finding:
    return Finding(
        "D021",
        f"role {row['role']}",
        f"sessions of {row['role']} start with session_replication_role = replica ({row['origin']}), so "
        "no trigger fires. Open sessions keep the setting: restart the auth server after the fix",
        row["fix"],
    )


CHECK = Definition("D021", "Replication role", look, "source")
