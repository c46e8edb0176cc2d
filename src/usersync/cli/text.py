"""Formats text for people: wrapping, alignment, colours, numbers, durations. Does not print.

Texts always contain colours. ``usersync.cli.output`` removes them if the output is not a terminal.
"""

from __future__ import annotations

import re
import textwrap
import unicodedata
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import click

from usersync.control_characters import CONTROL

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

_MANY_SPACES = re.compile(r"\s+")


def plain(text: object) -> str:
    """Untrusted text on one line, without control characters for the terminal.

    Messages of the database may quote the input of a sign-up form.
    """
    flat = _MANY_SPACES.sub(" ", str(text)).strip()
    return CONTROL.sub(lambda match: f"\\u{ord(match[0]):04x}", flat)


def clip(text: object, width: int) -> str:
    """``plain()`` text in at most ``width`` columns of a terminal, cut with an ellipsis.

    Cheap for a text of any length: only its beginning is read.
    """
    whole = str(text)
    flat = plain(whole[: width * 4 + 16])
    if columns(flat) <= width and len(whole) <= width * 4 + 16:
        return flat
    kept, room = "", max(width - 1, 0)
    for character in flat:
        room -= columns(character)
        if room < 0:
            break
        kept += character
    return f"{kept.rstrip()}…" if width > 0 else ""


def columns(text: str) -> int:
    """The number of terminal columns of a text without control characters."""
    return len(text) if text.isascii() else sum(map(_columns, text))


def _columns(character: str) -> int:
    if unicodedata.category(character) in {"Mn", "Me"}:
        return 0
    return 2 if unicodedata.east_asian_width(character) in {"W", "F"} else 1


def bold(text: str) -> str:
    return _styled(text, bold=True)


def faint(text: str) -> str:
    return _styled(text, dim=True)


def good(text: str) -> str:
    return _styled(text, fg="green")


def bad(text: str) -> str:
    return _styled(text, fg="red", bold=True)


def warning(text: str) -> str:
    return _styled(text, fg="yellow")


def typed(text: str) -> str:
    """Text that the user types, such as a command."""
    return _styled(text, fg="cyan")


def _styled(text: str, **style: Any) -> str:
    return click.style(text, **style) if text else ""


def wrap(
    text: str, width: int, *, first: str = "", rest: str | None = None, breaks_words: bool = False
) -> list[str]:
    """Break ``text`` into lines of at most ``width``. ``first`` and ``rest`` are the prefixes of the lines.

    A word, such as a URL, is not broken, so a line may be longer; with ``breaks_words``, for the text of
    another server, a word that is longer than a line is broken.
    """
    indent = " " * len(click.unstyle(first)) if rest is None else rest
    room = max(width - len(click.unstyle(first)), 20)
    lines = textwrap.wrap(text, room, break_long_words=breaks_words, break_on_hyphens=False) or [""]
    return [f"{indent if number else first}{line}" for number, line in enumerate(lines)]


def align(rows: Iterable[Sequence[str]], *, indent: str = "", gap: int = 2) -> Iterator[str]:
    """Align cells in columns. The last column is not padded."""
    table = [tuple(row) for row in rows]
    widths = [max(map(_length, column)) for column in zip(*table, strict=True)]
    for row in table:
        cells = [cell + " " * (width - _length(cell)) for cell, width in zip(row, widths, strict=True)]
        yield indent + (" " * gap).join(cells).rstrip()


#: A last column with less room begins on a line of its own.
_NARROW = 24


def table(rows: Iterable[Sequence[str]], width: int, *, indent: str = "", gap: int = 2) -> Iterator[str]:
    """Align cells in columns, and wrap the last column. A cell of several lines has no colours."""
    found = [tuple(row) for row in rows]
    lead = align(((*row[:-1], "|") for row in found), indent=indent, gap=gap)
    for row, head in zip(found, lead, strict=True):
        begin = head.rpartition("|")[0]
        last, room = row[-1], width - _length(begin)
        if _length(last) <= room:
            yield f"{begin}{last}".rstrip()
            continue
        text = click.unstyle(last)
        if room >= max(_NARROW, *map(columns, text.split())):
            yield from wrap(text, width, first=begin, rest=" " * _length(begin))
        else:
            yield begin.rstrip()
            yield from wrap(text, width, first=f"{indent}    ", breaks_words=True)


def _length(cell: str) -> int:
    return columns(click.unstyle(cell))


def number(value: float) -> str:
    """``1,234,567``."""
    return f"{value:,.0f}"


def count(value: int, one: str, many: str | None = None) -> str:
    """``1 user``, ``2 users``, ``no users``."""
    word = one if value == 1 else many or f"{one}s"
    return f"{number(value) if value else 'no'} {word}"


_UNITS = ((86_400, "d"), (3_600, "h"), (60, "min"), (1, "s"))


def duration(value: timedelta | float) -> str:
    """``0.4 s``, ``12 s``, ``3 min``, ``5 h``, ``2 d``, rounded for people."""
    seconds = value.total_seconds() if isinstance(value, timedelta) else value
    if seconds < 10:  # noqa: PLR2004 - below, tenths are shown
        return f"{max(seconds, 0):.1f} s"
    size, unit = next(each for each in _UNITS if seconds >= each[0])
    return f"{seconds / size:.0f} {unit}"


def ago(value: timedelta) -> str:
    """``just now``, ``3 min ago``."""
    return "just now" if value < timedelta(seconds=1) else f"{duration(value)} ago"


def size(value: int) -> str:
    """``512 B``, ``1.5 MB``, rounded for people."""
    amount = float(value)
    for unit in ("B", "kB", "MB", "GB"):
        if amount < 1000:  # noqa: PLR2004 - the next unit begins at 1000
            return f"{amount:.0f} {unit}" if unit == "B" or amount >= 10 else f"{amount:.1f} {unit}"  # noqa: PLR2004
        amount /= 1000
    return f"{amount:,.1f} TB"
