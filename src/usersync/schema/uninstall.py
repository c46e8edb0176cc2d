"""Removal: what a rollback drops, in which order, and what stays."""

from __future__ import annotations

from typing import TYPE_CHECKING

from usersync.audit.tracking.generate import is_of_tracked_table
from usersync.audit.tracking.tables import tracked_functions
from usersync.core.audit_log import has_events
from usersync.core.blockers import blockers
from usersync.models import Change, SchemaPlan
from usersync.schema.adoption import returned_change
from usersync.schema.inspection import inspect
from usersync.sql.expressions import literal
from usersync.sql.render import Renderer, read_sql, render_bundle
from usersync.sql.script import one_statement
from usersync.transports.lock_retry import BUSY_LOCK_TIMEOUT, retry_while_locked, take_lock
from usersync.transports.steps import Steps, in_transaction, query, query_row, read_only
from usersync.version import __version__

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
    from typing import Any

    from usersync.config.settings import Settings
    from usersync.schema.inspection import Inspection
    from usersync.sql.render import Bundle

#: How the subject of a change begins that stops tracking of a table; how many of these one transaction makes.
TRACKED = "triggers on "
TABLES_AT_ONCE = 50

_TRIGGER_FUNCTIONS = (
    *(f"usersync.handle_{what}_user(" for what in ("new", "updated", "deleted")),
    "usersync.keep_",
    "usersync.note_",
)


def plan_removal(
    settings: Settings,
    bundle: Bundle,
    inspection: Inspection,
    returned: Change | None,
    *,
    drop_users_table: bool,
    drop_audit_log: bool,
    log_is_unused: bool,
    created: Collection[str] | None = None,
) -> Steps[SchemaPlan]:
    """Changes that remove all objects of usersync. Tables with data stay, unless an option drops them.

    With ``created``, a function whose creation is not among these subjects stays, too.
    """
    tracked = yield from tracked_functions()
    rejects = (yield from _count_rejects()) if inspection.noted is not None else 0
    on_tables = {f"usersync.{each}()" for functions in tracked.values() for each in functions}
    present = [name for name in inspection.catalog["functions"] if name not in on_tables]
    if created is not None:
        present = [name for name in present if f"function {name}" in created]
    triggers = inspection.catalog["source_triggers"] or ()
    changes = list(_functions(present, triggers, returned))
    changes += [
        Change(
            "drop",
            f"{TRACKED}{table}",
            "its changes are no longer recorded",
            _drop(f"usersync.{each}()" for each in functions),
        )
        for table, functions in tracked.items()
    ]
    changes += [
        Change(
            "drop",
            f"trigger {each['name']} on {each['table']}",
            "dropped with its function",
            _drop(["usersync.note_events()"]),
        )
        for each in inspection.catalog["note_triggers"]
    ]
    if log_is_unused and not drop_audit_log:
        reason = "it has no events; it stays if an object of the application depends on it"
        changes.append(
            Change("drop", f"table {settings.audit_table}", reason, _drop_unused(settings, bundle))
        )
    else:
        changes += _audit_log(settings, bundle, inspection, drop=drop_audit_log, rejects=rejects)
    changes += _former_logs(bundle, inspection)
    changes += (yield from _lost_data()) if inspection.noted is not None else []
    changes += [
        Change("drop", f"migration {each.version:04} {each.name}", "", each.down)
        for each in reversed(bundle.migrations)
    ]
    changes.append(
        Change("drop", "schema usersync", _of_pause(inspection), read_sql("statements/drop_schema.sql"))
    )
    changes += _users_table(settings, inspection, drop=drop_users_table)
    return SchemaPlan(tuple(changes))


def undo(settings: Settings, created: Collection[str]) -> Steps[SchemaPlan]:
    """Remove only what a first installation has created: ``created`` are subjects of its changes."""
    bundle = render_bundle(settings)

    def read() -> Steps[SchemaPlan]:
        inspection = yield from inspect(bundle)
        returned = yield from returned_change(inspection.catalog)
        return (
            yield from plan_removal(
                settings,
                bundle,
                inspection,
                returned,
                drop_users_table=f"table {settings.users_table}" in created,
                drop_audit_log=False,
                log_is_unused=False,
                created=created,
            )
        )

    return (yield from remove(settings, (yield from read_only(read()))))


def rollback_script(
    settings: Settings, *, drop_users_table: bool = False, drop_audit_log: bool = False
) -> str:
    """What ``installation.rollback()`` does as one statement, for migration tools.

    It is planned in the database when it runs, and does nothing if usersync is not installed.
    """
    bundle = render_bundle(settings)
    log = f"{_DROP_GUARD}\ndrop table if exists {settings.audit_table.quoted};"
    renderer = Renderer(
        settings,
        {
            "drop_users_table": "true" if drop_users_table else "false",
            "drop_audit_log": "true" if drop_audit_log else "false",
            "drop_log": literal(log),
            "drop_unused_log": literal(_drop_unused(settings, bundle)),
            "release_log": literal(bundle.release_audit_table),
        },
    )
    down = "".join(each.down for each in reversed(bundle.migrations)) + read_sql("statements/drop_schema.sql")
    parts = [
        "if to_regnamespace('usersync') is not null then\n",
        renderer.render(read_sql("removal/objects.sql")),
        down.replace("select;\n", ""),  # PL/pgSQL takes no SELECT without INTO
        renderer.render(read_sql("removal/users_table.sql")),
        "end if;\n",
    ]
    return one_statement([f"-- usersync {__version__}: removes usersync."], parts)


def remove(
    settings: Settings, planned: SchemaPlan, on_change: Callable[[Change], None] = lambda _: None
) -> Steps[SchemaPlan]:
    """Make the changes of a removal. ``on_change`` is called with each change."""
    # Each table needs several locks, and the server has a limited number for all transactions.
    tracked = [change for change in planned.changes if change.subject.startswith(TRACKED)]
    for start in range(0, len(tracked), TABLES_AT_ONCE):
        yield from _drop_all(settings, tracked[start : start + TABLES_AT_ONCE])
    yield from _drop_all(settings, [change for change in planned.changes if change not in tracked])
    for change in planned.changes:
        on_change(change)
    return planned


def _drop_all(settings: Settings, changes: Sequence[Change]) -> Steps[None]:
    def drop_all() -> Steps[None]:
        # In one transaction, although it locks the auth server's table for some milliseconds: if the triggers
        # were dropped and the rest failed, usersync would stay without syncing users.
        yield from take_lock(BUSY_LOCK_TIMEOUT)
        for change in changes:
            yield from query(change.sql)

    yield from retry_while_locked(
        lambda: in_transaction(drop_all()), "a table with triggers of usersync", lambda: blockers(settings)
    )


def _of_pause(inspection: Inspection) -> str:
    pause = inspection.catalog["paused"]
    return f"usersync is paused {pause}: later changes are not synced" if pause else ""


def _functions(
    present: list[str], triggers: Iterable[Mapping[str, str]], returned: Change | None
) -> Iterator[Change]:
    of_triggers = {
        name for name in present if name.startswith(_TRIGGER_FUNCTIONS) or is_of_tracked_table(name)
    }
    # Only the owner of the auth server's table can drop a trigger without its function.
    for trigger in triggers:
        if (function := f"{trigger['function']}()") in of_triggers:
            yield Change("drop", f"trigger {trigger['name']}", "dropped with its function", _drop([function]))
    for name in sorted(of_triggers):
        yield Change("drop", f"function {name}", "", _drop([name]))
    if returned:
        yield returned
    for name in sorted(set(present) - of_triggers):
        yield Change("drop", f"function {name}", "", f"drop function if exists {name};")


def _drop(functions: Iterable[str]) -> str:
    return "".join(f"drop function if exists {name} cascade;\n" for name in sorted(functions))


def is_unused(settings: Settings, inspection: Inspection) -> Steps[bool]:
    """Whether usersync created the audit log, and it has no events. Rejected events count."""
    is_own = settings.audit.is_own and inspection.catalog["audit_table_created_by_usersync"]
    if not is_own or (yield from has_events(settings)):
        return False
    return not (yield from _count_rejects())


def _drop_unused(settings: Settings, bundle: Bundle) -> str:
    """SQL that drops the log, unless an event was recorded meanwhile, or an object depends on it."""
    table = settings.audit_table.quoted
    return f"""do $drop$
begin
    lock table {table} in access exclusive mode;
    if exists (select from {table}) then
        raise exception using errcode = 'object_in_use';
    end if;
    {_DROP_GUARD}
    drop table {table};
exception when object_in_use or dependent_objects_still_exist then
    execute $release$
{bundle.release_audit_table}
$release$;
end;
$drop$;"""


_DROP_GUARD = "drop view if exists usersync.audit_logs_guard;"


def _audit_log(
    settings: Settings, bundle: Bundle, inspection: Inspection, *, drop: bool, rejects: int
) -> Iterator[Change]:
    table, catalog = settings.audit_table, inspection.catalog
    rejects_table, events = "table usersync.audit_rejects", f"{rejects:,} event{'' if rejects == 1 else 's'}"
    if drop:
        sql = f"{_DROP_GUARD}\ndrop table {table.quoted};"
        yield Change("drop", f"table {table}", "with all its events", sql)
        if rejects:
            yield Change("drop", rejects_table, f"with {events} that could not be stored", "select;")
        return
    if catalog["audit_table_created_by_usersync"]:
        reason = (
            "it keeps its events and its privileges, but is no longer append-only, gets no more partitions, "
            "and usersync audit cannot read it"
        )
        yield Change("keep", f"table {table}", reason, bundle.release_audit_table)
    elif catalog["has_audit_log"]:
        yield Change("keep", f"table {table}", "it belongs to the application", bundle.release_audit_table)
    if rejects:
        reason = f"{events} in it could not be stored; the table moves to schema {table.schema}"
        yield Change(
            "keep",
            rejects_table,
            reason,
            "select;" if catalog["has_audit_log"] else bundle.release_audit_table,
        )


def _former_logs(bundle: Bundle, inspection: Inspection) -> Iterator[Change]:
    """Keep logs that usersync created and that the settings do not name."""
    for name in inspection.catalog["former_audit_logs"]:
        reason = "it was the audit log under another name; it keeps its events, but is no longer append-only"
        yield Change("keep", f"table {name}", reason, bundle.release_audit_table)


def _users_table(settings: Settings, inspection: Inspection, *, drop: bool) -> Iterator[Change]:
    table = settings.users_table
    if drop:
        yield Change("drop", f"table {table}", "", f"drop table {table.quoted};")
    elif inspection.has_users_table:
        yield Change("keep", f"table {table}", "it holds the application's data", "select;")


def _lost_data() -> Steps[list[Change]]:
    """Tables with data that the removal of the schema drops."""
    holds = yield from _count("usersync.audit_holds")
    # Failures of earlier releases have no kind.
    waiting = yield from _count("usersync.sync_failures", "to_jsonb(found) ->> 'kind' = 'event'")
    feed = yield from _count("usersync.feed")
    subscriptions = yield from _subscriptions()
    unsent = f"with {_number(waiting, 'event')} of users not stored yet"
    found = [
        (holds, "audit_holds", f"with {_number(holds, 'legal hold')} (usersync audit hold list)"),
        (waiting, "sync_failures", f"{unsent} (usersync retry)"),
        (feed, "event_numbers", "positions that readers of the feed have stored become invalid"),
        (subscriptions, "subscriptions", _of_subscriptions(subscriptions)),
    ]
    streams = (yield from query(_STREAMS)) if subscriptions else ()
    return [
        *(
            Change("drop", f"table usersync.{table}", reason, "select;")
            for rows, table, reason in found
            if rows
        ),
        *(
            Change("keep", f"stream {each['name']}", f"its messages stay at {each['url']}", "select;")
            for each in streams
        ),
    ]


def _subscriptions() -> Steps[list[Mapping[str, Any]]]:
    """The subscriptions with their undelivered events. The schema may be of an earlier release."""
    if not (yield from _count("usersync.subscriptions")):
        return []
    row = yield from query_row("select to_regproc('usersync.unnumbered_events') is not null as counts")
    unnumbered = "usersync.unnumbered_events()" if row["counts"] else "0"
    return (yield from query(_UNDELIVERED.format(unnumbered=unnumbered)))


_UNDELIVERED = """
    select
        subscription.name,
        greatest(coalesce((select last_number from usersync.feed), 0) - greatest(min(shard.position), 0), 0)
            + {unnumbered} as lag,
        (
            select count(*) from usersync.parked_events as parked
            where parked.subscription = subscription.name
        ) as parked
    from usersync.subscriptions as subscription
    join usersync.subscription_shards as shard on shard.subscription = subscription.name
    group by subscription.name
    order by subscription.name
"""
_MOST_NAMES = 10


def _of_subscriptions(found: Sequence[Mapping[str, Any]]) -> str:
    each = [
        f"{row['name']} ({_number(row['lag'], 'event')} not read, {row['parked']:,} parked or dead)"
        for row in found[:_MOST_NAMES]
    ]
    more = f" and {len(found) - _MOST_NAMES} more" if len(found) > _MOST_NAMES else ""
    return f"with {_number(len(found), 'subscription')} and their undelivered events: {', '.join(each)}{more}"


_STREAMS = (
    "select name, config ->> 'url' as url from usersync.subscriptions where kind = 'stream' order by name"
)


def _number(count: int, what: str) -> str:
    return f"{count:,} {what}{'' if count == 1 else 's'}"


def _count_rejects() -> Steps[int]:
    return (yield from _count("usersync.audit_rejects"))


def _count(table: str, condition: str = "true") -> Steps[int]:
    found = yield from query_row("select to_regclass(%(table)s) is not null as found", table=table)
    if not found["found"]:
        return 0
    counted = yield from query_row(f"select count(*) as rows from {table} as found where {condition}")
    return int(counted["rows"])
