"""Whether the functions in the database were generated from the settings that doctor has read."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from usersync.config.settings import parse_remembered
from usersync.doctor.context import Context, Definition, Verdict, without_query
from usersync.errors import SettingsError
from usersync.models import Finding

if TYPE_CHECKING:
    from collections.abc import Mapping

    from usersync.transports.steps import Steps


def look(context: Context) -> Steps[Verdict]:
    noted = (context.inspection.noted or {})["settings"]
    try:
        stored = parse_remembered(noted).describe() if noted else {}
    except SettingsError as error:
        return without_query(
            Verdict("", (Finding("D020", "usersync.settings", str(error), "usersync apply"),))
        )
    differing = sorted(_differing(stored, context.settings.describe()))
    findings = [
        Finding(
            "D020",
            name,
            f"{name} is {there} in the database, and {here} in the settings read here",
            "usersync apply",
        )
        for name, there, here in differing
    ]
    return without_query(Verdict("the same as in the database", tuple(findings)))


def _differing(stored: Mapping[str, object], read: Mapping[str, object]) -> list[tuple[str, str, str]]:
    found = []
    for name, here in read.items():
        there = stored.get(name)
        if isinstance(here, dict) and isinstance(there, dict):
            columns = sorted(here.keys() | there.keys())
            pairs = [(f"{name}.{each}", there.get(each), here.get(each)) for each in columns]
        else:
            pairs = [(name, there, here)]
        found += [(where, _shown(a), _shown(b)) for where, a, b in pairs if a != b]
    return found


def _shown(value: object) -> str:
    return "absent" if value is None else json.dumps(value, ensure_ascii=False)


CHECK = Definition("D020", "Settings", look)
