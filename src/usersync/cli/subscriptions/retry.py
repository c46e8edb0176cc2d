"""``usersync subscriptions retry``: retries dead and waiting events."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from usersync.cli.options import Call, common_options, examples
from usersync.cli.subscriptions.view import TABLE
from usersync.cli.text import bold, count, good, warning

if TYPE_CHECKING:
    from collections.abc import Iterator
    from uuid import UUID

    from usersync.cli.output import View


@dataclass(frozen=True)
class RetriedView:
    """How many events are tried again."""

    name: str
    retried: int
    target: str
    exit_code: int = 0

    def lines(self, width: int) -> Iterator[str]:  # noqa: ARG002 - no long lines
        what = (
            good(f"{count(self.retried, 'event')} due now") if self.retried else warning("nothing to retry")
        )
        yield f"{bold(self.target)}  {what}"

    def data(self) -> dict[str, Any]:
        return {"database": self.target, "subscription": self.name, "retried": self.retried}


@click.command(
    epilog=examples(
        ("usersync subscriptions retry crm", "all its failed events"),
        ("usersync subscriptions retry crm --number 47", "one event"),
        ("usersync subscriptions retry crm --event ID", "the same, by its id"),
    )
)
@click.argument("name", metavar="NAME")
@click.option("--number", type=int, metavar="N", help="Only the event with this number.")
@click.option("--event", "event_id", type=click.UUID, metavar="ID", help="Only the event with this id.")
@common_options
def retry(call: Call, name: str, number: int | None, event_id: UUID | None) -> View:
    """Retry dead and waiting events now.

    A worker does it within a second. A dead event gets all its attempts again, and comes after later events
    of its entity.
    """
    from usersync.events import subscriptions  # noqa: PLC0415 - only if used

    retried = call.run(subscriptions.retry(name, number=number, event_id=event_id))
    if retried:
        call.record_act("usersync.events_retried", table=TABLE, subscription=name, events=retried)
    return RetriedView(name, retried, call.target)
