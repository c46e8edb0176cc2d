"""Whether the users table is there and takes the rows that are meant for it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from usersync.mapping import quote
from usersync.plans.audit_inspection import audit_findings
from usersync.plans.doctor.examination import Definition, Patient, Trouble, Verdict, lines, settled
from usersync.plans.inspection import Inspection, find

if TYPE_CHECKING:
    from collections.abc import Iterator

    from usersync.models import Finding
    from usersync.transports.steps import Plan


def look(patient: Patient) -> Plan[Verdict]:
    table = patient.settings.users_table
    return settled(
        Verdict(f"{table} takes every user", tuple(_troubles(patient))),
    )


def _troubles(patient: Patient) -> Iterator[Trouble]:
    table = patient.settings.users_table
    if not patient.inspection.has_users_table:
        yield Trouble(
            f"there is no table {table}: no user gets a row. If it was renamed, set users_table; "
            "otherwise a new one is made and filled",
            "usersync apply",
        )
        return
    findings = _findings(patient)
    if findings:
        cures = list(_cures(patient))
        hints = [f"-- {finding.hint}" for finding in findings if finding.hint]
        worst = any(_stops_users(finding) for finding in findings)
        yield Trouble(
            lines(finding.message for finding in findings),
            lines(cures or hints),
            "problem" if worst else "warning",
        )


def _stops_users(finding: Finding) -> bool:
    return finding.level == "error" or "no user can get a row" in finding.message


def _findings(patient: Patient) -> tuple[Finding, ...]:
    """What ``plan`` says of the two tables, without what other checks say."""
    catalog = {
        **patient.inspection.catalog,
        "source_triggers": [],
        "missing_privileges": [],
        "cascading_foreign_keys": [],
    }
    settings = replace(patient.settings, sign_up_trigger="statement")
    found = find(settings, Inspection(catalog, patient.inspection.noted, ()))
    of_the_log = set(audit_findings(settings, catalog))  # D025
    return tuple(each for each in found if each not in of_the_log)


def _cures(patient: Patient) -> Iterator[str]:
    settings, catalog = patient.settings, patient.inspection.catalog
    table, present = settings.users_table.quoted, catalog["users_columns"]
    if settings.key in present and not catalog["key_is_unique"]:
        yield f"alter table {table} add unique ({quote(settings.key)});"
    for column in settings.columns:
        if column.name not in present:
            yield f"alter table {table} add column {quote(column.name)} {column.sql_type};"
    mapped = {column.name for column in settings.columns} | {settings.key}
    for name, about in present.items():
        if about["required"] and name not in mapped:
            yield f"alter table {table} alter column {quote(name)} drop not null;"


CHECK = Definition("D012", "Shape of the users table", look)
