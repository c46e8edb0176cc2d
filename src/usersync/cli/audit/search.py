"""``usersync audit search``: events that fit, a page at a time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from usersync.cli.audit.event_view import event_data, event_in_short
from usersync.cli.audit.filters import filter_options
from usersync.cli.options import Call, common_options, examples
from usersync.cli.text import bold, count, typed

if TYPE_CHECKING:
    from collections.abc import Iterator

    from usersync.audit.models import EventFilter, EventPage
    from usersync.cli.output import View

_MOST = 10_000


@dataclass(frozen=True)
class SearchView:
    """Each event in two lines, and how to go on."""

    page: EventPage
    target: str
    exit_code: int = 0

    def lines(self, width: int) -> Iterator[str]:
        if not self.page.events:
            yield f"{bold(self.target)}  no event fits"
            return
        for event in self.page.events:
            yield from event_in_short(event, width)
        yield ""
        if self.page.next:
            yield f"{count(len(self.page.events), 'event')}, and more. The next page, with the same options:"
            yield f"  {typed(f'--after {self.page.next}')}"
        else:
            yield f"{count(len(self.page.events), 'event')}."

    def data(self) -> dict[str, Any]:
        return {
            "database": self.target,
            "events": [event_data(event) for event in self.page.events],
            "next": str(self.page.next) if self.page.next else None,
        }


@click.command(
    epilog=examples(
        ("usersync audit search --since 2h", "what happened lately"),
        ("usersync audit search --outcome denied", "who was refused what"),
        ("usersync audit search --action 'user.*' --user ID", "of one user"),
    )
)
@filter_options
@click.option(
    "--limit",
    type=click.IntRange(1, _MOST),
    default=50,
    metavar="N",
    help="Events on a page (50).",
)
@click.option("--after", metavar="CURSOR", help="Go on where a page ended; it says so itself.")
@common_options
def search(call: Call, wanted: EventFilter, limit: int, after: str | None) -> View:
    """Find events, the newest first, page by page.

    All that is asked for has to fit. A page costs the same wherever it is. --text has to read every event
    that the other options leave. Times are in UTC; · is an event of which nobody said how it ended.
    """
    from usersync.audit import reading  # noqa: PLC0415 - likewise
    from usersync.audit.models import Cursor  # noqa: PLC0415 - only when it is wanted

    cursor = Cursor.parse(after) if after else None
    page = call.run(reading.search(wanted, limit=limit, after=cursor))
    return SearchView(page, call.target)
