"""Whether the functions in the database were generated from the settings that doctor has read."""

from __future__ import annotations

from typing import TYPE_CHECKING

from usersync.config.settings import differences, parse_remembered
from usersync.doctor.context import Context, Definition, Verdict, without_query
from usersync.errors import SettingsError
from usersync.models import Finding

if TYPE_CHECKING:
    from usersync.transports.steps import Steps


def look(context: Context) -> Steps[Verdict]:
    noted = (context.inspection.noted or {})["settings"]
    try:
        stored = parse_remembered(noted).describe() if noted else {}
    except SettingsError as error:
        return without_query(
            Verdict("", (Finding("D020", "usersync.settings", str(error), "usersync apply"),))
        )
    differing = sorted(differences(stored, context.settings.describe()))
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


CHECK = Definition("D020", "Settings", look)
