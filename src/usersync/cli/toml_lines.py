"""Finds the line of each key in a TOML file."""

from __future__ import annotations

import tomllib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

Path = tuple[str, ...]


def lines_of_keys(text: str) -> dict[Path, int]:
    """The line of each key and of each table, by its path. ``text`` is valid TOML.

    Each TOML statement is a valid document by itself. It ends with the line that makes it parse.
    """
    found: dict[Path, int] = {}
    table: Path = ()
    for number, statement, parsed in _statements(text):
        is_header = statement.lstrip().startswith("[")
        prefix = () if is_header else table
        paths = [prefix + path for path in _paths(parsed)]
        for path in paths:
            for length in range(1, len(path) + 1):
                found.setdefault(path[:length], number)
        if is_header and paths:
            table = max(paths, key=len)
    return found


def _statements(text: str) -> Iterator[tuple[int, str, dict[str, Any]]]:
    """Each statement with the line in which it begins. Comments and empty lines are not statements."""
    begun, held = 1, ""
    for number, line in enumerate(text.splitlines(keepends=True), 1):
        begun = begun if held else number
        held += line
        try:
            parsed = tomllib.loads(held)
        except tomllib.TOMLDecodeError:
            continue  # the statement continues in the next line
        if parsed:
            yield begun, held, parsed
        held = ""


def _paths(parsed: dict[str, Any]) -> Iterator[Path]:
    for key, value in parsed.items():
        inner = value[-1] if isinstance(value, list) and value and isinstance(value[-1], dict) else value
        deeper = list(_paths(inner)) if isinstance(inner, dict) else []
        yield from ((key, *path) for path in deeper or [()])
