"""The fields of an event as SQL, for whichever table they go into."""

from __future__ import annotations

from typing import TYPE_CHECKING

from usersync.audit_columns import FIELDS
from usersync.mapping import quote
from usersync.sql.expressions import literal

if TYPE_CHECKING:
    from usersync.audit_columns import AuditColumns


def audit_column_list(audit: AuditColumns) -> str:
    """The columns of the audit table that are written."""
    return ", ".join(quote(column.name) for column in audit.effective().values())


def audit_value_list(audit: AuditColumns) -> str:
    """What is written into them, from a row ``event`` that has all fields of an event."""
    return ", ".join(
        f"({_value(name, audit)})::{column.type}" if column.type else _value(name, audit)
        for name, column in audit.effective().items()
    )


def _value(name: str, audit: AuditColumns) -> str:
    if name == "ip" and audit.effective()["ip"].type == "text":
        return "host(event.ip)"  # inet::text would add the length of the network
    if name != "metadata":
        return f"event.{name}"
    unmapped = [field for field in FIELDS if field not in audit.effective()]
    if not unmapped:
        return "event.metadata"
    pairs = ", ".join(f"{literal(field)}, event.{field}" for field in unmapped)
    return f"event.metadata || jsonb_strip_nulls(jsonb_build_object({pairs}))"
