"""``usersync audit history``: shows the events of one entity, field by field."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

from usersync.cli.audit.event_view import (
    actor,
    change_lines,
    event_data,
    field_lines,
    happened,
    mark,
    metadata_line,
    moment,
    short,
)
from usersync.cli.audit.filters import as_entity
from usersync.cli.audit.periods import as_moment
from usersync.cli.options import Call, data_api_options, examples
from usersync.cli.text import align, bold, clip, count, faint, plain, typed, wrap

if TYPE_CHECKING:
    from collections.abc import Iterator

    from usersync.audit.entity_state import EntityState, FieldState
    from usersync.audit.models import EventPage, EventRecord, FieldChange
    from usersync.cli.output import View

_MOST, _USUAL = 100_000, 200
#: The width from which the actor fits into the line of a field.
_WIDE = 80


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


@dataclass(frozen=True)
class StateView:
    """An entity at a time: each field, its value, and the event that set it."""

    entity: str
    state: EntityState
    target: str

    @property
    def exit_code(self) -> int:
        return 0 if self.state.has_events else 1

    def lines(self, width: int) -> Iterator[str]:
        yield f"{bold(plain(self.entity))}  at {moment(self.state.at)}"
        for note in self.state.notes:
            yield from wrap(note, width)
        if self.state.fields:
            yield ""
            yield from align([_field_cells(each, width) for each in self.state.fields], indent="  ")

    def data(self) -> dict[str, Any]:
        return {"database": self.target, "entity": self.entity, **_state_data(self.state)}


def _field_cells(each: FieldState, width: int) -> tuple[str, str, str]:
    event, is_wide = each.set_by, width >= _WIDE
    who = f"  {clip(actor(event), 12)}" if event and is_wide else ""
    origin = f"{moment(event.occurred_at)}{who}" if event else "from a later event"
    return clip(each.name, 24), short(each.value, max(width - (64 if is_wide else 52), 8)), faint(origin)


def _state_data(state: EntityState) -> dict[str, Any]:
    fields = {
        each.name: {"value": each.value, "event": each.set_by.id if each.set_by else None}
        for each in state.fields
    }
    return {"at": state.at, "exists": state.exists, "fields": fields, "notes": state.notes}


@dataclass(frozen=True)
class DifferenceView:
    """The fields of an entity that differ between two times."""

    entity: str
    before: EntityState
    after: EntityState
    changes: tuple[FieldChange, ...]
    target: str

    @property
    def exit_code(self) -> int:
        return 0 if self.after.has_events else 1

    def lines(self, width: int) -> Iterator[str]:
        yield f"{bold(plain(self.entity))}  {count(len(self.changes), 'field')} changed"
        for state in (self.before, self.after):
            yield from wrap(" ".join(state.notes), width, first=f"  {moment(state.at)}  ")
        if self.changes:
            yield ""
            yield from field_lines(self.changes, width, indent="  ")

    def data(self) -> dict[str, Any]:
        return {
            "database": self.target,
            "entity": self.entity,
            "before": _state_data(self.before),
            "after": _state_data(self.after),
            "changes": {each.name: [each.before, each.after] for each in self.changes},
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
        ("usersync audit history product/42 --at 2d", "its fields two days ago"),
        ("usersync audit history product/42 --from 2d", "the fields that changed since"),
        ("usersync audit history shop.orders/7", "a row of a tracked table"),
        ("usersync audit history 'shop.lines/[7, 2]'", "a key of two columns"),
    )
)
@click.argument("entity", metavar="TYPE/ID", callback=as_entity)
@click.option(
    "--limit",
    type=click.IntRange(1, _MOST),
    metavar="N",
    help="Maximum number of events (200).",
)
@click.option("--after", metavar="CURSOR", help="Continue after this cursor, which the previous page prints.")
@click.option(
    "--at",
    callback=as_moment,
    metavar="TIME",
    help="Show the fields at this time: a duration before now (2h, 3d) or a time (2026-03-31T18:30, UTC).",
)
@click.option(
    "--from",
    "since",
    callback=as_moment,
    metavar="TIME",
    help="Show the fields that differ between this time and now, or between this time and --at.",
)
@data_api_options
def history(
    call: Call,
    entity: tuple[str, str | None],
    *,
    limit: int | None,
    after: str | None,
    at: datetime | None,
    since: datetime | None,
) -> View:
    """Show the events of one entity, or its fields at a time.

    The oldest event comes first. Times are in UTC. Exit code 1 if there is no event. With --at or --from, the
    values are computed from the changes in the events. A change that was not recorded is missing.
    """
    from usersync.audit import reading  # noqa: PLC0415 - only if used

    kind, key = entity
    if key is None:
        raise click.UsageError(f"{kind!r} is incomplete; write type and id, for example product/42")
    if at or since:
        if limit or after:
            raise click.UsageError("--at and --from do not support --limit and --after: leave those out")
        return _state(call, kind, key, at, since)
    page = call.run(reading.history(kind, key, after=after, limit=limit or _USUAL))
    return HistoryView(f"{kind}/{key}", page, call.target)


def _state(call: Call, kind: str, key: str, at: datetime | None, since: datetime | None) -> View:
    from usersync.audit import entity_state  # noqa: PLC0415 - only if used

    at = at or datetime.now(UTC)
    if since and since >= at:
        raise click.UsageError("--from must be before --at")
    after = call.run(entity_state.state_at(kind, key, at))
    if since is None:
        return StateView(f"{kind}/{key}", after, call.target)
    before = call.run(entity_state.state_at(kind, key, since))
    changes = entity_state.difference(before, after)
    return DifferenceView(f"{kind}/{key}", before, after, changes, call.target)
