"""The fields of an event as SQL, for usersync's audit log or an application's own."""

from __future__ import annotations

from typing import TYPE_CHECKING

from usersync.config.audit_columns import FIELDS
from usersync.config.mapping import quote
from usersync.sql.expressions import literal

if TYPE_CHECKING:
    from collections.abc import Mapping

    from usersync.config.audit_columns import AuditColumn, AuditColumns
    from usersync.config.settings import Settings

#: The start of the comment on an audit log that usersync created.
OWN_COMMENT = "The audit log, made by usersync: "


def audit_log(settings: Settings) -> str:
    """The audit log; null if there is none, even if another table has its name."""
    is_log = "relkind in ('r', 'p')"
    if settings.audit.is_own:
        # A copy of the table may have the comment too.
        comment = "obj_description(pg_class.oid, 'pg_class')"
        is_log = f"relkind = 'p' and starts_with({comment}, {literal(OWN_COMMENT)})"
    name = literal(settings.audit_table.quoted)
    return (
        f"(select pg_class.oid::regclass from pg_class where pg_class.oid = to_regclass({name}) and {is_log})"
    )


def audit_column_list(audit: AuditColumns) -> str:
    """The columns of the audit table that are written."""
    return ", ".join(quote(column.name) for column in audit.effective().values())


def audit_key(audit: AuditColumns) -> str:
    """The unique columns, because of which an event is stored once."""
    return '"id", "occurred_at"' if audit.is_own else quote(audit.columns["id"].name)


def is_audit_id(audit: AuditColumns) -> str:
    """Whether a row ``stored`` is the event ``given.id``."""
    column = audit.effective()["id"]
    return f"stored.{quote(column.name)} = given.id" + (f"::{column.type}" if column.type else "")


def audit_user(audit: AuditColumns) -> str:
    """The column that links to the user. Without one, the id column, which is then never written."""
    columns = audit.effective()
    return quote(columns.get("user_id", columns["id"]).name)


def is_audit_user(settings: Settings) -> str:
    """Whether a row ``stored`` is linked to the user ``going.id``."""
    column = settings.audit.effective().get("user_id")
    if column is None:
        return "false"
    stored = f"stored.{quote(column.name)}"
    if settings.audit.is_own:
        return settings.key_type.matches(stored, "going.id")
    return f"{stored} = going.id" + (f"::{column.type}" if column.type else "")


def audit_value_list(audit: AuditColumns) -> str:
    """The values of these columns, from a row ``event`` with all fields of an event."""
    columns = audit.effective()
    values = {name: _value(name, columns) for name in columns}
    return ", ".join(
        f"({values[name]})::{column.type}" if column.type else values[name]
        for name, column in columns.items()
    )


def _value(name: str, columns: Mapping[str, AuditColumn]) -> str:
    if name == "ip" and columns["ip"].type == "text":
        return "host(event.ip)"  # inet::text would add the length of the network
    if name != "metadata":
        return f"event.{name}"
    unmapped = [field for field in FIELDS if field not in columns]
    if not unmapped:
        return "event.metadata"
    pairs = ", ".join(f"{literal(field)}, event.{field}" for field in unmapped)
    # jsonb_strip_nulls would also remove nested nulls.
    return (
        f"({_set_apart([*unmapped, SET_APART])}) || (select coalesce(jsonb_object_agg(key, value), '{{}}') "
        f"from jsonb_each(jsonb_build_object({pairs})) where value <> 'null')"
    )


#: The key in the metadata for the caller's entries that have the name of a field without a column.
SET_APART = "metadata"


def _set_apart(reserved: list[str]) -> str:
    """The caller's metadata. Entries with the name of a field are one level down."""
    names = f"array[{', '.join(map(literal, reserved))}]"
    return (
        f"case when jsonb_exists_any(event.metadata, {names}) then event.metadata - {names} || "
        f"jsonb_build_object({literal(SET_APART)}, (select jsonb_object_agg(key, value) "
        f"from jsonb_each(event.metadata) where key = any({names}))) else event.metadata end"
    )
