"""``usersync audit track``: record a table's changes without touching the application."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from usersync.cli.audit.tracking_view import TrackView, column_list, is_secret
from usersync.cli.options import Call, common_options, examples

if TYPE_CHECKING:
    from usersync.cli.output import View


@click.command(
    epilog=examples(
        ("usersync audit track products --dry-run", "what would be installed"),
        ("usersync audit track products", "record all columns"),
        ("usersync audit track shop.orders --exclude notes", "all but one"),
    )
)
@click.argument("table")
@click.option("--columns", callback=column_list, metavar="A,B", help="Record only these, and the key.")
@click.option("--exclude", callback=column_list, metavar="A,B", help="Record all but these.")
@click.option(
    "--reveal",
    callback=column_list,
    metavar="A,B",
    help="Record values of these although their names look like secrets.",
)
@click.option("--dry-run", is_flag=True, help="Show what would be installed, and install nothing.")
@common_options
def track(call: Call, table: str, *, dry_run: bool, **columns: tuple[str, ...]) -> View:
    """Record every change of a table's rows from now on.

    Each INSERT, UPDATE, DELETE and TRUNCATE becomes events in the transaction that does it, with the columns
    that changed. The actor is the transaction's setting usersync.actor_id, else the user of the JWT, else
    the database role. A failing record never fails the application's statement. Done again, other options
    replace these.
    """
    from usersync.audit import reading  # noqa: PLC0415 - only when it is wanted
    from usersync.audit.tracking import operations as tracking  # noqa: PLC0415 - only when it is wanted
    from usersync.audit.tracking.state import TrackOptions  # noqa: PLC0415 - likewise

    settings = call.run(reading.installed_settings())
    options = TrackOptions(**columns)
    plan = tracking.plan_track if dry_run else tracking.track
    done = call.run(plan(settings, table, options, is_secret()))
    if done.changes and not dry_run:
        call.record_act(
            "usersync.table_tracked", begins_log=True, table=str(done.table), columns=list(done.columns)
        )
    return TrackView(done, call.target, dry_run=dry_run)
