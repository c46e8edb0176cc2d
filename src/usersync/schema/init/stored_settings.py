"""The settings that usersync stored in the database, as a proposal: for a lost settings file."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from usersync.config.mapping import usual_options
from usersync.config.settings import Settings, parse_remembered
from usersync.schema.init.columns import Proposed

if TYPE_CHECKING:
    from collections.abc import Mapping

    from usersync.config.mapping import Column


def stored_settings(
    stored: Mapping[str, Any], about: Mapping[str, Any], key: str
) -> tuple[dict[str, Any], tuple[Proposed, ...]]:
    """The ``stored`` settings that differ from the defaults, and every column of the table."""
    defaults = Settings().describe()
    settings = parse_remembered(stored)
    data = {
        name: _changed(value, defaults[name]) if name == "audit" else value
        for name, value in settings.describe().items()
        if name == "users_table" or (name != "columns" and value != defaults[name])
    }
    if settings.on_soft_delete != settings.on_delete:
        # Without it, on_soft_delete would equal on_delete.
        data["on_soft_delete"] = settings.on_soft_delete
    mapped = {column.name: column for column in settings.columns}
    names = [column["name"] for column in about["columns"] if column["name"] != key]
    return data, tuple(
        Proposed(name, _short(mapped[name]), "as in the installed settings")
        if name in mapped
        else Proposed(name, None, "not mapped")
        for name in dict.fromkeys([*names, *mapped])
    )


def _changed(section: Mapping[str, Any], default: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in section.items() if value != default[name]}


def _short(column: Column) -> dict[str, Any]:
    """A column's entry without default options."""
    entry = column.describe()
    silent = usual_options(column)
    return {option: value for option, value in entry.items() if silent.get(option, ...) != value}
