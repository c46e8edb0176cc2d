"""``usersync audit tracked``: which tables are recorded, and whether they still are as they should be."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from usersync.cli.audit.tracking_view import TrackedView, is_secret
from usersync.cli.options import Call, common_options, examples

if TYPE_CHECKING:
    from usersync.cli.output import View


@click.command(epilog=examples(("usersync audit tracked", "exit code 1 if any is out of date")))
@common_options
def tracked(call: Call) -> View:
    """The tables whose changes are recorded.

    A table that was altered since is 'stale', and says why; 'usersync audit track' brings it up to date.
    Exit code 1 if there is one.
    """
    from usersync.audit import reading  # noqa: PLC0415 - only when it is wanted
    from usersync.audit.tracking import tables as tracked_tables  # noqa: PLC0415 - only when it is wanted

    settings = call.run(reading.installed_settings())
    return TrackedView(call.run(tracked_tables.tracked(settings, is_secret())), call.target)
