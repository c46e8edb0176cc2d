"""``usersync audit show``: shows one event with all its fields."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from usersync.cli.audit.event_view import event_data, event_lines
from usersync.cli.options import Call, data_api_options, examples
from usersync.cli.text import bad

if TYPE_CHECKING:
    from collections.abc import Iterator
    from uuid import UUID

    from usersync.audit.models import EventRecord
    from usersync.cli.output import View


@dataclass(frozen=True)
class EventView:
    """The event with this id, if any.

    More than one event has the id only if a client sent it again with another time.
    """

    event_id: UUID
    events: tuple[EventRecord, ...]
    target: str

    @property
    def exit_code(self) -> int:
        return 0 if self.events else 1

    def lines(self, width: int) -> Iterator[str]:
        if not self.events:
            yield f"{bad('no event')} {self.event_id} in {self.target}"
        for number, event in enumerate(self.events):
            if number:
                yield ""
            yield from event_lines(event, width)

    def data(self) -> dict[str, Any]:
        return {"database": self.target, "events": [event_data(event) for event in self.events]}


@click.command(epilog=examples(("usersync audit show ID", "the id that search and export print")))
@click.argument("event_id", metavar="ID", type=click.UUID)
@data_api_options
def show(call: Call, event_id: UUID) -> View:
    """Show one event with all its fields.

    Long values are cut; --json prints them completely. Exit code 1 if the event does not exist.
    """
    from usersync.audit import reading  # noqa: PLC0415 - only if used

    return EventView(event_id, call.run(reading.show(event_id)), call.target)
