"""Whether the audit log has the columns, indexes and foreign key that events need."""

from __future__ import annotations

from typing import TYPE_CHECKING

from usersync.audit.noting import is_noted, is_wanted
from usersync.config.mapping import quote
from usersync.doctor.context import Context, Definition, Verdict, lines, without_query
from usersync.models import Finding

if TYPE_CHECKING:
    from collections.abc import Iterator

    from usersync.config.settings import Settings
    from usersync.core.foreign_keys import ForeignKey
    from usersync.schema.inspection import Inspection
    from usersync.transports.steps import Steps

_PAUSE = "-- Run it at a quiet hour: recording waits meanwhile, longer with more events."


def look(context: Context) -> Steps[Verdict]:
    settings, catalog = context.settings, context.inspection.catalog
    context.require_audit_log()
    if not settings.audit.is_own or not catalog["audit_table_created_by_usersync"]:
        findings = tuple(_unfit(context))
    else:
        findings = tuple(_missing(settings, context))
    return without_query(Verdict(f"{settings.audit_table} accepts every event", findings))


def _unfit(context: Context) -> Iterator[Finding]:
    settings, catalog = context.settings, context.inspection.catalog
    if settings.audit.is_own and not catalog["has_audit_log"]:
        message = f"there is no table {settings.audit_table}: no event can be stored"
        former = next(iter(catalog["former_audit_logs"]), None)
        yield Finding(
            "D025",
            f"table {settings.audit_table}",
            f"{message}. {former} was the audit log" if former else message,
            f"-- If {former} was renamed or moved by mistake, rename it back. If on purpose, it "
            "keeps its events, and this creates a new log:\nusersync apply"
            if former
            else "usersync apply",
            safe=not former,
        )
    yield from context.found("D025")
    if is_wanted(settings, catalog) and not is_noted(catalog):
        state = "disabled" if any(each["is_right"] for each in catalog["note_triggers"]) else "missing"
        yield Finding(
            "D025",
            f"trigger note_events on {settings.audit_table}",
            f"the trigger note_events on {settings.audit_table} is {state}: subscriptions and the feed get "
            "no new events. None is lost: after the trigger is restored, the events get their numbers",
            "usersync apply",
            safe=True,
        )


def _missing(settings: Settings, context: Context) -> Iterator[Finding]:
    table = settings.audit_table.quoted
    if context.inspection.has_users_table:
        # If the users table was renamed, the foreign key is still right: see D012.
        yield from _missing_foreign_key(settings, context)
    yield from _pending_indexes(settings, context)
    for definition in context.inspection.catalog["audit_table_lost_indexes"]:
        yield Finding(
            "D025",
            f"table {settings.audit_table}",
            f"{settings.audit_table} has no index {definition}",
            lines([_PAUSE, f"create index on {table} {definition};"]),
            "warning",
        )


def _pending_indexes(settings: Settings, context: Context) -> Iterator[Finding]:
    """Indexes that apply builds partition by partition."""
    pending = context.inspection.catalog["audit_table_pending_indexes"]
    if pending:
        partitions = sorted({each["partition"] for each in pending})
        yield Finding(
            "D025",
            f"table {settings.audit_table}",
            f"partitions of {settings.audit_table} lack an index that this release uses, so searches in them "
            f"are slow: {', '.join(partitions)}",
            lines(
                ["-- Creates the indexes while events are recorded. It may take minutes.", "usersync apply"]
            ),
            "warning",
        )


def _missing_foreign_key(settings: Settings, context: Context) -> Iterator[Finding]:
    table = settings.audit_table.quoted
    stray = context.inspection.catalog["audit_table_stray_keys"]
    drops = [f"alter table {table} drop constraint {quote(each['name'])};" for each in stray]
    for each in stray:
        yield Finding(
            "D025",
            f"constraint {each['name']}",
            f"the foreign key {each['name']} of {settings.audit_table}.user_id refers to {each['table']} "
            f"instead of {settings.users_table}: events of users without a row there lose their user_id",
            lines(drops),
        )
    keys = _foreign_keys(context.inspection)
    if not keys:
        yield Finding(
            "D025",
            f"table {settings.audit_table}",
            f"{settings.audit_table}.user_id has no foreign key to {settings.users_table}: user_id "
            "remains when its user is deleted",
            lines([_PAUSE, _add_foreign_key(settings, *_change_type(settings, context))]),
        )
    elif emptying := _key_that_empties(settings, context.inspection):
        for key in keys:
            if key.update_action != "n":
                yield Finding(
                    "D025",
                    f"constraint {key.name}",
                    f"the foreign key {emptying.name} empties {settings.users_table}.{settings.key} when the "
                    "auth server deletes a user. If an event names the user, the audit log's foreign key "
                    f'{key.name} fails the deletion ("Database error deleting user")',
                    lines([_PAUSE, _add_foreign_key(settings, key.drop)]),
                )


def _foreign_keys(inspection: Inspection) -> list[ForeignKey]:
    """The foreign keys that unlink the events of a user whose row is deleted."""
    keys = inspection.foreign_keys
    return [
        key
        for key in keys.between(inspection.catalog["audit_table_oid"], keys.users)
        if key.action == "n" and key.validated and key.columns == ("user_id",)
    ]


def _key_that_empties(settings: Settings, inspection: Inspection) -> ForeignKey | None:
    """A foreign key of the users table that changes the key of a row when its auth user is deleted."""
    own = inspection.foreign_keys.of_users(settings.key)
    return next((key for key in own if key.action in {"n", "d"}), None)


def _change_type(settings: Settings, context: Context) -> Iterator[str]:
    """SQL that gives user_id the type of the key, if the key had another type when the log was created."""
    stored = context.inspection.catalog["audit_table"]["columns"]["user_id"]["type"]
    if stored != str(settings.key_type):
        table, kind = settings.audit_table.quoted, settings.key_type.sql
        yield f"alter table {table} alter column user_id type {kind} using user_id::text::{kind};"


def _add_foreign_key(settings: Settings, *before: str) -> str:
    """SQL that adds the foreign key. First it clears user_id where the user has no row."""
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
            f"alter table {table} add foreign key (user_id) references {users} ({key})",
            "on update set null on delete set null;",
            "commit;",
        ]
    )


CHECK = Definition("D025", "Shape of the audit log", look)
