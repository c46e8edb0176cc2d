"""Checks whether the application's own audit table can store events as ``[audit.columns]`` says.

Otherwise the database would reject every event, beginning with the first.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from usersync.audit.noting import feed_findings, is_wanted
from usersync.config.audit_columns import AUDIT_TABLE, FIELDS
from usersync.config.mapping import parse_type, quote
from usersync.core.audit_log import COMMAND
from usersync.errors import SettingsError
from usersync.models import Finding

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from usersync.config.audit_columns import AuditColumn
    from usersync.config.settings import Settings
    from usersync.core.foreign_keys import ForeignKey, ForeignKeys

_TYPE_NAMES = {"timestamptz": "timestamp with time zone"}

#: The maximum length of an event's own names.
_LONGEST_NAME = 200

#: Fields that every event has.
_ALWAYS = {"id", "occurred_at", "recorded_at", "action", "outcome", "actor_type", "metadata", "source"}

#: Usual column names in audit tables.
_USUAL_NAMES = {
    "id": ("event_id", "event_uuid"),
    "occurred_at": ("occurred_at", "created_at", "timestamp", "performed_at"),
    "action": ("action", "event", "event_type", "operation"),
    "user_id": ("user_id", "performed_by", "created_by"),
    "entity_type": ("entity_type", "table_name", "resource_type", "entity", "resource"),
    "entity_id": ("entity_id", "record_id", "resource_id", "row_id"),
    "changes": ("changes", "diff"),
    "metadata": ("metadata", "details", "data", "payload"),
    "ip": ("ip", "ip_address"),
    "user_agent": ("user_agent",),
    "request_id": ("request_id",),
}


def audit_findings(settings: Settings, catalog: Mapping[str, Any], keys: ForeignKeys) -> Iterator[Finding]:
    """Problems of the application's own audit table. None for a log that usersync creates or has created."""
    about = catalog["audit_table"]
    if settings.audit.is_own:
        if settings.audit.enabled and about is not None and not catalog["has_audit_log"]:
            yield _not_mapped(settings, about)
        if not settings.audit.enabled and not catalog["has_audit_log"]:
            yield from _not_created(settings, catalog)
            if settings.audit.user_events:
                yield _nowhere_for_user_events(settings)
        if catalog["audit_table_created_by_usersync"] and not catalog["audit_table_partitions"]:
            yield _without_partitions(settings)
    elif about is None or about["kind"] not in {"r", "p"}:
        yield Finding(
            "D025",
            f"table {settings.audit_table}",
            f"there is no table {settings.audit_table}, but [audit.columns] maps its columns",
            "-- Set [audit] table to the application's audit table; or leave out [audit.columns], and "
            "usersync creates one.",
            level="error",
        )
    else:
        yield from _columns(settings, about)
        yield from _lengths(settings, about)
        yield from _table(settings, about)
        if is_wanted(settings, catalog):
            yield from feed_findings(settings, about)
        yield from _references(settings, keys.between(catalog["audit_table_oid"], keys.users))
        if found := _exposure(settings, catalog):
            yield found


def _not_created(settings: Settings, catalog: Mapping[str, Any]) -> Iterator[Finding]:
    """The settings name a log that does not exist and is not enabled."""
    table, others = settings.audit_table, catalog["former_audit_logs"]
    create = "usersync creates it only with [audit] enabled = true"
    if others:
        yield Finding(
            "D025",
            f"table {table}",
            f"the existing audit log is {others[0]}, but [audit] table names {table}, which is not an audit "
            f"log; {create}. Once these settings are applied, no event can be stored",
            f'-- To use the existing log: [audit] table = "{others[0]}". To create the other: {COMMAND}',
        )
    elif table != AUDIT_TABLE:
        yield Finding(
            "D025",
            f"table {table}",
            f"[audit] table names {table}, and there is no audit log of this name: {create}",
            COMMAND,
            "warning",
        )


def _nowhere_for_user_events(settings: Settings) -> Finding:
    return Finding(
        "D025",
        f"table {settings.audit_table}",
        "[audit] user_events = true, and there is no audit log that could store the events",
        COMMAND,
        "error",
    )


def _without_partitions(settings: Settings) -> Finding:
    """A log restored from a dump of one schema. It cannot be recognized once it has partitions again."""
    return Finding(
        "D027",
        f"table {settings.audit_table}",
        f"{settings.audit_table} has no partitions, so it has no events. The partitions are in the schema "
        "usersync. A dump of the schema public, or of this table alone (pg_dump -n, -t), holds neither the "
        "partitions nor the triggers of tracked tables",
        "-- Restore the schema usersync as well: see docs/backup.md. To start with an empty log: usersync "
        "apply; then track the tables again: usersync audit track",
        "warning",
    )


def lost_protection(catalog: Mapping[str, Any]) -> tuple[str, ...]:
    """Protections of the log that were removed. ``apply`` restores them, with a short lock."""
    lost = []
    if catalog["audit_table_unguarded"]:
        lost.append("append-only")
    if catalog["audit_table_grants"]:
        lost.append(f"closed to {' and '.join(sorted(catalog['audit_table_grants']))}")
    if not catalog["audit_table_is_closed"]:
        lost.append("protected by row-level security, readable by service_role")
    if catalog["audit_table_readers"] is False:
        lost.append("readable by signed-in users, or not, as [audit] users_read and tenants_read say")
    if not catalog["audit_table_is_guarded"]:
        lost.append("protected from DROP TABLE")
    if not catalog["audit_table_has_default"]:
        lost.append("complete with a default partition")
    return tuple(lost)


def _exposure(settings: Settings, catalog: Mapping[str, Any]) -> Finding | None:
    """Report roles that can access the application's own audit table through the Data API."""
    table, about = settings.audit_table, catalog["audit_table"]
    if settings.audit.is_own or not about or not about["reached"]:
        return None
    actions = "; ".join(f"{role} may {doing}" for role, doing in sorted(about["reached"].items()))
    guard = "only its policies protect" if about["row_security"] else "nothing protects"
    return Finding(
        "D026",
        f"table {table}",
        f"{table}: {actions}; {guard} the log from holders of the project's public key",
        f"revoke all on table {table.quoted} from public, {', '.join(sorted(about['reached']))};",
        "warning" if about["row_security"] else "problem",
    )


def _not_mapped(settings: Settings, about: Mapping[str, Any]) -> Finding:
    lines = [
        f'{name} = "{found}"'
        for name, usual in _USUAL_NAMES.items()
        if (found := next((each for each in usual if each in about["columns"]), None))
    ]
    return Finding(
        "D025",
        f"table {settings.audit_table}",
        f"{settings.audit_table} exists and was not created by usersync",
        '-- Name another table for usersync to create: [audit] table = "public.audit_events". Or map '
        f"the columns of this table in [audit.columns]. By their names: {', '.join(lines)}. "
        "The field id needs its own unique uuid column.",
        level="error",
    )


def _columns(settings: Settings, about: Mapping[str, Any]) -> Iterator[Finding]:
    for name, column in settings.audit.columns.items():
        where, there = f"audit.columns.{name}", about["columns"].get(column.name)
        label = f"{settings.audit_table}.{column.name}"
        if there is None:
            present = ", ".join(sorted(about["columns"]))
            yield Finding(
                "D025",
                f"column {label}",
                f"{where}: there is no column {label}",
                f"-- Its columns are: {present}.",
                level="error",
            )
        elif there["generated"]:
            yield Finding(
                "D025",
                f"column {label}",
                f"{where}: {label} is a generated column",
                "-- Leave it out of [audit.columns].",
                level="error",
            )
        elif not _fits(name, column, there):
            delivered = column.type or FIELDS[name]
            yield Finding(
                "D025",
                f"column {label}",
                f"{where}: {label} is of type {there['type']}, and usersync would write {delivered}",
                f"-- If the values can be converted, set: {name} = "
                f'{{ column = "{column.name}", type = "{there["base_type"]}" }}. Values that do not fit '
                "are rejected.",
                level="error",
            )
        elif there["not_null"] and name not in _ALWAYS:
            yield Finding(
                "D025",
                f"column {label}",
                f"{where}: {label} is NOT NULL, so events without {name} are rejected",
                f"alter table {settings.audit_table.quoted} alter column {quote(column.name)} drop not null;",
                "warning",
            )


def _lengths(settings: Settings, about: Mapping[str, Any]) -> Iterator[Finding]:
    """Reports short columns in advance, because PostgreSQL's error does not name the column."""
    short = {
        column.name: about["columns"][column.name]["longest"]
        for name, column in settings.audit.columns.items()
        if FIELDS[name] == "text" and (about["columns"].get(column.name) or {}).get("longest")
    }
    if short := {name: longest for name, longest in short.items() if longest < _LONGEST_NAME}:
        wider = ", ".join(f"alter column {quote(name)} type text" for name in short)
        listed = ", ".join(f"{name} ({longest})" for name, longest in short.items())
        yield Finding(
            "D025",
            f"table {settings.audit_table}",
            f"{settings.audit_table}: events with values longer than these columns allow are rejected: "
            f"{listed}",
            f"alter table {settings.audit_table.quoted} {wider};",
            "warning",
        )


def _fits(name: str, column: AuditColumn, there: Mapping[str, Any]) -> bool:
    given = column.type or FIELDS[name]
    if given == "text":
        return bool(there["string"])
    names = {there["type"], there["base_type"]}
    return _TYPE_NAMES.get(given, given) in names | {_as_in_settings(each) for each in names}


def _as_in_settings(type_name: str) -> str | None:
    """A type name from the database (``public.mood``) in the spelling of the settings."""
    try:
        return parse_type(type_name, "")
    except SettingsError:
        return None


def _table(settings: Settings, about: Mapping[str, Any]) -> Iterator[Finding]:
    table, mapped = settings.audit_table, {each.name for each in settings.audit.columns.values()}
    key = settings.audit.columns["id"].name
    if key in about["columns"] and key not in about["unique_columns"]:
        yield Finding(
            "D025",
            f"column {table}.{key}",
            f"audit.columns.id: {table}.{key} has no unique constraint of its own",
            f"alter table {table.quoted} add unique ({quote(key)});",
            level="error",
        )
    for name, column in about["columns"].items():
        if column["required"] and name not in mapped:
            yield Finding(
                "D025",
                f"column {table}.{name}",
                f"{table}.{name} is NOT NULL, has no default and is not mapped: no event can be stored",
                "-- Give it a default, or map it in [audit.columns].",
                level="error",
            )
    if "metadata" not in settings.audit.columns:
        lost = ", ".join(name for name in FIELDS if name not in settings.audit.columns)
        yield Finding(
            "D025",
            f"table {table}",
            f"metadata has no column, so these fields are not stored: {lost}",
            "-- See the documentation of [audit.columns].",
            "warning",
        )


def _references(settings: Settings, keys: tuple[ForeignKey, ...]) -> Iterator[Finding]:
    for key in keys:
        if key.blocks:
            yield Finding(
                "D025",
                f"constraint {key.name}",
                f"the foreign key {key.name} of {settings.audit_table} prevents users who have events from "
                "being deleted",
                key.set_null(),
                "warning",
            )
