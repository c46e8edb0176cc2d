"""``usersync subscriptions remove``: deletes a subscription."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from usersync.cli.options import Call, common_options, examples
from usersync.cli.subscriptions.view import TABLE, SubscriptionsView
from usersync.cli.text import bad, plain

if TYPE_CHECKING:
    from usersync.cli.output import View


@click.command(epilog=examples(("usersync subscriptions remove crm", "asks, then deletes")))
@click.argument("name", metavar="NAME")
@click.option("--yes", is_flag=True, help="Do not ask. Required without a terminal.")
@common_options
def remove(call: Call, name: str, *, yes: bool) -> View:
    """Delete a subscription with its position and its parked events.

    The events in the audit log stay. A later subscription of this name starts anew.
    """
    from usersync.events import subscriptions  # noqa: PLC0415 - only if used

    call.run(subscriptions.subscriptions(name))
    call.require_consent(yes=yes)
    if not yes:
        call.ask(f"Delete {bad('permanently')} the position and the parked events of {plain(name)}?")
    removed = call.run(subscriptions.remove(name))
    call.record_act(
        "usersync.subscription_removed",
        table=TABLE,
        subscription=name,
        lag=removed.lag,
        parked=removed.parked,
        dead=removed.dead,
    )
    return SubscriptionsView((removed,), call.target, "Removed:")
