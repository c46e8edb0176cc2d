"""Settings of earlier releases: those that have no effect any more, and those that moved.

Every reader of settings uses ``translate()``: the file, Django's settings, and what a database remembers
of the settings that it was set up with.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from usersync.errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import Mapping

#: The setting, and why it is ignored.
RETIRED: Mapping[str, str] = {
    "sign_up_trigger": "the sign-up trigger fires for each row, and syncs all rows of a statement at once",
    "removal_cap": "a sync removes no rows unless it is told to (usersync sync --remove-orphans)",
}

#: The setting, and the section and name that it has now.
MOVED: Mapping[str, tuple[str, str]] = {
    "audit_table": ("audit", "table"),
}


class RetiredSettingWarning(FutureWarning):
    """A setting of an earlier release is used: it has no effect any more, or another name."""


def translate(data: Mapping[str, Any]) -> tuple[dict[str, Any], tuple[str, ...]]:
    """The settings under the names of this release, and a warning for each that is retired or moved.

    Raises ``SettingsError`` for a setting that is given under both names.
    """
    kept = {name: value for name, value in data.items() if name not in RETIRED and name not in MOVED}
    warnings = [
        f"{name} has no effect any more: {why}. Remove this line"
        for name, why in RETIRED.items()
        if name in data
    ]
    for name, (section, key) in MOVED.items():
        if name in data:
            kept[section] = _moved(name, data[name], kept.get(section, {}), f"[{section}] {key}", key)
            warnings.append(f"{name} is now [{section}] {key}. Move this line")
    return kept, tuple(warnings)


def _moved(name: str, value: object, section: object, where: str, key: str) -> object:
    if not isinstance(section, dict):
        # Whoever reads the section has the words for this.
        return section
    if key in section:
        raise SettingsError(f"{name}: also set as {where}", hint=f"Keep {where}, and remove {name}.")
    return {**section, key: value}
