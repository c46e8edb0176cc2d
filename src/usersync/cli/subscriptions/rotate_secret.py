"""``usersync subscriptions rotate-secret``: gives a webhook a new secret."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import click

from usersync.cli.options import Call, Number, common_options, examples
from usersync.cli.subscriptions.view import TABLE

if TYPE_CHECKING:
    from usersync.cli.output import View

_MOST_HOURS = 24 * 30
_INVALID = (
    "Running workers sign with the old secret until they renew their leases (3 seconds, by default), then "
    "only with the new one."
)


@click.command(
    "rotate-secret",
    epilog=examples(
        ("usersync subscriptions rotate-secret crm", "both valid for a day"),
        ("usersync subscriptions rotate-secret crm --keep-old 0", "others know it"),
    ),
)
@click.argument("name", metavar="NAME")
@click.option(
    "--keep-old",
    "hours",
    type=Number(0, _MOST_HOURS),
    default=24,
    show_default=True,
    metavar="HOURS",
    help="Hours in which requests are also signed with the old secret.",
)
@common_options
def rotate_secret(call: Call, name: str, hours: float) -> View:
    """Give a webhook a new secret, and print it.

    For some time, requests have two signatures, so the receiver can change its secret without losing an
    event.
    """
    from usersync.cli.subscriptions.secret_view import SecretView  # noqa: PLC0415 - only if used
    from usersync.events.webhooks import subscription  # noqa: PLC0415 - needs an extra

    secret, webhook = call.run(subscription.rotate_secret(name, keep_old=timedelta(hours=hours)))
    call.record_act("usersync.subscription_secret_rotated", table=TABLE, subscription=name)
    advice = f"The old secret is valid for {hours:g} more hours." if hours else _INVALID
    return SecretView(name, webhook.endpoint.url, secret, "New secret:", advice)
