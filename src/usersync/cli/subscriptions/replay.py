"""``usersync subscriptions replay``: handles past events again."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from usersync.cli.audit.periods import as_moment
from usersync.cli.options import Call, common_options, examples
from usersync.cli.subscriptions.view import TABLE
from usersync.cli.text import count, good, plain, warning

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

    from usersync.cli.output import View


@dataclass(frozen=True)
class ReplayedView:
    """The result of a replay: the number from which events are handled again."""

    name: str
    number: int | None
    events: int
    ended: int
    target: str
    exit_code: int = 0

    def lines(self, width: int) -> Iterator[str]:  # noqa: ARG002 - no long lines
        if self.number is None:
            yield warning("no events since this time: nothing to replay")
            return
        yield f"{good('Replaying:')} {plain(self.name)} from event {self.number}, {_read_again(self.events)}"
        if self.ended:
            yield f"No longer parked or dead: {count(self.ended, 'event')}."

    def data(self) -> dict[str, Any]:
        return {
            "database": self.target,
            "subscription": self.name,
            "number": self.number,
            "events": self.events,
            "parked": self.ended,
        }


def _since(ctx: click.Context, param: click.Parameter, value: str) -> int | datetime | None:
    return int(value) if value.isascii() and value.isdecimal() else as_moment(ctx, param, value)


@click.command(
    epilog=examples(
        ("usersync subscriptions replay crm --since 2h", "asks first"),
        ("usersync subscriptions replay crm --since 4711 --yes", "from event 4711 on"),
    )
)
@click.argument("name", metavar="NAME")
@click.option(
    "--since",
    required=True,
    callback=_since,
    metavar="TIME|NUMBER",
    help="The first event: its number in the feed, or a time (2h, 3d, 2026-03-01, 2026-03-01T12:00:00Z).",
)
@click.option("--yes", is_flag=True, help="Do not ask. Required without a terminal.")
@common_options
def replay(call: Call, name: str, since: int | datetime, *, yes: bool) -> View:
    """Handle past events again.

    The subscription gets the event of --since and all later events again, in their order, with the same ids.
    Handlers run again. A receiver can skip ids that it already has. With a time, the replay starts at the
    first event of the feed that happened at this time or later. Parked and dead events from there on are
    retried in their order, with all attempts again. If the subscription has not read the feed that far, its
    position does not change. Events that the retention has deleted are not sent.
    """
    from usersync.events import subscriptions  # noqa: PLC0415 - only if used

    number = since if isinstance(since, int) else call.run(subscriptions.first_number(since))
    if number is None:
        call.run(subscriptions.stored(name))
        return ReplayedView(name, None, 0, 0, call.target)
    events = call.run(subscriptions.replayed(name, number))
    call.require_consent(yes=yes)
    if not yes:
        call.output.say("Handlers run again, and receivers get the events again, with the same ids.")
        call.ask(f"Handle events of {plain(name)} again, from event {number}, {_read_again(events)}?")
    ended = call.run(subscriptions.replay(name, number))
    call.record_act("usersync.subscription_replayed", table=TABLE, subscription=name, since=number)
    return ReplayedView(name, number, events, ended, call.target)


def _read_again(events: int) -> str:
    return f"{count(events, 'event')} of the feed to read again"
