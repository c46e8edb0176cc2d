"""``usersync subscriptions pause``: stops handling the events of a subscription."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from usersync.cli.options import Call, common_options, examples
from usersync.cli.subscriptions.view import TABLE, SubscriptionsView

if TYPE_CHECKING:
    from usersync.cli.output import View


@click.command(epilog=examples(('usersync subscriptions pause crm --reason "moving"', "until resume")))
@click.argument("name", metavar="NAME")
@click.option("--reason", metavar="TEXT", help="The reason, shown by 'list'.")
@common_options
def pause(call: Call, name: str, reason: str | None) -> View:
    """Stop handling the events of a subscription. They wait.

    Workers stop within seconds, after the event in hand.
    """
    from usersync.events import subscriptions  # noqa: PLC0415 - only if used

    if call.run(subscriptions.pause(name, reason=reason)):
        call.record_act("usersync.subscription_paused", table=TABLE, subscription=name, reason=reason)
    return SubscriptionsView(call.run(subscriptions.subscriptions(name)), call.target, "Paused:")
