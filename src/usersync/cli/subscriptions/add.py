"""``usersync subscriptions add``: sends events to a webhook, or publishes them to a stream."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

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
        ("usersync subscriptions add siem --stream nats://nats-1 --on '*'", "all"),
    )
)
@click.argument("name", metavar="NAME")
@click.option("--webhook", metavar="URL", help="Send the events to this https URL.")
@click.option(
    "--stream",
    metavar="URL",
    help="Publish the events to NATS JetStream at this nats:// or tls:// URL.",
)
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
    help="Format of the body: cloudevents, json or ocsf.",
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
    help="Allow a webhook to an address of this machine or of a private network, and http to it.",
)
@click.option(
    "--from-beginning",
    is_flag=True,
    help="Send all events of the feed, not only those from now on. The feed has the events since its first "
    "reader.",
)
@click.option(
    "--backfill",
    is_flag=True,
    help="First send an event user.created for each existing user, to this subscription only.",
)
@common_options
def add(
    call: Call,
    name: str,
    *,
    webhook: str | None,
    stream: str | None,
    actions: tuple[str, ...],
    format_name: str,
    tenant_id: str | None,
    outcome: str | None,
    allow_private: bool,
    from_beginning: bool,
    backfill: bool,
) -> View:
    """Send events to a webhook, or publish them to a stream.

    For a webhook, each event becomes a signed HTTP request (Standard Webhooks). The command prints the secret
    that the receiver verifies the requests with. For a stream, each event becomes a message of NATS
    JetStream. The command creates the stream if it does not exist, and warns of settings with which the
    stream loses events. 'usersync worker' sends the events. An event that fails is sent again later.
    """
    if (webhook is None) == (stream is None):
        raise click.UsageError("Give the target of the events: --webhook URL or --stream URL.")
    wanted = EventFilter(tenant_id=tenant_id, outcome=outcome).describe()
    if stream is not None:
        if allow_private:
            raise click.UsageError(
                "--allow-private is for webhooks only. A stream never needs it: leave it out."
            )
        return _add_stream(
            call,
            name,
            stream,
            actions,
            wanted,
            format_name=format_name,
            from_beginning=from_beginning,
            backfill=backfill,
        )
    from usersync.cli.subscriptions.secret_view import SecretView  # noqa: PLC0415 - only if used
    from usersync.events.webhooks.subscription import add_webhook  # noqa: PLC0415 - needs an extra

    secret = call.run(
        add_webhook(
            name,
            str(webhook),
            actions,
            wanted=wanted,
            format_name=format_name,
            allow_private=allow_private,
            from_beginning=from_beginning,
            backfill=backfill,
        )
    )
    call.record_act("usersync.subscription_added", table=TABLE, subscription=name, actions=[*actions])
    return SecretView(name, str(webhook), secret, "Added:", _ADVICE)


def _add_stream(
    call: Call,
    name: str,
    url: str,
    actions: tuple[str, ...],
    wanted: dict[str, Any],
    *,
    format_name: str,
    from_beginning: bool,
    backfill: bool,
) -> View:
    from usersync.cli.subscriptions.stream_view import StreamView  # noqa: PLC0415 - only if used
    from usersync.events import subscriptions  # noqa: PLC0415 - only if used
    from usersync.events.streams.subscription import check_stream, new_stream  # noqa: PLC0415 - needs an extra

    subscription = call.run(new_stream(name, url, actions, wanted=wanted, format_name=format_name))
    checked = check_stream(subscription)
    call.run(subscriptions.add(subscription, from_beginning=from_beginning, backfill=backfill))
    call.record_act("usersync.subscription_added", table=TABLE, subscription=name, actions=[*actions])
    return StreamView(name, subscription.config["url"], checked)
