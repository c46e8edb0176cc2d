"""``usersync subscriptions set-url``: changes the URL of a webhook."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from usersync.cli.options import Call, common_options, examples
from usersync.cli.subscriptions.view import TABLE, SubscriptionsView

if TYPE_CHECKING:
    from usersync.cli.output import View


@click.command(
    "set-url", epilog=examples(("usersync subscriptions set-url crm URL", "the receiver has moved"))
)
@click.argument("name", metavar="NAME")
@click.argument("url", metavar="URL")
@click.option(
    "--allow-private",
    is_flag=True,
    help="Allow an address of this machine or of a private network, and http to it.",
)
@common_options
def set_url(call: Call, name: str, url: str, *, allow_private: bool) -> View:
    """Change the URL of a webhook.

    Its position, parked events, secret and filters stay. Workers use the new URL within seconds. The webhook
    then belongs to this database. To try events again that failed with the old URL: 'usersync subscriptions
    retry'.
    """
    from usersync.events import subscriptions  # noqa: PLC0415 - only if used
    from usersync.events.webhooks import subscription  # noqa: PLC0415 - needs an extra

    call.run(subscription.set_url(name, url, allow_private=allow_private))
    call.record_act("usersync.subscription_url_changed", table=TABLE, subscription=name)
    return SubscriptionsView(call.run(subscriptions.subscriptions(name)), call.target, "URL changed:")
