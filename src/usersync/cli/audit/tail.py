"""``usersync audit tail``: the log as it grows, a line an event."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from usersync.cli.audit.event_view import event_data, event_in_short
from usersync.cli.audit.filters import filter_options
from usersync.cli.options import Call, Number, common_options, examples
from usersync.cli.text import good
from usersync.errors import ConnectionFailedError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from usersync.audit.models import EventFilter, EventRecord, TailCursor

_SHORTEST, _LONGEST, _USUAL = 0.1, 3_600, 1.0
_MOST = 10_000


@click.command(
    epilog=examples(
        ("usersync audit tail", "until Ctrl-C"),
        ("usersync audit tail --outcome denied -n 0", "only what is refused from now on"),
        ("usersync audit tail --json --no-follow", "the newest, a document a line"),
    )
)
@click.option(
    "-n",
    "--lines",
    "number",
    type=click.IntRange(0, _MOST),
    default=20,
    metavar="N",
    help="How many of the newest to begin with (20).",
)
@click.option("--no-follow", is_flag=True, help="End after these.")
@click.option(
    "--every",
    type=Number(_SHORTEST, _LONGEST),
    default=_USUAL,
    metavar="SECONDS",
    help=f"How often to look for more ({_USUAL:.0f}).",
)
@filter_options
@common_options
def tail(call: Call, wanted: EventFilter, *, number: int, no_follow: bool, every: float) -> None:
    """Show the newest events, then follow.

    Two lines an event: when (UTC), how it ended (✓ succeeded, ✗ failed, ⊘ denied, · nobody said), what, to
    what, by whom; its id and what changed. With --json a document a line. An outage is reported, and
    outlasted.
    """
    try:
        cursor, shown = _begin(call, wanted, number)
        lost = False
        while not no_follow:
            cursor, lost = _follow(call, wanted, cursor, shown, every, lost=lost)
    except KeyboardInterrupt:
        # The usual end of following, and so no interruption.
        click.get_current_context().exit(0)


def _begin(call: Call, wanted: EventFilter, number: int) -> tuple[TailCursor, set[str]]:
    """Print the newest; return where to go on, and what may come again because it was shown already."""
    from usersync.audit import reading  # noqa: PLC0415 - only when it is wanted
    from usersync.transports.run import run  # noqa: PLC0415 - a driver, which --help can do without

    with call.connection() as connection:
        batch = run(reading.tail(), connection)
        # What was stored since the oldest open transaction began is there, and not to be shown as new.
        while len((batch := run(reading.tail(batch.cursor, wanted), connection)).events) == reading.TAIL_SIZE:
            pass
        newest = run(reading.search(wanted, limit=number), connection).events if number else ()
    _print(call, reversed(newest))
    return batch.cursor, {event.tie for event in newest}


def _follow(
    call: Call, wanted: EventFilter, cursor: TailCursor, shown: set[str], every: float, *, lost: bool
) -> tuple[TailCursor, bool]:
    """Print what comes, until the connection is lost; return where to go on. An outage is told of twice."""
    from usersync.audit import reading  # noqa: PLC0415 - only when it is wanted
    from usersync.transports.run import run  # noqa: PLC0415 - a driver, which --help can do without

    try:
        with call.connection() as connection:
            while True:
                batch = run(reading.tail(cursor, wanted), connection)
                if lost:
                    call.output.tell(f"{good('connected again')}; what was recorded meanwhile follows")
                    lost = False
                _print(call, (event for event in batch.events if event.tie not in shown))
                cursor = batch.cursor
                if not batch.events:
                    call.output.wait(every)
    except ConnectionFailedError as error:
        if not lost:
            call.output.warn(f"{error}; trying again until it is back")
        call.output.wait(max(every, _USUAL))
    return cursor, True


def _print(call: Call, events: Iterable[EventRecord]) -> None:
    for event in events:
        if call.output.as_json:
            call.output.document(event_data(event), compact=True)
        else:
            call.output.say(*event_in_short(event, call.output.width))
