"""Formats values for pages.

Every value is untrusted. Jinja escapes HTML; the functions here make control characters visible, and cut
long values.
"""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from itertools import islice
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from usersync.audit.formats import value_text
from usersync.control_characters import CONTROL

if TYPE_CHECKING:
    from usersync.audit.models import EventRecord

#: The number of shown characters of a value in a table, and of a document.
VALUE, DOCUMENT = 500, 20_000
#: The number of shown rows of one event or one user.
ROWS = 200
_NAME, _LONG_NAME = 200, 20
_BETWEEN_WORDS = re.compile(r"(?<=\w[._/])(?=\w)")
_SUMMARY_FIELDS, _SUMMARY_VALUE = 3, 40
_HARMLESS = "\n\t"


def shown(value: object, most: int = VALUE) -> Markup:
    """A text, with control characters as ``\\u202e``, cut with a note."""
    text = str(value)
    return _visible(text[:most]) + _cut_note(text, most)


def name(value: object) -> Markup:
    """An action, an entity or an actor. A browser breaks a long one between its words and not within them."""
    text = str(value)
    parts = _BETWEEN_WORDS.split(text[:_NAME]) if len(text) > _LONG_NAME else [text]
    return Markup("<wbr>").join(map(_visible, parts)) + _cut_note(text, _NAME)


def _visible(text: str) -> Markup:
    return Markup(CONTROL.sub(_code_point, str(Markup.escape(text))))  # noqa: S704 - escaped before


def _cut_note(text: str, most: int) -> Markup:
    if len(text) <= most:
        return Markup("")
    note = Markup(' <span class="note">… ({:,} characters, {:,} are shown)</span>')
    return note.format(len(text), most)


def _code_point(match: re.Match[str]) -> str:
    character = match[0]
    if character in _HARMLESS:
        return character
    return f'<span class="control">\\u{ord(character):04x}</span>'


def as_json(value: object, indent: int | None = None) -> str:
    """A value as JSON."""
    return json.dumps(value, ensure_ascii=False, default=value_text, indent=indent)


def value_of(value: object, most: int = VALUE) -> Markup:
    """A value of an event: a text in quotes, anything else as JSON."""
    return shown(as_json(value), most)


def moment(at: datetime | None) -> Markup:
    """A time in UTC, to the second, and the exact time on hover. The script times.js makes it relative."""
    if at is None:
        return Markup("")
    exact = _in_utc(at).isoformat().replace("+00:00", "Z")
    seconds = _in_utc(at).strftime("%Y-%m-%dT%H:%M:%SZ")
    return Markup('<time datetime="{0}" title="{0}">{1}</time>').format(exact, seconds)


def moment_in(text: str) -> Markup:
    """A time as the database writes it. It may be one that datetime does not have, such as infinity."""
    try:
        return moment(datetime.fromisoformat(text))
    except ValueError:
        return shown(text)


def _in_utc(at: datetime) -> datetime:
    try:
        return at.astimezone(UTC)
    except OverflowError:  # The first and the last hours that datetime knows.
        return at.replace(tzinfo=UTC)


def summary(event: EventRecord) -> Markup:
    """The first changes in one line."""
    changes = event.field_changes
    parts = [
        Markup("{} {} → {}").format(shown(each.name, _SUMMARY_VALUE), _brief(each.before), _brief(each.after))
        for each in islice(changes, _SUMMARY_FIELDS)
    ]
    if len(changes) > _SUMMARY_FIELDS:
        parts.append(Markup("and {:,} more").format(len(changes) - _SUMMARY_FIELDS))
    done = Markup(", ").join(parts)
    return Markup("not done: {}").format(done) if parts and event.outcome in {"failed", "denied"} else done


def _brief(value: Any) -> Markup:
    text = value[: _SUMMARY_VALUE + 1] if isinstance(value, str) else value
    encoded = as_json(text)
    cut = len(encoded) > _SUMMARY_VALUE
    return shown(encoded[:_SUMMARY_VALUE] + ("…" if cut else ""), _SUMMARY_VALUE + 1)
