"""Who reads the audit log, and who could forge events in it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from usersync.plans.audit_inspection import exposure
from usersync.plans.doctor.examination import Definition, Patient, Trouble, Verdict, settled

if TYPE_CHECKING:
    from collections.abc import Iterator

    from usersync.transports.steps import Plan


def look(patient: Patient) -> Plan[Verdict]:
    table = patient.settings.audit_table
    return settled(Verdict(f"neither anon nor authenticated reach {table}", tuple(_troubles(patient))))


def _troubles(patient: Patient) -> Iterator[Trouble]:
    settings, catalog = patient.settings, patient.inspection.catalog
    if found := exposure(settings, catalog):
        guarded = catalog["audit_table"]["row_security"]
        yield Trouble(found.message, found.hint or "", "warning" if guarded else "problem")
    if not catalog["audit_table_created_by_usersync"]:
        return
    for role, privileges in sorted(catalog["audit_table_grants"].items()):
        yield Trouble(
            f"{role} has been granted {privileges} on {settings.audit_table}", "usersync apply", safe=True
        )
    if not catalog["audit_table_is_closed"]:
        yield Trouble(
            f"{settings.audit_table} lacks its row-level security, or what lets the service role read it",
            "usersync apply",
            safe=True,
        )


CHECK = Definition("D026", "Rights on the audit log", look)
