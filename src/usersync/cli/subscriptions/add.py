"""``usersync subscriptions add``: sends events to a webhook."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from usersync.audit.models import OUTCOMES, EventFilter
from usersync.cli.options import Call, common_options, examples, names
from usersync.cli.subscriptions.view import TABLE
from usersync.events.formats import DEFAULT_FORMAT, FORMATS

if TYPE_CHECKING:
    from usersync.cli.output import View

_ADVICE = "The database has it encrypted with the key of USERSYNC_SECRET_KEY, which each worker needs too."


@click.command(
    epilog=examples(
        ("usersync subscriptions add crm --webhook URL --on 'user.*'", "users"),
        ("usersync subscriptions add siem --webhook URL --on '*' --format ocsf", "all"),
    )
)
@click.argument("name", metavar="NAME")
@click.option("--webhook", "url", required=True, metavar="URL", help="Send the events to this https URL.")
@click.option(
    "--on",
    "actions",
    required=True,
    multiple=True,
    callback=names,
    metavar="ACTION",
    help="Send events with these actions; a star at the end matches a prefix. Several: separated by commas.",
)
@click.option(
    "--format",
    "format_name",
    type=click.Choice(tuple(FORMATS)),
    default=DEFAULT_FORMAT,
    show_default=True,
    metavar="FORMAT",
    help="Format of the request's body: cloudevents, json or ocsf.",
)
@click.option("--tenant", "tenant_id", metavar="ID", help="Send the events of this tenant only.")
@click.option(
    "--outcome",
    type=click.Choice(OUTCOMES),
    metavar="OUTCOME",
    help="Send events with this outcome only: succeeded, failed or denied.",
)
@click.option(
    "--allow-private",
    is_flag=True,
    help="Allow addresses of this machine and of private networks, and http to them.",
)
@click.option(
    "--from-beginning",
    is_flag=True,
    help="Send all events of the feed, not only those from now on. The feed has the events since its first "
    "reader.",
)
@common_options
def add(
    call: Call,
    name: str,
    *,
    url: str,
    actions: tuple[str, ...],
    format_name: str,
    tenant_id: str | None,
    outcome: str | None,
    allow_private: bool,
    from_beginning: bool,
) -> View:
    """Send events to a webhook.

    Each event becomes a signed HTTP request (Standard Webhooks). The command prints the secret that the
    receiver verifies the requests with. 'usersync worker' sends the events; an event that fails is sent again
    later.
    """
    from usersync.cli.subscriptions.secret_view import SecretView  # noqa: PLC0415 - only if used
    from usersync.events.webhooks.subscription import add_webhook  # noqa: PLC0415 - needs an extra

    wanted = EventFilter(tenant_id=tenant_id, outcome=outcome)
    secret = call.run(
        add_webhook(
            name,
            url,
            actions,
            wanted=wanted.describe(),
            format_name=format_name,
            allow_private=allow_private,
            from_beginning=from_beginning,
        )
    )
    call.record_act("usersync.subscription_added", table=TABLE, subscription=name, actions=[*actions])
    return SecretView(name, url, secret, "Added:", _ADVICE)
