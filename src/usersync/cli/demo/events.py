"""What happens in the demo, as it is shown: prose, things that worked, things that did not, rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import click

from usersync.cli.text import align, bad, faint, good, plain, typed, wrap

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence


class Event(Protocol):
    """Something that is shown as it happens."""

    def lines(self, width: int) -> Iterator[str]:
        """For people."""

    def data(self) -> dict[str, Any]:
        """For programs."""


@dataclass(frozen=True)
class Said:
    """A sentence."""

    text: str

    def lines(self, width: int) -> Iterator[str]:
        yield from wrap(self.text, width)

    def data(self) -> dict[str, Any]:
        return {"event": "said", "text": self.text}


@dataclass(frozen=True)
class Ran:
    """SQL that was run, when it is short enough to be worth reading."""

    sql: str

    def lines(self, width: int) -> Iterator[str]:
        yield from map(faint, wrap(self.sql, width, first="  ", rest="    "))

    def data(self) -> dict[str, Any]:
        return {"event": "ran", "sql": self.sql}


@dataclass(frozen=True)
class Worked:
    """Something that was done, and worked."""

    what: str
    result: str = ""

    def lines(self, width: int) -> Iterator[str]:
        yield from wrap(self.what, width, first=f"{good('✓')} ")
        if self.result:
            yield from map(faint, wrap(plain(self.result), width, first="  "))

    def data(self) -> dict[str, Any]:
        return {"event": "worked", "what": self.what, "result": self.result or None}


@dataclass(frozen=True)
class Refused:
    """Something that was tried, and the error that came of it, word for word."""

    what: str
    code: str
    message: str

    def lines(self, width: int) -> Iterator[str]:
        yield from wrap(self.what, width, first=f"{bad('✗')} ")
        yield from wrap(plain(self.message), width, first=f"  {bad(self.code)} ", rest="    ")

    def data(self) -> dict[str, Any]:
        return {"event": "refused", "what": self.what, "code": self.code, "message": self.message}


@dataclass(frozen=True)
class Typed:
    """A command of usersync's, and what it answered."""

    command: str
    answer: tuple[str, ...]

    def lines(self, width: int) -> Iterator[str]:  # noqa: ARG002 - the answer is wrapped already
        yield ""
        yield f"{faint('$')} {typed(self.command)}"
        yield from (f"  {line}" for line in self.answer)
        yield ""

    def data(self) -> dict[str, Any]:
        answer = [click.unstyle(line) for line in self.answer]
        return {"event": "command", "command": self.command, "answer": answer}


@dataclass(frozen=True)
class Rows:
    """Rows of a table, as they are in the database."""

    table: str
    rows: Sequence[Mapping[str, Any]]

    def lines(self, width: int) -> Iterator[str]:  # noqa: ARG002 - few columns, short values
        names = list(self.rows[0]) if self.rows else []
        heads = [faint(name) for name in names]
        cells = [[_cell(row[name]) for name in names] for row in self.rows]
        yield from align([heads, *cells], indent="  ")

    def data(self) -> dict[str, Any]:
        return {"event": "rows", "table": self.table, "rows": list(self.rows)}


@dataclass(frozen=True)
class Facts:
    """One row of a table, a column a line."""

    table: str
    row: Mapping[str, Any]

    def lines(self, width: int) -> Iterator[str]:
        names = max(map(len, self.row))
        for name, value in self.row.items():
            first = f"  {faint(name.ljust(names))}  "
            yield from wrap(_cell(value), width, first=first, rest=" " * (names + 4))

    def data(self) -> dict[str, Any]:
        return {"event": "rows", "table": self.table, "rows": [dict(self.row)]}


def _cell(value: object) -> str:
    if value is None:
        return faint("null")
    if isinstance(value, bool):
        return good("yes") if value else "no"
    return plain(value)
