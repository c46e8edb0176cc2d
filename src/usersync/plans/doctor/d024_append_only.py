"""Whether the audit log that usersync made takes events and nothing else, in each of its partitions."""

from __future__ import annotations

from typing import TYPE_CHECKING

from usersync.plans.doctor.examination import Definition, Patient, Trouble, Verdict, settled

if TYPE_CHECKING:
    from usersync.transports.steps import Plan


def look(patient: Patient) -> Plan[Verdict]:
    table = patient.own_audit_table()
    unguarded = patient.inspection.catalog["audit_table_unguarded"]
    return settled(
        Verdict(
            f"{table} and its partitions refuse UPDATE, DELETE and TRUNCATE",
            tuple(
                Trouble(
                    f"{relation} can be changed: a trigger that keeps it append-only is missing or disabled",
                    "usersync apply",
                    safe=True,
                )
                for relation in unguarded
            ),
        )
    )


CHECK = Definition("D024", "Append-only audit log", look)
