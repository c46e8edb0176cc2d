"""Settings of earlier releases: those without effect, and those with a new name.

Every reader of settings uses ``translate()``: the file, Django's settings, and the settings stored in a
database.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from usersync.errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import Mapping

#: Ignored settings, and the reasons.
RETIRED: Mapping[str, str] = {
    "sign_up_trigger": "the sign-up trigger fires for each row, and syncs all rows of a statement at once",
    "removal_cap": "a sync removes no rows unless it is told to (usersync sync --remove-orphans)",
}

#: Moved settings, and their new section and name.
MOVED: Mapping[str, tuple[str, str]] = {
    "audit_table": ("audit", "table"),
}


class RetiredSettingWarning(FutureWarning):
    """A setting of an earlier release is used. It has no effect any more, or a new name."""


def translate(data: Mapping[str, Any]) -> tuple[dict[str, Any], tuple[str, ...]]:
    """The settings under the names of this release, and a warning for each retired or moved one.

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
        # The parser of the section reports this error.
        return section
    if key in section:
        raise SettingsError(f"{name}: also set as {where}", hint=f"Keep {where}, and remove {name}.")
    return {**section, key: value}
