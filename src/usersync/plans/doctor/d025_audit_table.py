"""Whether the audit log has what storing and finding events needs; an application's own, whether it fits."""

from __future__ import annotations

from typing import TYPE_CHECKING

from usersync.mapping import quote
from usersync.plans.audit_inspection import audit_findings, exposure
from usersync.plans.doctor.examination import Definition, Patient, Trouble, Verdict, lines, settled

if TYPE_CHECKING:
    from collections.abc import Iterator

    from usersync.settings import Settings
    from usersync.transports.steps import Plan

_PAUSE = "-- At a quiet hour: recording waits meanwhile, and the more events there are, the longer."


def look(patient: Patient) -> Plan[Verdict]:
    settings, catalog = patient.settings, patient.inspection.catalog
    if not settings.audit.is_own or not catalog["audit_table_created_by_usersync"]:
        troubles = tuple(_misfits(patient))
    else:
        troubles = tuple(_lost(settings, patient))
    return settled(Verdict(f"{settings.audit_table} takes every event", troubles))


def _misfits(patient: Patient) -> Iterator[Trouble]:
    settings, catalog = patient.settings, patient.inspection.catalog
    if settings.audit.is_own and not catalog["has_audit_table"]:
        yield Trouble(
            f"there is no table {settings.audit_table}: no event can be stored", "usersync apply", safe=True
        )
    reached = exposure(settings, catalog)
    for finding in audit_findings(settings, catalog):
        if finding != reached:  # D026
            hint = finding.hint or "See the documentation of [audit.columns]."
            yield Trouble(
                finding.message,
                hint if hint.endswith(";") and hint.startswith("alter ") else f"-- {hint}",
                "problem" if finding.level == "error" else "warning",
            )


def _lost(settings: Settings, patient: Patient) -> Iterator[Trouble]:
    table, users = settings.audit_table.quoted, settings.users_table.quoted
    if not patient.inspection.catalog["audit_table_links_users"]:
        yield Trouble(
            f"{settings.audit_table}.user_id has no foreign key to {settings.users_table}: a link stays "
            "when its user is deleted",
            lines([_PAUSE, _relink(table, users, quote(settings.key))]),
        )
    for definition in patient.inspection.catalog["audit_table_lost_indexes"]:
        yield Trouble(
            f"{settings.audit_table} has no index {definition}",
            lines([_PAUSE, f"create index on {table} {definition};"]),
            "warning",
        )


def _relink(table: str, users: str, key: str) -> str:
    """As long as there is no foreign key, nobody unlinks the events of users who go."""
    return lines(
        [
            "begin;",
            "set local usersync.maintaining = 'audit';",
            f"update {table} as event set user_id = null where user_id is not null and not exists (",
            f"    select from {users} as target where target.{key} = event.user_id);",
            f"alter table {table} add foreign key (user_id) references {users} ({key}) on delete set null;",
            "commit;",
        ]
    )


CHECK = Definition("D025", "Shape of the audit log", look)
