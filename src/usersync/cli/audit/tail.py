"""``usersync audit tail``: shows the newest events, and follows the log."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from usersync.cli.audit.event_view import event_data, event_summary_lines
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
        ("usersync audit tail --outcome denied -n 0", "denied actions from now on"),
        ("usersync audit tail --json --no-follow", "newest events as JSON Lines"),
    )
)
@click.option(
    "-n",
    "--lines",
    "number",
    type=click.IntRange(0, _MOST),
    default=20,
    metavar="N",
    help="Number of newest events to show first (20).",
)
@click.option("--no-follow", is_flag=True, help="Do not follow the log.")
@click.option(
    "--every",
    type=Number(_SHORTEST, _LONGEST),
    default=_USUAL,
    metavar="SECONDS",
    help=f"Seconds between two queries for new events ({_USUAL:.0f}).",
)
@filter_options
@common_options
def tail(call: Call, wanted: EventFilter, *, number: int, no_follow: bool, every: float) -> None:
    """Show the newest events, then follow.

    Each event has two lines: time (UTC), outcome (✓ succeeded, ✗ failed, ⊘ denied, · unknown), action, entity
    and actor; then id and changes. A long entity or actor is in the second line, or in a third one. With
    --json, each event is a document on one line. If the connection fails, the command reports it and
    reconnects.
    """
    try:
        cursor, shown = _print_newest(call, wanted, number)
        lost = False
        while not no_follow:
            cursor, lost = _follow(call, wanted, cursor, shown, every, lost=lost)
    except KeyboardInterrupt:
        # Ctrl-C is the normal way to end.
        click.get_current_context().exit(0)


def _print_newest(call: Call, wanted: EventFilter, number: int) -> tuple[TailCursor, set[str]]:
    """Print the newest events. Return the cursor, and the events that the next read may repeat."""
    from usersync.audit import reading  # noqa: PLC0415 - only if used
    from usersync.transports.run import run  # noqa: PLC0415 - a driver, which --help does not need

    with call.connection() as connection:
        batch = run(reading.tail(), connection)
        # Skip the events that were stored since the oldest open transaction began: they are not new.
        while len((batch := run(reading.tail(batch.cursor, wanted), connection)).events) == reading.TAIL_SIZE:
            pass
        newest = run(reading.search(wanted, limit=number), connection).events if number else ()
    _print(call, reversed(newest))
    return batch.cursor, {event.tie for event in newest}


def _follow(
    call: Call, wanted: EventFilter, cursor: TailCursor, shown: set[str], every: float, *, lost: bool
) -> tuple[TailCursor, bool]:
    """Print new events until the connection fails. Return the cursor. Reports start and end of an outage."""
    from usersync.audit import reading  # noqa: PLC0415 - only if used
    from usersync.transports.run import run  # noqa: PLC0415 - a driver, which --help does not need

    try:
        with call.connection() as connection:
            while True:
                batch = run(reading.tail(cursor, wanted), connection)
                if lost:
                    call.output.tell(f"{good('connected again')}; the events of the outage follow")
                    lost = False
                _print(call, (event for event in batch.events if event.tie not in shown))
                cursor = batch.cursor
                if not batch.events:
                    call.output.wait(every)
    except ConnectionFailedError as error:
        if not lost:
            call.output.warn(f"{error}; trying to reconnect")
        call.output.wait(max(every, _USUAL))
    return cursor, True


def _print(call: Call, events: Iterable[EventRecord]) -> None:
    for event in events:
        if call.output.as_json:
            call.output.document(event_data(event), compact=True)
        else:
            call.output.say(*event_summary_lines(event, call.output.width))
