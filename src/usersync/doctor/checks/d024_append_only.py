"""Whether the audit log that usersync created is append-only, in each of its partitions."""

from __future__ import annotations

from typing import TYPE_CHECKING

from usersync.doctor.context import Context, Definition, Verdict, without_query
from usersync.models import Finding

if TYPE_CHECKING:
    from collections.abc import Iterator

    from usersync.transports.steps import Steps


def look(context: Context) -> Steps[Verdict]:
    table = context.own_audit_table()
    ok_detail = (
        f"{table} and its partitions refuse UPDATE, DELETE and TRUNCATE, and {table} refuses DROP TABLE"
    )
    return without_query(Verdict(ok_detail, tuple(_findings(context))))


def _findings(context: Context) -> Iterator[Finding]:
    for relation in context.inspection.catalog["audit_table_unguarded"]:
        yield Finding(
            "D024",
            f"table {relation}",
            f"{relation} can be changed: a trigger that keeps it append-only is missing or disabled",
            "usersync apply",
            safe=True,
        )
    if not context.inspection.catalog["audit_table_is_guarded"]:
        table = context.settings.audit_table
        yield Finding(
            "D024",
            "view usersync.audit_logs_guard",
            f"{table} can be dropped by accident: the view usersync.audit_logs_guard is missing",
            "usersync apply",
            "warning",
            safe=True,
        )


CHECK = Definition("D024", "Append-only audit log", look)
