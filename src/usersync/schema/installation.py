"""``plan``, ``apply`` and ``rollback``.

``apply`` uses two transactions; indexes of a log that an earlier release created come after them. The first
creates tables and functions. The second creates the triggers, replaces adopted ones and creates the audit
log, which locks the auth server's table and the users table against writes. It waits a tenth of a second
for these locks, so that no sign-in queues behind it, and is retried.
"""

from __future__ import annotations

import re
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING

from usersync.audit.inspection import lost_protection
from usersync.audit.noting import is_noted, is_wanted
from usersync.audit.tracking.generate import is_of_tracked_table
from usersync.audit.tracking.tables import TrackedUpdate, update_tracked
from usersync.core.blockers import blockers
from usersync.errors import (
    ConflictError,
    DatabaseError,
    MigrationChangedError,
    NotInstalledError,
    PrivilegeMissingError,
    ReadOnlyDatabaseError,
    SettingsError,
    UsersyncError,
    VersionMismatchError,
)
from usersync.models import Change, Finding, SchemaPlan
from usersync.schema.adopted_functions import changed_functions
from usersync.schema.adoption import Adoption, adoption, path_changes, returned_change, users_triggers
from usersync.schema.computed_columns import computed_findings
from usersync.schema.findings import LACKING, READ_ONLY, find
from usersync.schema.first_run import preview
from usersync.schema.gates import gates
from usersync.schema.inspection import Inspection, inspect
from usersync.schema.keys import key_findings
from usersync.schema.log_indexes import build_indexes, index_changes
from usersync.schema.trigger_names import OWN_TRIGGERS, is_made_by, renamed
from usersync.schema.uninstall import is_unused, plan_removal, remove
from usersync.sql.expressions import literal
from usersync.sql.render import COMMAND_LOCK_TIMEOUT, remembered, render_bundle
from usersync.sql.script import bookkeeping_of_function, bookkeeping_of_migration
from usersync.transports.lock_retry import BUSY_LOCK_TIMEOUT, retry_while_locked, take_lock
from usersync.transports.steps import Steps, in_transaction, query, read_only
from usersync.version import __version__

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from usersync.config.settings import Settings
    from usersync.sql.render import Bundle, Function


def plan(settings: Settings, *, adopt: bool = False) -> Steps[SchemaPlan]:
    """The changes that ``apply()`` would make. Raises if no change is possible.

    Writes nothing. The connection must not be in a transaction.
    """
    bundle = render_bundle(settings)

    def read() -> Steps[SchemaPlan]:
        inspection = yield from inspect(bundle)
        return (yield from plan_inspected(settings, bundle, inspection, adopt=adopt))

    return (yield from read_only(read()))


def plan_inspected(
    settings: Settings, bundle: Bundle, inspection: Inspection, *, adopt: bool = False
) -> Steps[SchemaPlan]:
    """``plan()`` for a database that was inspected already."""
    _check_versions(bundle, inspection)
    renewal = yield from _renewal(settings, inspection)
    changes = yield from _changes(settings, bundle, inspection, renewal, adopt=adopt)
    found = yield from _find(settings, inspection, adopt=adopt)
    planned = SchemaPlan(changes, (*found, *renewal.findings))
    alters_rows = any(change.subject.startswith("function ") for change in planned.changes)
    has_both = inspection.has_users_table and inspection.catalog["source_columns"] is not None
    if planned.errors or not alters_rows or not has_both:
        return planned
    first_run = yield from preview(settings, bundle, inspection)
    return replace(planned, findings=(*planned.findings, first_run)) if first_run else planned


def apply(
    settings: Settings,
    on_change: Callable[[Change], None] = lambda _: None,
    *,
    adopt: bool = False,
    rehearse: Callable[[tuple[Change, ...]], None] | None = None,
) -> Steps[SchemaPlan]:
    """Change the schema, and return the changes. ``on_change`` is called with each change after it was made.

    ``adopt`` replaces hand-written triggers; rollback restores them. ``rehearse`` is called with the
    remaining changes before any of them affects the auth server: before the triggers are created or, if
    usersync is installed already, before the first change. An exception that it raises stops ``apply()``.
    A finding of level error is raised before anything is changed.
    """
    bundle = render_bundle(settings)
    applied: list[Change] = []
    alone: list[Change] = []

    def step(*, busy: bool) -> Steps[tuple[Finding, ...]]:
        yield from take_lock(BUSY_LOCK_TIMEOUT if busy else COMMAND_LOCK_TIMEOUT)
        inspection = yield from inspect(bundle)
        _check_versions(bundle, inspection)
        findings = yield from _find(settings, inspection, adopt=adopt)
        raise_errors(findings)
        renewal = yield from _renewal(settings, inspection)
        planned = yield from _changes(settings, bundle, inspection, renewal, adopt=adopt)
        changes = [change for change in planned if change.busy == busy and not change.alone]
        for change in changes:
            yield from query(change.sql)
        applied.extend(changes)
        alone[:] = [change for change in planned if change.alone]
        return *findings, *renewal.findings

    def remaining() -> Steps[tuple[Change, ...]]:
        inspection = yield from inspect(bundle)
        renewal = yield from _renewal(settings, inspection)
        planned = yield from _changes(settings, bundle, inspection, renewal, adopt=adopt)
        return tuple(change for change in planned if not change.alone)

    # A schema that existed before cannot be undone, even if parts of it are missing.
    installed = rehearse is not None and (yield from inspect(bundle)).catalog["has_schema"]
    if rehearse is not None and installed:
        rehearse((yield from remaining()))
    findings = yield from retry_while_locked(
        lambda: in_transaction(step(busy=False)), "the audit log", lambda: blockers(settings)
    )
    for change in applied:
        on_change(change)
    if rehearse is not None and not installed:
        rehearse((yield from remaining()))
    before = len(applied)
    yield from retry_while_locked(
        lambda: in_transaction(step(busy=True)), "the auth server's table", lambda: blockers(settings)
    )
    for change in applied[before:]:
        on_change(change)
    built, missing = yield from build_indexes(settings, bundle, alone, on_change)
    if applied:
        with suppress(DatabaseError):
            yield from query(bundle.read_new_indexes)
        yield from _reload_api()
    return SchemaPlan((*applied, *built), (*findings, *missing))


def rollback(
    settings: Settings,
    *,
    drop_users_table: bool = False,
    drop_audit_log: bool = False,
    on_change: Callable[[Change], None] = lambda _: None,
) -> Steps[SchemaPlan]:
    """Remove usersync. Tables with data stay, unless usersync created them and an option drops them."""
    planned = yield from plan_rollback(
        settings, drop_users_table=drop_users_table, drop_audit_log=drop_audit_log
    )
    done = yield from remove(settings, planned, on_change)
    yield from _reload_api()
    return done


def _reload_api() -> Steps[None]:
    """Have PostgREST read the schema again, so that the Data API has the functions now.

    Runs after the changes are committed: with a full queue of notifications, the transaction of NOTIFY fails.
    """
    with suppress(DatabaseError):
        yield from query("notify pgrst, 'reload schema'")


def plan_rollback(
    settings: Settings, *, drop_users_table: bool = False, drop_audit_log: bool = False
) -> Steps[SchemaPlan]:
    """The changes that ``rollback()`` would make. Raises ``NotInstalledError`` if not installed."""
    bundle = render_bundle(settings)

    def read() -> Steps[tuple[Inspection, bool]]:
        inspection = yield from inspect(bundle)
        return inspection, (yield from is_unused(settings, inspection))

    inspection, unused = yield from read_only(read())
    if not inspection.catalog["has_schema"] and not inspection.catalog["functions"]:
        raise NotInstalledError("usersync is not installed in this database: there is nothing to remove")
    if drop_users_table and not inspection.catalog["users_created_by_usersync"]:
        raise SettingsError(
            f"{settings.users_table} was not created by usersync, so usersync does not drop it",
            hint="Leave out --drop-users-table.",
        )
    has_own_log = inspection.catalog["audit_table_created_by_usersync"]
    if drop_audit_log and inspection.catalog["has_audit_table"] and not has_own_log:
        raise SettingsError(
            f"{settings.audit_table} was not created by usersync, so usersync does not drop it",
            hint="Leave out --drop-audit-log.",
        )
    if drop_users_table and has_own_log and not (drop_audit_log or unused):
        raise SettingsError(
            f"{settings.audit_table} references {settings.users_table}, which cannot be dropped alone",
            hint="Add --drop-audit-log, or leave out --drop-users-table.",
        )
    returned = yield from returned_change(inspection.catalog)
    return (
        yield from plan_removal(
            settings,
            bundle,
            inspection,
            returned,
            drop_users_table=drop_users_table,
            drop_audit_log=drop_audit_log and has_own_log,
            log_is_unused=unused,
        )
    )


def _check_versions(bundle: Bundle, inspection: Inspection) -> None:
    noted = inspection.noted
    if noted is None:
        return
    known = {str(migration.version): migration for migration in bundle.migrations}
    newest = (noted["settings"] or {}).get("library_version", __version__)
    if set(noted["migrations"]) - set(known) or _version(newest) > _version(__version__):
        raise VersionMismatchError(
            f"usersync {newest} installed this database, and this is usersync {__version__}",
            hint=f"Upgrade usersync on this machine to {newest} or newer.",
        )
    for number, checksum in noted["migrations"].items():
        if checksum != known[number].checksum:
            raise MigrationChangedError(
                f"migration {number} ({known[number].name}) was changed after it was applied here",
                hint="Install an unmodified usersync; migrations are never edited.",
            )


def _find(settings: Settings, inspection: Inspection, *, adopt: bool) -> Steps[tuple[Finding, ...]]:
    found = find(settings, inspection, adopt=adopt)
    if inspection.catalog["source_columns"] is None or any(each.level == "error" for each in found):
        return found
    rejected = yield from computed_findings(settings, has_users_table=inspection.has_users_table)
    gated = (yield from gates(settings, inspection)) if adopt else ()
    keys = (yield from key_findings(settings)) if inspection.has_users_table else ()
    return (*found, *rejected, *keys, *gated, *(yield from changed_functions(settings, inspection)))


def _version(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split(".")[:3] if part.isdecimal())


def raise_errors(findings: tuple[Finding, ...]) -> None:
    """Raise the error of the first finding that stops ``apply()``."""
    errors = [finding for finding in findings if finding.level == "error"]
    if not errors:
        return
    first = errors[0]
    more = f" (and {len(errors) - 1} more, see: usersync plan)" if len(errors) > 1 else ""
    kinds: dict[str, type[UsersyncError]] = {LACKING: PrivilegeMissingError, READ_ONLY: ReadOnlyDatabaseError}
    kind = kinds.get(first.code, ConflictError)
    raise kind(first.message + more, hint=first.hint)


def _renewal(settings: Settings, inspection: Inspection) -> Steps[TrackedUpdate]:
    return (yield from update_tracked(settings)) if inspection.noted is not None else TrackedUpdate()


def _changes(
    settings: Settings, bundle: Bundle, inspection: Inspection, renewal: TrackedUpdate, *, adopt: bool
) -> Steps[tuple[Change, ...]]:
    changes = list(_object_changes(settings, bundle, inspection))
    adopting = adoption(settings, inspection.catalog, adopt=adopt)
    if adopt:
        changes += path_changes((yield from users_triggers(bundle)))
    changes += adopting.changes()
    changes += _audit_changes(settings, bundle, inspection)
    changes += _note_trigger(settings, bundle, inspection)
    changes += renewal.changes
    return (
        *changes,
        *_trigger_changes(bundle, inspection, adopting),
        *adopting.returns(),
        *index_changes(inspection),
    )


def _object_changes(settings: Settings, bundle: Bundle, inspection: Inspection) -> Iterator[Change]:
    noted = inspection.noted or {"migrations": {}, "functions": {}, "settings": None}
    if inspection.noted is None:
        yield Change("create", "schema usersync", "usersync's own tables and functions", bundle.bootstrap)
    repeat = False
    for migration in bundle.migrations:
        lost = sorted(
            {*migration.tables, *migration.types}
            - {*inspection.catalog["installed_tables"], *inspection.catalog["installed_types"]}
        )
        # A re-created table lacks what later migrations added to it.
        repeat = repeat or bool(lost)
        if repeat or str(migration.version) not in noted["migrations"]:
            subject = f"migration {migration.version:04} {migration.name}"
            applied = str(migration.version) in noted["migrations"]
            gone = f"missing: {', '.join(lost)}" if lost else "tables that it alters are missing"
            reason = gone if applied else "tables of usersync"
            yield Change("create", subject, reason, bookkeeping_of_migration(migration) + migration.remake)
    if not inspection.has_users_table:
        yield Change(
            "create",
            f"table {settings.users_table}",
            "it does not exist",
            bundle.create_users_table,
        )
    yield from _users_table_closed(settings, inspection)
    functions = list(_function_changes(bundle, inspection))
    yield from functions
    opened = [each.label for each in inspection.opened if each.direct]
    if functions or opened or inspection.noted is None:
        reason = f"other roles have rights: {', '.join(opened)}" if opened and not functions else _SECURED
        yield Change("alter", "privileges", reason, bundle.set_privileges)
    if noted["settings"] != remembered(settings):
        yield Change("alter", "settings", "stored for doctor and rollback", bundle.save_settings)
    yield from _audit_form(settings, bundle, inspection)


def _users_table_closed(settings: Settings, inspection: Inspection) -> Iterator[Change]:
    """Revoke what default privileges granted, for instance during a restore. Row-level security allows it."""
    grantees = ", ".join(inspection.catalog["users_granted_beyond_rows"])
    if grantees and inspection.catalog["users_created_by_usersync"]:
        yield Change(
            "alter",
            f"table {settings.users_table}",
            f"TRIGGER, REFERENCES or TRUNCATE is granted to {grantees}",
            f"revoke trigger, references, truncate on table {settings.users_table.quoted} from {grantees};",
        )


def _audit_changes(settings: Settings, bundle: Bundle, inspection: Inspection) -> Iterator[Change]:
    """Create or alter the audit log. Its foreign key locks the users table against writes for a moment."""
    catalog, subject = inspection.catalog, f"table {settings.audit_table}"
    if settings.audit.enabled and not catalog["has_audit_log"]:
        reason = "the audit log, because of [audit] enabled = true"
        yield Change("create", subject, reason, bundle.create_audit_table, busy=True)
    elif catalog["audit_table_created_by_usersync"] and (lost := lost_protection(catalog)):
        yield Change(
            "alter",
            subject,
            f"restores its protection: {', '.join(lost)}",
            bundle.create_audit_table,
            busy=True,
        )


def _note_trigger(settings: Settings, bundle: Bundle, inspection: Inspection) -> Iterator[Change]:
    """Create the trigger on the application's audit table if its feed is wanted. Otherwise drop it."""
    catalog, table = inspection.catalog, settings.audit_table
    wanted = is_wanted(settings, catalog)
    for each in catalog["note_triggers"]:
        if not (wanted and each["is_right"]):
            reason = "another table is the log" if wanted else "no subscription and no [audit] feed wants it"
            (function,) = (each for each in bundle.functions if each.signature == "usersync.note_events()")
            # With its function: only the owner of the table can drop a trigger alone.
            sql = (
                f"drop function {function.signature} cascade;\n{function.text}"
                f"{bookkeeping_of_function(function)}{bundle.set_privileges}"
            )
            yield Change("drop", f"trigger {each['name']} on {each['table']}", reason, sql, busy=True)
    if wanted and not is_noted(catalog):
        subject, reason = f"trigger note_events on {table}", "notes new events for the feed"
        if any(each["is_right"] for each in catalog["note_triggers"]):
            yield Change("replace", subject, "it is disabled", bundle.note_events, busy=True)
        else:
            yield Change("create", subject, reason, bundle.note_events, busy=True)


def _audit_form(settings: Settings, bundle: Bundle, inspection: Inspection) -> Iterator[Change]:
    """Alter a log that an earlier release created.

    Runs in the transaction that creates the functions that write the new columns. It is the last step there,
    because it locks the log.
    """
    catalog = inspection.catalog
    if catalog["audit_table_created_by_usersync"] and (differences := catalog["audit_table_form"]):
        reason = f"its present form: {', '.join(differences)}"
        sql = f"set local lock_timeout = '{BUSY_LOCK_TIMEOUT}';\n{bundle.alter_audit_table}"
        yield Change("alter", f"table {settings.audit_table}", reason, sql)


_SECURED = "EXECUTE is granted to service_role only"


def _function_changes(bundle: Bundle, inspection: Inspection) -> Iterator[Change]:
    noted = inspection.noted["functions"] if inspection.noted else {}
    present = inspection.catalog["functions"]
    for function in bundle.functions:
        was = noted.get(function.signature)
        sql = function.text + bookkeeping_of_function(function)
        subject = f"function {function.signature}"
        if function.signature not in present:
            yield Change("create", subject, "", sql)
        elif was is None or was["checksum"] != function.checksum:
            yield Change(
                "replace", subject, "the settings or the release changed", _dropped_first(function) + sql
            )
        elif was["fingerprint"] != present[function.signature]:
            yield Change("replace", subject, "it was edited in the database", _dropped_first(function) + sql)
    known = {function.signature for function in bundle.functions}
    for signature in sorted(each for each in present if each not in known and not is_of_tracked_table(each)):
        forget = (
            f"delete from usersync.functions as installed where installed.signature = {literal(signature)};"
        )
        yield Change(
            "drop",
            f"function {signature}",
            "no longer used",
            f"drop function if exists {signature};\n{forget}",
        )


_RETURNS_COLUMNS = re.compile(r"\bout [a-z_]+ [a-z]|\breturns table\b")


def _dropped_first(function: Function) -> str:
    """A DROP for a function that returns columns, which REPLACE does not change. No object depends on it.

    IF EXISTS, because a migration of the same transaction may have dropped it.
    """
    head = function.text.partition("as $usersync$")[0]
    return f"drop function if exists {function.signature};\n" if _RETURNS_COLUMNS.search(head) else ""


def _trigger_changes(bundle: Bundle, inspection: Inspection, adopting: Adoption) -> Iterator[Change]:
    triggers = inspection.catalog["source_triggers"] or ()
    replaced = {each.name for each in adopting.replaced}
    present = {trigger["name"]: trigger for trigger in triggers if trigger["name"] not in replaced}
    for own, (usual, text) in zip(OWN_TRIGGERS, bundle.triggers, strict=True):
        name = adopting.names[usual]
        sql, subject, was = renamed(text, usual, name), f"trigger {name}", present.get(name)
        if was is None:
            yield Change("create", subject, "", sql, busy=True)
        elif was["enabled"] != "O":
            yield Change("replace", subject, "it is disabled", sql, busy=True)
        elif not is_made_by(was["definition"], sql):
            yield Change("replace", subject, "its definition differs from this release's", sql, busy=True)
        for other in sorted(each for each in present if present[each]["function"] == own.function):
            if other not in adopting.names.values():
                remove = f"select usersync.remove_trigger({literal(other)});"
                yield Change("drop", f"trigger {other}", f"{name} replaces it", remove, busy=True)
