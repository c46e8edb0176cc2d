"""Whether the audit log has what storing and finding events needs; an application's own, whether it fits."""

from __future__ import annotations

from typing import TYPE_CHECKING

from usersync.config.mapping import quote
from usersync.doctor.context import Context, Definition, Verdict, lines, settled
from usersync.models import Finding

if TYPE_CHECKING:
    from collections.abc import Iterator

    from usersync.config.settings import Settings
    from usersync.schema.inspection import Inspection
    from usersync.transports.steps import Steps

_PAUSE = "-- At a quiet hour: recording waits meanwhile, and the more events there are, the longer."


def look(context: Context) -> Steps[Verdict]:
    settings, catalog = context.settings, context.inspection.catalog
    context.require_audit_log()
    if not settings.audit.is_own or not catalog["audit_table_created_by_usersync"]:
        findings = tuple(_misfits(context))
    else:
        findings = tuple(_lost(settings, context))
    return settled(Verdict(f"{settings.audit_table} takes every event", findings))


def _misfits(context: Context) -> Iterator[Finding]:
    settings, catalog = context.settings, context.inspection.catalog
    if settings.audit.is_own and not catalog["has_audit_log"]:
        message, former = (
            f"there is no table {settings.audit_table}: no event can be stored",
            _renamed(context),
        )
        yield Finding(
            "D025",
            f"table {settings.audit_table}",
            f"{message}. {former} was the audit log" if former else message,
            f"-- If {former} was renamed or moved by mistake, give it its name again. If it was meant, it "
            "stays with its events, and this creates a new log:\nusersync apply"
            if former
            else "usersync apply",
            safe=not former,
        )
    yield from context.found("D025")


def _renamed(context: Context) -> str | None:
    """The log under another name, if that is where the partitions are."""
    former = context.inspection.catalog["former_audit_logs"]
    return former[0] if former else None


def _lost(settings: Settings, context: Context) -> Iterator[Finding]:
    table = settings.audit_table.quoted
    if context.inspection.has_users_table:
        # Without it, a key to a table that was renamed is the right one still: see D012.
        yield from _lost_links(settings, context)
    for definition in context.inspection.catalog["audit_table_lost_indexes"]:
        yield Finding(
            "D025",
            f"table {settings.audit_table}",
            f"{settings.audit_table} has no index {definition}",
            lines([_PAUSE, f"create index on {table} {definition};"]),
            "warning",
        )


def _lost_links(settings: Settings, context: Context) -> Iterator[Finding]:
    table = settings.audit_table.quoted
    stray = context.inspection.catalog["audit_table_stray_keys"]
    drops = [f"alter table {table} drop constraint {quote(each['name'])};" for each in stray]
    for each in stray:
        yield Finding(
            "D025",
            f"constraint {each['name']}",
            f"the foreign key {each['name']} of {settings.audit_table}.user_id refers to {each['table']} "
            f"instead of {settings.users_table}: events of users who have no row there lose their link",
            lines(drops),
        )
    if not _links_users(context.inspection):
        yield Finding(
            "D025",
            f"table {settings.audit_table}",
            f"{settings.audit_table}.user_id has no foreign key to {settings.users_table}: a link stays "
            "when its user is deleted",
            lines([_PAUSE, _relink(settings, *_retyped(settings, context))]),
        )


def _links_users(inspection: Inspection) -> bool:
    keys = inspection.foreign_keys
    return any(
        key.action == "n" and key.validated and key.columns == ("user_id",)
        for key in keys.between(inspection.catalog["audit_table_oid"], keys.users)
    )


def _retyped(settings: Settings, context: Context) -> Iterator[str]:
    """Gives the link the key's type, which the key did not have when the log was made."""
    stored = context.inspection.catalog["audit_table"]["columns"]["user_id"]["type"]
    if stored != str(settings.key_type):
        table, kind = settings.audit_table.quoted, settings.key_type.sql
        yield f"alter table {table} alter column user_id type {kind} using user_id::text::{kind};"


def _relink(settings: Settings, *before: str) -> str:
    """As long as there is no foreign key, nobody unlinks the events of users who go."""
    table, users = settings.audit_table.quoted, settings.users_table.quoted
    key, same = quote(settings.key), settings.key_type.operator("=")
    return lines(
        [
            "begin;",
            "set local usersync.maintaining = 'audit';",
            *before,
            f"update {table} as event set user_id = null, metadata = metadata || jsonb_build_object(",
            "    'original_user_id', user_id, 'user_sync_error', 'the user has no row')",
            "where user_id is not null and not exists (",
            f"    select from {users} as target where target.{key} {same} event.user_id);",
            f"alter table {table} add foreign key (user_id) references {users} ({key}) on delete set null;",
            "commit;",
        ]
    )


CHECK = Definition("D025", "Shape of the audit log", look)
