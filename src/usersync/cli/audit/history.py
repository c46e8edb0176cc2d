"""``usersync audit history``: shows the events of one entity, field by field."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from usersync.cli.audit.event_view import (
    actor,
    change_lines,
    event_data,
    happened,
    mark,
    metadata_line,
    moment,
)
from usersync.cli.audit.filters import as_entity
from usersync.cli.options import Call, common_options, examples
from usersync.cli.text import bold, clip, count, faint, plain, typed, wrap

if TYPE_CHECKING:
    from collections.abc import Iterator

    from usersync.audit.models import EventPage, EventRecord
    from usersync.cli.output import View

_MOST = 100_000


@dataclass(frozen=True)
class HistoryView:
    """The events of an entity, the oldest first."""

    entity: str
    page: EventPage
    target: str

    @property
    def exit_code(self) -> int:
        return 0 if self.page.events else 1

    def lines(self, width: int) -> Iterator[str]:
        more = ", and more" if self.page.next else ""
        yield f"{bold(plain(self.entity))}  {count(len(self.page.events), 'event')}{more}"
        if not self.page.events and self.entity.startswith("public."):
            yield f"Omit the schema public:  {typed(plain(self.entity[7:]))}"
        for event in self.page.events:
            yield ""
            yield from _event_lines(event, width)
        if self.page.next:
            yield ""
            yield from wrap("There are more events. To continue:", width)
            yield f"  {typed(f'usersync audit history {plain(self.entity)} --after {self.page.next}')}"

    def data(self) -> dict[str, Any]:
        return {
            "database": self.target,
            "entity": self.entity,
            "events": [event_data(event) for event in self.page.events],
            "next": self.page.next,
        }


def _event_lines(event: EventRecord, width: int) -> Iterator[str]:
    who = f"by {clip(event.actor_id, 36)}" if event.actor_id else ""
    kind = f"({clip(event.actor_type, 20)})" if event.actor_type not in {None, "user"} else ""
    if not who and actor(event):
        who, kind = f"by {clip(actor(event), 36)}", ""
    if event.on_behalf_of:
        kind = f"{kind} on behalf of {clip(event.on_behalf_of, 36)}".strip()
    head = f"{faint(moment(event.occurred_at))}  {mark(event)} {bold(clip(event.action or '?', 40))}"
    together = f"{head}  {faint(f'{who} {kind}'.strip())}"
    if len(click.unstyle(together)) <= width or not who:
        yield together.rstrip()
    else:
        yield head
        yield faint(f"    {who} {kind}".rstrip())
    if event.changes and not happened(event):
        yield faint("    was not done:")
    yield from change_lines(event, width)
    yield from metadata_line(event, width)


@click.command(
    epilog=examples(
        ("usersync audit history product/42", "old and new values, who, when"),
        ("usersync audit history shop.orders/7", "a row of a tracked table"),
        ("usersync audit history 'shop.lines/[7, 2]'", "a key of two columns"),
    )
)
@click.argument("entity", metavar="TYPE/ID", callback=as_entity)
@click.option(
    "--limit",
    type=click.IntRange(1, _MOST),
    default=200,
    metavar="N",
    help="Maximum number of events (200).",
)
@click.option("--after", metavar="CURSOR", help="Continue after this cursor, which the previous page prints.")
@common_options
def history(call: Call, entity: tuple[str, str | None], limit: int, after: str | None) -> View:
    """Show the events of one entity, field by field.

    The oldest event comes first. Times are in UTC. Exit code 1 if there is no event.
    """
    from usersync.audit import reading  # noqa: PLC0415 - only if used

    kind, key = entity
    if key is None:
        raise click.UsageError(f"{kind!r} is incomplete; write type and id, for example product/42")
    page = call.run(reading.history(kind, key, after=after, limit=limit))
    return HistoryView(f"{kind}/{key}", page, call.target)
