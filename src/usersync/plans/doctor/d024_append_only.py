"""Whether the audit log that usersync made takes events and nothing else, in each of its partitions."""

from __future__ import annotations

from typing import TYPE_CHECKING

from usersync.models import Finding
from usersync.plans.doctor.context import Context, Definition, Verdict, settled

if TYPE_CHECKING:
    from usersync.transports.steps import Plan


def look(context: Context) -> Plan[Verdict]:
    table = context.own_audit_table()
    unguarded = context.inspection.catalog["audit_table_unguarded"]
    return settled(
        Verdict(
            f"{table} and its partitions refuse UPDATE, DELETE and TRUNCATE",
            tuple(
                Finding(
                    "D024",
                    f"table {relation}",
                    f"{relation} can be changed: a trigger that keeps it append-only is missing or disabled",
                    "usersync apply",
                    safe=True,
                )
                for relation in unguarded
            ),
        )
    )


CHECK = Definition("D024", "Append-only audit log", look)
