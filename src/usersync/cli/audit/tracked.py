"""``usersync audit tracked``: lists the tracked tables and their state."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from usersync.cli.audit.tracking_view import TrackedView, is_secret
from usersync.cli.options import Call, common_options, examples

if TYPE_CHECKING:
    from usersync.cli.output import View


@click.command(epilog=examples(("usersync audit tracked", "each table with its state")))
@common_options
def tracked(call: Call) -> View:
    """List the tables whose changes are recorded.

    A table that was altered after 'usersync audit track' is 'stale', with the reason. Run 'usersync audit
    track' again to update it. Exit code 1 if a table is stale.
    """
    from usersync.audit import reading  # noqa: PLC0415 - only if used
    from usersync.audit.tracking import tables as tracked_tables  # noqa: PLC0415 - only if used

    settings = call.run(reading.installed_settings())
    return TrackedView(call.run(tracked_tables.tracked(settings, is_secret())), call.target)
