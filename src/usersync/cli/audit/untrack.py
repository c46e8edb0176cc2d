"""``usersync audit untrack``: removes what ``track`` installed on a table."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from usersync.cli.audit.tracking_view import TrackingSqlView, UntrackView
from usersync.cli.options import Call, common_options, examples

if TYPE_CHECKING:
    from usersync.cli.output import View


@click.command(
    epilog=examples(
        ("usersync audit untrack products --dry-run", "shows what would be dropped"),
        ("usersync audit untrack products", "drops the triggers"),
    )
)
@click.argument("table")
@click.option("--dry-run", is_flag=True, help="Show what would be dropped, and drop nothing.")
@click.option("--sql", "with_sql", is_flag=True, help="Print the SQL, for a migration, and drop nothing.")
@common_options
def untrack(call: Call, table: str, dry_run: bool, with_sql: bool) -> View:
    """Stop recording the changes of a table.

    The recorded events stay. Exit code 1 if the table was not tracked.
    """
    from usersync.audit import reading  # noqa: PLC0415 - only if used
    from usersync.audit.tracking import operations as tracking  # noqa: PLC0415 - only if used

    settings = call.run(reading.installed_settings())
    operation = tracking.plan_untrack if dry_run or with_sql else tracking.untrack
    done = call.run(operation(settings, table))
    if with_sql:
        return TrackingSqlView(done, tracking.script(done))
    if done.changes and not dry_run:
        call.record_act("usersync.table_untracked", table=str(done.table))
    return UntrackView(done, call.target, dry_run=dry_run)
