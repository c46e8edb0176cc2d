"""``usersync subscriptions attempts``: lists the attempts of a subscription."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from usersync.cli.options import Call, common_options, examples
from usersync.cli.subscriptions.view import AttemptsView

if TYPE_CHECKING:
    from uuid import UUID

    from usersync.cli.output import View


@click.command(
    epilog=examples(
        ("usersync subscriptions attempts crm", "the newest attempts"),
        ("usersync subscriptions attempts crm --event ID", "the attempts of one event"),
    )
)
@click.argument("name", metavar="NAME")
@click.option(
    "--event", "event_id", type=click.UUID, metavar="ID", help="Only attempts of the event with this id."
)
@click.option(
    "--limit",
    type=click.IntRange(1, 10_000),
    default=20,
    show_default=True,
    metavar="N",
    help="Maximum number of attempts to show, the newest first.",
)
@common_options
def attempts(call: Call, name: str, event_id: UUID | None, limit: int) -> View:
    """List attempts to handle events: time, duration, answer or error.

    The database keeps the last 20 attempts of each event for 7 days, and at most 100,000 attempts of each
    subscription. It keeps the attempts of a parked or dead event as long as the event. An attempt during
    which the worker process ended may be missing.
    """
    from usersync.events import subscriptions  # noqa: PLC0415 - only if used

    found = call.run(subscriptions.attempts(name, event_id=event_id, limit=limit))
    return AttemptsView(found, name, call.target)
