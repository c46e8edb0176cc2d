"""``usersync subscriptions show``: one subscription, its parked events and its last attempts."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from usersync.cli.options import Call, common_options, examples
from usersync.cli.subscriptions.view import SubscriptionsView

if TYPE_CHECKING:
    from usersync.cli.output import View

_ATTEMPTS = 5


@click.command(epilog=examples(("usersync subscriptions show crm", "its lag, failed events, attempts")))
@click.argument("name", metavar="NAME")
@click.option(
    "--limit",
    type=click.IntRange(1, 10_000),
    default=20,
    show_default=True,
    metavar="N",
    help="Maximum number of parked events to show, the oldest first.",
)
@common_options
def show(call: Call, name: str, limit: int) -> View:
    """Show one subscription, its parked events and its last attempts.

    'usersync subscriptions attempts' shows more attempts. Exit code 1 if there are dead events, or if it is
    held or has no worker.
    """
    from usersync.events import subscriptions  # noqa: PLC0415 - only if used

    found = call.run(subscriptions.subscriptions(name))
    parked = call.run(subscriptions.parked_events(name, limit=limit))
    attempts = call.run(subscriptions.attempts(name, limit=_ATTEMPTS))
    return SubscriptionsView(found, call.target, parked=parked, attempts=attempts, judges=True)
