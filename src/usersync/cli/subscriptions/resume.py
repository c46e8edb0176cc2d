"""``usersync subscriptions resume``: continues a paused subscription."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from usersync.cli.options import Call, common_options, examples
from usersync.cli.subscriptions.view import TABLE, SubscriptionsView

if TYPE_CHECKING:
    from usersync.cli.output import View


@click.command(epilog=examples(("usersync subscriptions resume crm", "the events of the pause follow")))
@click.argument("name", metavar="NAME")
@common_options
def resume(call: Call, name: str) -> View:
    """Continue a paused subscription where it stopped.

    A subscription that the worker has paused itself is continued in the same way.
    """
    from usersync.events import subscriptions  # noqa: PLC0415 - only if used

    if call.run(subscriptions.resume(name)):
        call.record_act("usersync.subscription_resumed", table=TABLE, subscription=name)
    return SubscriptionsView(call.run(subscriptions.subscriptions(name)), call.target, "Active:")
