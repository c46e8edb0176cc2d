"""Which roles may read the audit log or write to it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from usersync.doctor.context import Context, Definition, Verdict, without_query
from usersync.models import Finding

if TYPE_CHECKING:
    from collections.abc import Iterator

    from usersync.transports.steps import Steps


def look(context: Context) -> Steps[Verdict]:
    context.require_audit_log()
    table, audit = context.settings.audit_table, context.settings.audit
    if audit.tenants_read or audit.users_read:
        whose = " and ".join(
            text
            for is_open, text in [(audit.users_read, "their own"), (audit.tenants_read, "their tenant's")]
            if is_open
        )
        said = f"anon cannot access {table}; signed-in users can read {whose} events, as the settings say"
    else:
        said = f"neither anon nor authenticated can access {table}"
    return without_query(Verdict(said, tuple(_findings(context))))


def _findings(context: Context) -> Iterator[Finding]:
    settings, catalog = context.settings, context.inspection.catalog
    yield from context.found("D026")
    if not catalog["audit_table_created_by_usersync"]:
        return
    for role, privileges in sorted(catalog["audit_table_grants"].items()):
        yield Finding(
            "D026",
            f"table {settings.audit_table}",
            f"{role} has been granted {privileges} on {settings.audit_table}",
            "usersync apply",
            safe=True,
        )
    if not catalog["audit_table_is_closed"]:
        yield Finding(
            "D026",
            f"table {settings.audit_table}",
            f"{settings.audit_table} has no row-level security, or no policy that lets service_role read it",
            "usersync apply",
            safe=True,
        )


CHECK = Definition("D026", "Rights on the audit log", look)
