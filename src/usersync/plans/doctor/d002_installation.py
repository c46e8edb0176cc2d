"""Whether usersync is in this database at all, or something else under its names."""

from __future__ import annotations

from typing import TYPE_CHECKING

from usersync.plans.doctor.examination import Definition, Patient, Trouble, Verdict, lines, settled
from usersync.plans.inspection import OUR_TRIGGERS, find
from usersync.sql.expressions import literal

if TYPE_CHECKING:
    from collections.abc import Iterator

    from usersync.plans.protocol import Plan


def look(patient: Patient) -> Plan[Verdict]:
    return settled(Verdict("schema usersync is installed", tuple(_troubles(patient))))


def _troubles(patient: Patient) -> Iterator[Trouble]:
    if patient.inspection.noted is not None:
        return
    obstacles = [each for each in find(patient.settings, patient.inspection) if each.level == "error"]
    yield Trouble(
        lines(["usersync is not installed in this database", *(each.message for each in obstacles)]),
        lines(
            [*(f"-- {each.hint}" for each in obstacles if each.hint), *_renames(patient), "usersync apply"]
        ),
    )


def _renames(patient: Patient) -> Iterator[str]:
    """Out of the way, but not away: a recipe's trigger cannot be renamed, so its function is named first."""
    for conflict in patient.inspection.conflicts:
        if conflict["kind"] == "trigger" and conflict["name"] in OUR_TRIGGERS:
            yield f"select pg_get_functiondef({literal(conflict['function'])}::regprocedure);"
            yield f"drop trigger {conflict['name']} on {patient.settings.source_table.quoted};"


CHECK = Definition("D002", "Installation", look, "source")
