"""``usersync audit track``: records a table's changes with triggers, without code in the application."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from usersync.cli.audit.tracking_view import TrackingSqlView, TrackView, is_secret
from usersync.cli.options import Call, common_options, examples, names

if TYPE_CHECKING:
    from usersync.cli.output import View


@click.command(
    epilog=examples(
        ("usersync audit track products --dry-run", "shows the changes"),
        ("usersync audit track products", "records all columns"),
        ("usersync audit track shop.orders --exclude notes", "without one column"),
        ("usersync audit track products --sql > track.sql", "the SQL, for a migration"),
    )
)
@click.argument("table")
@click.option(
    "--columns",
    multiple=True,
    callback=names,
    metavar="A,B",
    help="Record only these columns and the key. Repeatable.",
)
@click.option(
    "--exclude",
    multiple=True,
    callback=names,
    metavar="A,B",
    help="Record all columns except these. Repeatable.",
)
@click.option(
    "--reveal",
    multiple=True,
    callback=names,
    metavar="A,B",
    help="Record the values of these columns even if their names look like secrets. Repeatable.",
)
@click.option("--dry-run", is_flag=True, help="Show what would be installed, and install nothing.")
@click.option("--sql", "with_sql", is_flag=True, help="Print the SQL, for a migration, and install nothing.")
@common_options
def track(call: Call, table: str, *, dry_run: bool, with_sql: bool, **columns: tuple[str, ...]) -> View:
    """Record every change of a table's rows from now on.

    Each INSERT, UPDATE, DELETE and TRUNCATE creates events with the changed columns, in the same transaction.
    The actor is the transaction's setting usersync.actor_id, else the user of the JWT, else the database
    role. A failure to record never fails the application's statement. Run the command again to change the
    options.
    """
    from usersync.audit import reading  # noqa: PLC0415 - only if used
    from usersync.audit.tracking import operations as tracking  # noqa: PLC0415 - only if used
    from usersync.audit.tracking.state import TrackOptions  # noqa: PLC0415 - only if used

    settings = call.run(reading.installed_settings())
    options = TrackOptions(**columns)
    operation = tracking.plan_track if dry_run or with_sql else tracking.track
    done = call.run(operation(settings, table, options, is_secret()))
    if with_sql:
        return TrackingSqlView(done, tracking.script(done))
    if done.changes and not dry_run:
        call.record_act(
            "usersync.table_tracked", begins_log=True, table=str(done.table), columns=list(done.columns)
        )
    return TrackView(done, call.target, dry_run=dry_run)
