"""The outputs of the demo: sentences, SQL, results, errors, commands and rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import click

from usersync.cli.text import align, bad, faint, good, plain, typed, wrap

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence


class Event(Protocol):
    """One output of the demo."""

    def lines(self, width: int) -> Iterator[str]:
        """Lines for people."""

    def data(self) -> dict[str, Any]:
        """Data for programs."""


@dataclass(frozen=True)
class Sentence:
    """A sentence."""

    text: str

    def lines(self, width: int) -> Iterator[str]:
        yield from wrap(self.text, width)

    def data(self) -> dict[str, Any]:
        return {"event": "said", "text": self.text}


@dataclass(frozen=True)
class Statement:
    """A short SQL statement that was run."""

    sql: str

    def lines(self, width: int) -> Iterator[str]:
        yield from map(faint, wrap(self.sql, width, first="  ", rest="    "))

    def data(self) -> dict[str, Any]:
        return {"event": "ran", "sql": self.sql}


@dataclass(frozen=True)
class Success:
    """A successful action."""

    what: str
    result: str = ""

    def lines(self, width: int) -> Iterator[str]:
        yield from wrap(self.what, width, first=f"{good('✓')} ")
        if self.result:
            yield from map(faint, wrap(plain(self.result), width, first="  "))

    def data(self) -> dict[str, Any]:
        return {"event": "worked", "what": self.what, "result": self.result or None}


@dataclass(frozen=True)
class Failure:
    """A failed action, with the original error."""

    what: str
    code: str
    message: str

    def lines(self, width: int) -> Iterator[str]:
        yield from wrap(self.what, width, first=f"{bad('✗')} ")
        yield from wrap(plain(self.message), width, first=f"  {bad(self.code)} ", rest="    ")

    def data(self) -> dict[str, Any]:
        return {"event": "refused", "what": self.what, "code": self.code, "message": self.message}


@dataclass(frozen=True)
class Command:
    """A command of usersync, with its output."""

    command: str
    answer: tuple[str, ...]

    def lines(self, width: int) -> Iterator[str]:  # noqa: ARG002 - the output is already wrapped
        yield ""
        yield f"{faint('$')} {typed(self.command)}"
        yield from (f"  {line}" for line in self.answer)
        yield ""

    def data(self) -> dict[str, Any]:
        answer = [click.unstyle(line) for line in self.answer]
        return {"event": "command", "command": self.command, "answer": answer}


@dataclass(frozen=True)
class Rows:
    """Rows of a table."""

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
class Row:
    """One row of a table, with a line for each column."""

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
