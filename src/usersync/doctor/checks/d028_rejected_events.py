"""Whether the database rejected events because of their content."""

from __future__ import annotations

from typing import TYPE_CHECKING

from usersync.doctor.context import Context, Definition, Verdict, lines, number
from usersync.models import Finding
from usersync.transports.steps import query

if TYPE_CHECKING:
    from usersync.transports.steps import Steps

_REASONS = """
    select sqlstate, min(reason) as reason, count(*) as events, min(rejected_at) as oldest
    from usersync.audit_rejects
    group by sqlstate, left(reason, 60)
    order by count(*) desc
    limit 10
"""

_FIX = """\
usersync audit rejects
-- After the reason for the rejection is fixed:
usersync audit rejects --retry"""


def look(context: Context) -> Steps[Verdict]:  # noqa: ARG001 - the query does not depend on the settings
    rows = yield from query(_REASONS)
    if not rows:
        return Verdict("none")
    oldest = min(row["oldest"] for row in rows)
    first = f"not in the audit log, the oldest since {oldest:%Y-%m-%d %H:%M %Z}:"
    causes = (
        f"{number(row['events'], 'event')}: SQLSTATE {row['sqlstate']}: {row['reason']}" for row in rows
    )
    return Verdict("", (Finding("D028", "usersync.audit_rejects", lines([first, *causes]), _FIX),))


CHECK = Definition("D028", "Rejected events", look)
