"""Secrets from environment variables: connection strings and API keys.

A variable is read from the environment, then from ``.env.local``, then from ``.env`` in the current
directory. The first value that is not empty wins.
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
    """The value of a variable and its place: ``environment``, or a file and a line number."""

    variable: str
    value: str = field(repr=False)
    place: str
    line: int | None = None

    @property
    def where(self) -> str:
        """The place as text, such as ``.env.local:3``."""
        return self.place if self.line is None else f"{self.place}:{self.line}"


class _Place(Protocol):
    def get(self, variable: str) -> Found | None: ...


class _Environment:
    """The environment of the process."""

    def get(self, variable: str) -> Found | None:
        value = os.environ.get(variable)
        return Found(variable, value, ENVIRONMENT) if value else None


class _File:
    """A file of assignments. Raises ``SettingsError`` if it cannot be read."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def get(self, variable: str) -> Found | None:
        value = self._values.get(variable)
        return Found(variable, value, self._path.name, self._lines.get(variable)) if value else None

    @cached_property
    def _values(self) -> Mapping[str, str | None]:
        try:
            # utf-8-sig: some editors on Windows write a byte-order mark.
            return dotenv_values(self._path, encoding="utf-8-sig")
        except (OSError, UnicodeDecodeError) as error:
            raise SettingsError(
                f"cannot read {self._path.name}: {type(error).__name__}",
                hint="Save it as UTF-8, readable by you.",
            ) from None

    @cached_property
    def _lines(self) -> dict[str, int]:
        with self._path.open(encoding="utf-8-sig") as file:
            # The last assignment of a name counts. The parser's text of it may begin with empty lines.
            return {
                each.key: each.original.line + _lines_before(each.original.string)
                for each in parse_stream(file)
                if each.key
            }


def _lines_before(text: str) -> int:
    return text[: len(text) - len(text.lstrip())].count("\n")


def _places(directory: Path | None) -> Iterator[_Place]:
    """A generator, so that no file is read if the environment has a value."""
    yield _Environment()
    for name in FILES:
        path = (directory or Path()) / name
        if path.is_file():
            yield _File(path)


def look_up(*variables: str, directory: Path | None = None) -> Found | None:
    """The value of the first of these variables in the first place that has any of them.

    Raises ``SettingsError`` for a file that cannot be read.
    """
    return next(values_of(*variables, directory=directory), None)


def values_of(*variables: str, directory: Path | None = None) -> Iterator[Found]:
    """All values of these variables, by place, and in each place in the order of the variables."""
    for place in _places(directory):
        for variable in variables:
            if found := place.get(variable):
                yield found


def look_everywhere(variable: str, *, directory: Path | None = None) -> list[Found]:
    """The values of the variable in all places, the effective one first."""
    places = _places(directory)
    return [found for place in places if (found := place.get(variable))]
