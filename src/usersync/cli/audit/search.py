"""``usersync audit search``: finds events, page by page."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from usersync.cli.audit.event_view import event_data, event_summary_lines
from usersync.cli.audit.filters import filter_options
from usersync.cli.options import Call, data_api_options, examples
from usersync.cli.text import bold, count, typed

if TYPE_CHECKING:
    from collections.abc import Iterator

    from usersync.audit.models import EventFilter, EventPage
    from usersync.cli.output import View

_MOST = 10_000


@dataclass(frozen=True)
class SearchView:
    """Each event in two lines, and the cursor of the next page."""

    page: EventPage
    target: str
    exit_code: int = 0

    def lines(self, width: int) -> Iterator[str]:
        if not self.page.events:
            yield f"{bold(self.target)}  no event found"
            return
        for event in self.page.events:
            yield from event_summary_lines(event, width)
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
            "next": self.page.next,
        }


@click.command(
    epilog=examples(
        ("usersync audit search --since 2h", "the last two hours"),
        ("usersync audit search --outcome denied", "denied actions"),
        ("usersync audit search --action 'user.*' --user ID", "events of one user"),
    )
)
@filter_options
@click.option(
    "--limit",
    type=click.IntRange(1, _MOST),
    default=50,
    metavar="N",
    help="Events per page (50).",
)
@click.option("--after", metavar="CURSOR", help="Continue after this cursor, which the previous page prints.")
@data_api_options
def search(call: Call, wanted: EventFilter, limit: int, after: str | None) -> View:
    """Find events, the newest first, page by page.

    An event must match all options. Later pages are as fast as the first one. --text reads every event that
    matches the other options. Times are in UTC. Outcomes: ✓ succeeded, ✗ failed, ⊘ denied, · unknown.
    """
    from usersync.audit import reading  # noqa: PLC0415 - only if used

    return SearchView(call.run(reading.search(wanted, limit=limit, after=after)), call.target)
