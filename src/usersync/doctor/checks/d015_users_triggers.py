"""The application's triggers on the users table. Their functions run with usersync's search path."""

from __future__ import annotations

from typing import TYPE_CHECKING

from usersync.doctor.context import Context, Definition, Verdict
from usersync.models import Finding
from usersync.schema.adoption import users_triggers

if TYPE_CHECKING:
    from collections.abc import Iterator

    from usersync.transports.steps import Row, Steps


def look(context: Context) -> Steps[Verdict]:
    rows = yield from users_triggers(context.bundle)
    listed = ", ".join(f"{row['name']} ({row['function']})" for row in rows)
    return Verdict(listed or "none", tuple(_findings(rows)))


def _findings(rows: tuple[Row, ...]) -> Iterator[Finding]:
    for row in rows:
        if row["names"]:
            alter = f"alter function {row['function']} set search_path = {row['search_path']};"
            yield Finding(
                "D015",
                f"trigger {row['name']}",
                f"the trigger {row['name']} runs {row['function']}, which finds {', '.join(row['names'])} "
                "by its caller's search path. During a sign-up it does not, and the sync of the user fails",
                alter if row["is_ours"] else f"-- To be run by the owner of the function: {alter}",
                "warning",
            )


CHECK = Definition("D015", "Triggers on the users table", look, "users table")
