"""Enables the audit log in a hand-written settings file, and changes nothing else in it."""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from usersync.cli.toml_lines import lines_of_keys
from usersync.config.settings import FILE_NAME
from usersync.errors import SettingsError
from usersync.schema.init.settings_file import NO_LOG
from usersync.schema.init.toml import toml

if TYPE_CHECKING:
    from collections.abc import Mapping

    from usersync.config.mapping import TableName

_PROJECT = "pyproject.toml"


@dataclass(frozen=True)
class SettingsFile:
    """The file that the settings are read from. A missing file is created."""

    path: Path
    #: The path of the section with the settings.
    prefix: tuple[str, ...] = ()

    @classmethod
    def of(cls, config: Path | None) -> SettingsFile:
        """The file of ``--config``; else ``usersync.toml``, or ``pyproject.toml`` if it has a section."""
        own, project = config or Path(FILE_NAME), Path(_PROJECT)
        if config is None and not own.is_file() and project.is_file():
            text = project.read_text("utf-8-sig")
            if ("tool", "usersync") in lines_of_keys(text):
                return cls(project, ("tool", "usersync"))
        return cls(own)

    def with_log(self, table: TableName | None = None) -> str:
        """The text of the file with ``[audit] enabled = true``, and with the log's name if one is given.

        Raises ``SettingsError`` if the file has a form that this method cannot edit.
        """
        text = self.path.read_text("utf-8-sig") if self.path.is_file() else ""
        wanted = {"enabled": True} | ({"table": str(table)} if table else {})
        section = (*self.prefix, "audit")
        changed = _with_keys(text, section, wanted).replace(f"# {NO_LOG}\n", "")
        if not _only_adds(tomllib.loads(text), changed, section, wanted):
            header, *rest = _section_lines(section, wanted)
            raise SettingsError(
                f"{self.path} has the section audit in a form that usersync does not edit",
                hint=f"Write these lines into the file, then run usersync apply: {' '.join((header, *rest))}",
            )
        return changed

    def write(self, text: str) -> None:
        """Replace the content of the file."""
        try:
            self.path.write_text(text, encoding="utf-8")
        except OSError as error:
            raise SettingsError(f"cannot write {self.path}: {error.strerror}") from error


_VALUE = re.compile(r"=\s*(?:true|false|\"[^\"]*\"|'[^']*')")


def _with_keys(text: str, section: tuple[str, ...], wanted: Mapping[str, Any]) -> str:
    lines, places = text.splitlines(), lines_of_keys(text)
    missing = {}
    for name, value in wanted.items():
        place = places.get((*section, name))
        if place is None:
            missing[name] = value
        else:
            lines[place - 1] = f"= {toml(value)}".join(_VALUE.split(lines[place - 1], maxsplit=1))
    header, *new = _section_lines(section, missing)
    at = next((number for number, line in enumerate(lines) if _is_header(line, section)), None)
    if at is not None:
        lines[at + 1 : at + 1] = new
    elif new:
        lines += [*([""] if lines else []), header, *new]
    return "\n".join(lines) + "\n"


def _section_lines(section: tuple[str, ...], values: Mapping[str, Any]) -> list[str]:
    return [f"[{'.'.join(section)}]", *(f"{name} = {toml(value)}" for name, value in values.items())]


def _is_header(line: str, section: tuple[str, ...]) -> bool:
    dots = r"\s*\.\s*".join(section)
    return re.match(rf"\s*\[\s*{dots}\s*\]", line) is not None


def _only_adds(
    before: dict[str, Any], text: str, section: tuple[str, ...], wanted: Mapping[str, Any]
) -> bool:
    """Whether the text has the settings of ``before`` and the wanted ones, and no others."""
    try:
        after = tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        return False
    place = before
    for name in section:
        place = place.setdefault(name, {})
        if not isinstance(place, dict):
            return False
    place.update(wanted)
    return after == before
