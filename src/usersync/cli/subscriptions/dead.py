"""``usersync subscriptions dead``: lists the dead events."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from usersync.cli.options import Call, common_options, examples
from usersync.cli.subscriptions.view import ParkedView

if TYPE_CHECKING:
    from usersync.cli.output import View


@click.command(
    epilog=examples(
        ("usersync subscriptions dead", "of all subscriptions"),
        ("usersync subscriptions dead crm", "of one"),
    )
)
@click.argument("name", metavar="[NAME]", required=False)
@click.option(
    "--limit",
    type=click.IntRange(1, 10_000),
    default=100,
    show_default=True,
    metavar="N",
    help="Maximum number of events to show, the oldest first.",
)
@common_options
def dead(call: Call, name: str | None, limit: int) -> View:
    """List the dead events: all their attempts failed.

    Each has its number in the feed, the entity, the last error and the number of attempts. Exit code 1 if
    there are any.
    """
    from usersync.events import subscriptions  # noqa: PLC0415 - only if used

    found = call.run(subscriptions.parked_events(name, state="dead", limit=limit))
    return ParkedView(found, call.target, "dead")
