"""Whether the failures table is empty; if not, the causes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from usersync.doctor.context import Context, Definition, Verdict, lines, number
from usersync.models import Finding
from usersync.transports.steps import query

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from usersync.transports.steps import Row, Steps

_CAUSES = """
    select sqlstate, constraint_name, column_name, raised_in, count(distinct user_id) as users,
        count(*) filter (where outcome = 'failed' and kind = 'row') as failed,
        count(*) filter (where kind = 'removal') as removals,
        count(*) filter (where kind = 'event') as events,
        min(message) as message,
        min(first_failed_at) as oldest
    from usersync.sync_failures
    where kind = 'event' or user_id <> all((select usersync.resolved_failures())::uuid[])
    group by sqlstate, constraint_name, column_name, raised_in
    order by count(*) desc, min(first_failed_at)
    limit 10
"""

_FIX = "-- First fix the causes above, then:\nusersync failures\nusersync retry"


def look(context: Context) -> Steps[Verdict]:
    causes = yield from query(_CAUSES)
    if not causes:
        return Verdict("the failures table is empty")
    oldest = min(cause["oldest"] for cause in causes)
    first = f"the oldest failure is from {oldest:%Y-%m-%d %H:%M %Z}; the causes, the most frequent first:"
    fix = "".join(_setting_advice(causes)) + _FIX
    fix = "usersync resume" if context.inspection.catalog["paused"] else fix
    return Verdict(
        "",
        (Finding("D018", "usersync.sync_failures", lines([first, *(_cause(row) for row in causes)]), fix),),
    )


def _setting_advice(causes: Sequence[Row]) -> Iterator[str]:
    """Advice for failures caused by a trigger of the application that changes or skips rows on purpose."""
    changed = sorted({str(cause["column_name"]) for cause in causes if cause["sqlstate"] == "US001"})
    if changed:
        names = ", ".join(changed)
        yield f'-- To keep what a trigger sets for {names}: owner = "app" in [columns], then apply.\n'
    if any(cause["sqlstate"] == "US002" and cause["failed"] for cause in causes):
        yield '-- If a trigger skips users on purpose: set skip = ["without_email"], then apply.\n'


def _cause(row: Row) -> str:
    places = {
        "constraint": row["constraint_name"],
        "column": row["column_name"],
        "raised in": row["raised_in"],
    }
    where = "".join(f", {kind} {name}" for kind, name in places.items() if name)
    parts = [
        f"{row['removals']:,} whose row is to be removed or emptied" if row["removals"] else "",
        f"{number(row['events'], 'event')} not in the audit log" if row["events"] else "",
    ]
    if row["failed"] or not any(parts):
        parts.insert(0, f"{row['failed']:,} without a row")
    count = f"{number(row['users'], 'user')} ({', '.join(filter(None, parts))})"
    return f"{count}: SQLSTATE {row['sqlstate']}{where}: {row['message']}"


CHECK = Definition("D018", "Failures table", look)
