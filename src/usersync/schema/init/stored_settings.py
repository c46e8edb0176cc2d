"""The settings of a database that has usersync already, as a file: for whoever has lost theirs."""

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
    """What is not as by default, and every column of the table; ``stored`` is what usersync remembers."""
    defaults = Settings().describe()
    settings = parse_remembered(stored)
    data = {
        name: _changed(value, defaults[name]) if name == "audit" else value
        for name, value in settings.describe().items()
        if name == "users_table" or (name != "columns" and value != defaults[name])
    }
    if settings.on_soft_delete != settings.on_delete:
        # Left out, it would be what on_delete is.
        data["on_soft_delete"] = settings.on_soft_delete
    mapped = {column.name: column for column in settings.columns}
    names = [column["name"] for column in about["columns"] if column["name"] != key]
    return data, tuple(
        Proposed(name, _short(mapped[name]), "as usersync was set up here")
        if name in mapped
        else Proposed(name, None, "not mapped so far")
        for name in dict.fromkeys([*names, *mapped])
    )


def _changed(section: Mapping[str, Any], default: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in section.items() if value != default[name]}


def _short(column: Column) -> dict[str, Any]:
    """A column's entry without what goes without saying."""
    entry = column.describe()
    silent = usual_options(column)
    return {option: value for option, value in entry.items() if silent.get(option, ...) != value}
