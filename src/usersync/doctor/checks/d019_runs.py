"""Whether a run of `sync` is unfinished."""

from __future__ import annotations

from typing import TYPE_CHECKING

from usersync.doctor.context import Context, Definition, Verdict, number
from usersync.models import Finding
from usersync.transports.steps import query

if TYPE_CHECKING:
    from usersync.transports.steps import Row, Steps

# A page takes seconds at most. A later run that finished has also done the rest of an earlier one.
_STALLED = """
    select run_id, max(updated_at) as updated_at, max(started_at) as started_at, sum(examined) as examined,
        bool_or(state = 'running') as running
    from usersync.sync_runs
    group by run_id
    having not bool_and(state = 'finished')
        and max(updated_at) < now() - interval '10 minutes'
        and not exists (
            select from usersync.sync_runs as later
            where later.started_at > max(sync_runs.started_at)
            group by later.run_id
            having bool_and(later.state = 'finished')
        )
    order by max(updated_at) desc
    limit 1
"""


def look(context: Context) -> Steps[Verdict]:  # noqa: ARG001 - the query does not depend on the settings
    rows = yield from query(_STALLED)
    return Verdict("none is unfinished", tuple(_finding(row) for row in rows))


def _finding(row: Row) -> Finding:
    how = "was killed" if row["running"] else "was interrupted"
    return Finding(
        "D019",
        "usersync.sync_runs",
        f"the run of {row['started_at']:%Y-%m-%d %H:%M %Z} {how} after "
        f"{number(int(row['examined']), 'user')}, and not resumed",
        "usersync sync --resume",
        "warning",
    )


CHECK = Definition("D019", "Reconciling runs", look)
