"""Formats an event for people and for programs.

The values of an event are untrusted, so all of them pass through ``plain`` or ``clip``.
"""

from __future__ import annotations

import json
from datetime import UTC
from typing import TYPE_CHECKING, Any
from uuid import UUID

from usersync.audit.event.entity import entity_text
from usersync.cli.output import to_json
from usersync.cli.text import align, bad, bold, clip, columns, faint, good, plain, warning

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from datetime import datetime

    from usersync.audit.models import EventRecord, FieldChange

_MARKS: dict[str, tuple[str, Callable[[str], str]]] = {
    "succeeded": ("✓", good),
    "failed": ("✗", bad),
    "denied": ("⊘", warning),
}
_UNKNOWN = ("·", faint)

_TIME_WIDTH = len("2026-03-31 18:30:00")
#: The widths of action, entity and actor. On a narrow terminal each is reduced.
_WIDTHS = (22, 16, 12)
_BETWEEN = _TIME_WIDTH + len("  ✓ ") + 2 * len("  ")
_INDENT = " " * 4

#: Metadata that row tracking writes in every event.
_TRACKING_METADATA = {"actor_source", "db_role", "role"}
#: The maximum length of a printed value. --json prints all of it.
_MOST_SHOWN = 2_000


def event_summary_lines(event: EventRecord, width: int) -> Iterator[str]:
    """One event in two lines, in columns of fixed width. The second line has what does not fit there."""
    room = min(width - _BETWEEN, sum(_WIDTHS))
    widths = [each * room // sum(_WIDTHS) for each in _WIDTHS]
    texts = [event.action or "?", entity(event), actor(event)]
    moved = []
    if columns(texts[0]) > widths[0] or columns(texts[1]) > widths[1]:
        # A long action also gets the column of the entity.
        moved.append(texts.pop(1))
        widths[:2] = [widths[0] + 2 + widths[1]]
        missing = columns(texts[-1]) - widths[-1]
        if 0 < missing <= widths[0] - columns(texts[0]):
            widths = [widths[0] - missing, widths[-1] + missing]
    if columns(texts[-1]) > widths[-1]:
        moved.append(f"by {texts[-1]}")
        texts[-1] = ""
    line = "  ".join(_padded(text, each) for text, each in zip(texts, widths, strict=True))
    yield f"{faint(moment(event.occurred_at))}  {mark(event)} {line}".rstrip()
    identity = str(event.id or "no id").ljust(36)
    room = width - len(_INDENT) - columns(identity) - 2
    below = ", ".join(filter(None, map(plain, moved)))
    said = [on_behalf(event), summary(event)]
    if columns(below) <= room:
        said, below = [below, *said], ""
    second = ", ".join(filter(None, said))
    yield faint(f"{_INDENT}{identity}  {clip(second, room) if room > 0 else ''}".rstrip())
    if below:
        yield faint(f"{_INDENT}{clip(below, width - len(_INDENT))}")


def _padded(text: str, width: int) -> str:
    shown = clip(text, width)
    return shown + " " * (width - columns(shown))


def mark(event: EventRecord) -> str:
    """The outcome as a coloured symbol."""
    sign, style = _MARKS.get(event.outcome, ("?", warning)) if event.outcome else _UNKNOWN
    return style(sign)


def happened(event: EventRecord) -> bool:
    """Whether the changes were made. Rows from before usersync have no outcome, and count as made."""
    return event.outcome not in {"failed", "denied"}


def moment(at: datetime) -> str:
    """A point in time, in UTC, to the second."""
    return at.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S")


def entity(event: EventRecord) -> str:
    """``product/42``, in the form that ``history`` accepts."""
    return entity_text(event.entity_type, event.entity_id) if event.entity_type else event.entity_id or ""


def actor(event: EventRecord) -> str:
    """The actor, in short form."""
    if event.actor_id is None:
        return _short_uuid(event.user_id) if event.user_id else event.actor_type or ""
    return _short_id(event.actor_id)


def on_behalf(event: EventRecord) -> str:
    """With impersonation: for whom the actor acted, in short form."""
    return f"for {_short_id(event.on_behalf_of)}" if event.on_behalf_of else ""


def _short_id(value: str) -> str:
    try:
        return _short_uuid(UUID(value))
    except ValueError:
        return value


def _short_uuid(value: UUID) -> str:
    """The beginning and the end: UUIDs of version 7 from the same minute begin with the same digits."""
    text = str(value)
    return f"{text[:4]}…{text[-7:]}"


def summary(event: EventRecord) -> str:
    """The changes in one line: ``stock 10 → 7, name "bolt" → null``."""
    changes = ", ".join(
        f"{field} {short(old, 40)} → {short(new, 40)}" for field, old, new in changes_of(event)
    )
    return changes if happened(event) or not changes else f"not done: {changes}"


def metadata_line(event: EventRecord, width: int) -> Iterator[str]:
    """The metadata in one line, without the keys that row tracking writes in every event."""
    metadata = event.metadata
    if isinstance(metadata, dict):
        metadata = {key: value for key, value in metadata.items() if key not in _TRACKING_METADATA}
    if metadata:
        yield f"{_INDENT}{faint(short(metadata, width - len(_INDENT)))}"


def changes_of(event: EventRecord) -> Iterator[tuple[str, Any, Any]]:
    """Field, old value and new value."""
    for change in event.field_changes:
        yield change.name, change.before, change.after


def short(value: object, width: int) -> str:
    """A value as JSON, in at most ``width`` columns."""
    if isinstance(value, str):
        return clip(json.dumps(value[: width * 4 + 16], ensure_ascii=False), width)
    return clip(json.dumps(value, ensure_ascii=False, default=to_json), width)


def change_lines(event: EventRecord, width: int, *, indent: str = "    ") -> Iterator[str]:
    """Each changed field with its old and new value, in one line or in two."""
    return field_lines(event.field_changes, width, indent=indent)


def field_lines(changes: Sequence[FieldChange], width: int, *, indent: str = "    ") -> Iterator[str]:
    """Each field with its old and new value, in one line or in two."""
    names = [clip(change.name, 24) for change in changes]
    widest = max(map(columns, names), default=0)
    room = max(width - len(indent) - widest - 2, 20)
    for name, change in zip(names, changes, strict=True):
        head = indent + name + " " * (widest - columns(name)) + "  "
        before, after = short(change.before, _MOST_SHOWN), short(change.after, _MOST_SHOWN)
        if columns(before) + columns(after) + 3 <= room:
            yield f"{head}{faint(before)} → {after}"
        else:
            yield f"{head}{faint(clip(before, room))}"
            yield f"{' ' * columns(head)}→ {clip(after, room - 2)}"


def event_lines(event: EventRecord, width: int) -> Iterator[str]:
    """All fields of an event."""
    yield f"{mark(event)} {bold(clip(event.action or '?', width - 2))}"
    yield ""
    facts = {
        name: value for name, value in event_data(event).items() if name not in _APART and value is not None
    }
    yield from _fact_lines(facts, width)
    if event.changes:
        yield ""
        yield bold("changes" if happened(event) else "changes that were not done")
        yield from change_lines(event, width, indent="  ")
    if event.metadata:
        yield ""
        yield bold("metadata")
        known = event.metadata if isinstance(event.metadata, dict) else {"": event.metadata}
        yield from _fact_lines(known, width)


_APART = {"action", "changes", "metadata"}


def _fact_lines(facts: Mapping[str, Any], width: int) -> Iterable[str]:
    names = {name: clip(name, 24) for name in facts}
    room = max(width - max(map(columns, names.values()), default=0) - 4, 20)
    return align([(faint(names[name]), _fact(value, room)) for name, value in facts.items()], indent="  ")


def _fact(value: object, room: int) -> str:
    return clip(value, room) if isinstance(value, str) else clip(_written(value), room)


def _written(value: object) -> str:
    written = json.dumps(value, ensure_ascii=False, default=to_json)
    return written.strip('"') if not isinstance(value, dict | list) else written


def event_data(event: EventRecord) -> dict[str, Any]:
    """An event for programs, with complete values."""
    return {name: value for name, value in vars(event).items() if name != "tie"}
