"""``usersync subscriptions list``: lists the subscriptions."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from usersync.cli.options import Call, common_options, examples
from usersync.cli.subscriptions.view import SubscriptionsView

if TYPE_CHECKING:
    from usersync.cli.output import View


@click.command(
    "list",
    epilog=examples(
        ("usersync subscriptions list", "each subscription in one line"),
        ("usersync subscriptions list --json", "for programs"),
    ),
)
@common_options
def list(call: Call) -> View:  # noqa: A001 - the name of the command
    """List the subscriptions: lag, events in flight, parked and dead.

    The lag is the number of events that the subscription has not read yet, whether its filter matches them
    or not. Of the events since the last worker ended, it counts 10,000 at most. In flight are the events that
    workers are handling. Each worker writes this number every 3 seconds, so events that take less time may be
    missing from it. Exit code 1 if there are dead events, or if a subscription is held or is active without a
    worker.
    """
    from usersync.events import subscriptions  # noqa: PLC0415 - only if used

    return SubscriptionsView(call.run(subscriptions.subscriptions()), call.target, judges=True)
