"""Addresses and keys: what is secret, and therefore no setting.

A variable is looked for in the environment, then in ``.env.local``, then in ``.env`` of the current
directory. The first place that has a value wins, and an empty one is none.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from dotenv import dotenv_values
from dotenv.parser import parse_stream

from usersync.errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

ENVIRONMENT = "environment"
FILES = (".env.local", ".env")


@dataclass(frozen=True)
class Found:
    """The value of a variable, and where it was: ``environment``, or a file and its line."""

    variable: str
    value: str = field(repr=False)
    place: str
    line: int | None = None

    @property
    def where(self) -> str:
        """For people: ``.env.local:3``."""
        return self.place if self.line is None else f"{self.place}:{self.line}"


class _Place(Protocol):
    def get(self, variable: str) -> Found | None: ...


class _Environment:
    """What the process was started with."""

    def get(self, variable: str) -> Found | None:
        value = os.environ.get(variable)
        return Found(variable, value, ENVIRONMENT) if value else None


class _File:
    """A file of assignments; raises ``SettingsError`` where it cannot be read."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def get(self, variable: str) -> Found | None:
        value = self._values.get(variable)
        return Found(variable, value, self._path.name, self._lines.get(variable)) if value else None

    @cached_property
    def _values(self) -> Mapping[str, str | None]:
        try:
            # utf-8-sig: editors on Windows begin a file with a byte-order mark.
            return dotenv_values(self._path, encoding="utf-8-sig")
        except (OSError, UnicodeDecodeError) as error:
            raise SettingsError(
                f"cannot read {self._path.name}: {type(error).__name__}",
                hint="Save it as UTF-8, readable by you.",
            ) from None

    @cached_property
    def _lines(self) -> dict[str, int]:
        with self._path.open(encoding="utf-8-sig") as file:
            # The last assignment of a name is the one that counts. What it begins with may be empty lines.
            return {
                each.key: each.original.line + _lines_before(each.original.string)
                for each in parse_stream(file)
                if each.key
            }


def _lines_before(text: str) -> int:
    return text[: len(text) - len(text.lstrip())].count("\n")


def _places(directory: Path | None) -> Iterator[_Place]:
    """One after the other: no file is read, and no directory needed, where the environment has the answer."""
    yield _Environment()
    for name in FILES:
        path = (directory or Path()) / name
        if path.is_file():
            yield _File(path)


def look_up(*variables: str, directory: Path | None = None) -> Found | None:
    """The first place that has one of these; in each place the first of them that it has.

    Raises ``SettingsError`` for a file that cannot be read.
    """
    for place in _places(directory):
        for variable in variables:
            if found := place.get(variable):
                return found
    return None


def look_everywhere(variable: str, *, directory: Path | None = None) -> list[Found]:
    """Every place that has a value for it, the one that counts first."""
    places = _places(directory)
    return [found for place in places if (found := place.get(variable))]
