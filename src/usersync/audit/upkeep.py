"""Maintains the audit log: its partitions, old events, and rejected events."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from usersync.audit.holds import holds, is_held
from usersync.audit.models import (
    AuditPartition,
    PrunedPart,
    PruneResult,
    RecordResult,
    RejectedEvent,
    Retention,
)
from usersync.audit.reading import installed_settings, settings_with_log
from usersync.config.audit_rules import DEFAULT
from usersync.config.mapping import TableName
from usersync.config.periods import parse_period
from usersync.core.blockers import blockers
from usersync.core.clocks import compare_clocks
from usersync.errors import ArgumentValueError, SettingsError
from usersync.sql.audit_expressions import by_action
from usersync.sql.expressions import literal
from usersync.transports.lock_retry import BUSY_LOCK_TIMEOUT, retry_while_locked
from usersync.transports.steps import Steps, in_transaction, query, query_row

if TYPE_CHECKING:
    from collections.abc import Callable

DELETE_BATCH = 5_000
RETRY_BATCH = 500


def partitions() -> Steps[list[AuditPartition]]:
    """The log's partitions, oldest first. Raises ``SettingsError`` for the application's own table."""
    settings = yield from settings_with_log()
    if not settings.audit.is_own:
        raise SettingsError(
            f"{settings.audit_table} is the application's own table: usersync does not delete its rows",
            hint="Use the application's own retention.",
        )
    rows = yield from query(_PARTITIONS, audit_table=settings.audit_table.quoted)
    return [AuditPartition(**row) for row in rows]


_PARTITIONS = """
    select
        relname::text as name,
        (bounds)[1]::timestamptz as starts_at,
        (bounds)[2]::timestamptz as ends_at,
        bound = 'DEFAULT' as is_default,
        relnamespace = 'usersync'::regnamespace as is_own,
        nullif(reltuples::bigint, -1) as estimated_rows,
        pg_total_relation_size(pg_class.oid) as bytes
    from pg_inherits
    join pg_class on pg_class.oid = inhrelid
    cross join lateral pg_get_expr(relpartbound, pg_class.oid) as bound
    cross join lateral regexp_match(bound, 'FROM \\(''([^'']+)''\\) TO \\(''([^'']+)''\\)') as bounds
    where inhparent = %(audit_table)s::regclass
    order by starts_at nulls first, name
"""


def retention() -> Steps[Retention | None]:
    """The retention of the installed settings, by the database server's clock. None if there is none.

    The time of ``default`` is the start of a month, so that complete partitions can be dropped.
    """
    settings = yield from settings_with_log()
    rules = settings.audit.retention
    if not rules:
        return None
    now = (yield from compare_clocks()).server.astimezone(UTC)
    times = {action: parse_period(text).before(now) for action, text in rules.items()}
    default = times.pop(DEFAULT, None)
    return Retention(_month_of(default) if default else None, times)


def _month_of(moment: datetime) -> datetime:
    return moment.astimezone(UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0)


def prune(
    before: datetime | Retention,
    *,
    dry_run: bool = False,
    on_part: Callable[[PrunedPart], None] = lambda _: None,
) -> Steps[PruneResult]:
    """Remove the events of months that ended before ``before``, and rejected events of the same age.

    A ``Retention`` has a time for each action. An event's age is that of the later of ``occurred_at`` and
    ``recorded_at``, so a wrong or forged time does not remove a new event. A partition whose events are all
    to be removed is dropped, in its own transaction, which waits a tenth of a second for its lock and is
    retried; finally it raises ``BusyError``. From other partitions, events are deleted in batches. Events
    under a legal hold stay. An interruption leaves complete partitions. Manually attached partitions stay.
    ``on_part`` is called with each part.
    """
    rules = before if isinstance(before, Retention) else Retention(_month_of(before))
    given = before.latest if isinstance(before, Retention) else before
    latest = rules.latest
    if latest is None or given is None:
        raise SettingsError("the retention has no rule")
    if given > (yield from compare_clocks()).server:
        raise ArgumentValueError("before: is in the future by the database server's clock")
    parts = []

    def note(part: PrunedPart) -> None:
        if part.rows or part.dropped or part.held:
            parts.append(part)
            on_part(part)

    for partition in (yield from partitions()):
        if partition.is_own and (
            partition.is_default or (partition.starts_at is not None and partition.starts_at < latest)
        ):
            note((yield from _prune(partition, rules, latest, dry_run=dry_run)))
    if rules.default is not None:
        note((yield from _prune_rejects(rules.default, dry_run=dry_run)))
    if not dry_run:
        yield from _forget_numbers(latest)
    found = PruneResult(latest, dry_run, tuple(parts))
    return replace(found, holds=(yield from holds())) if found.held else found


def _expired(rules: Retention) -> str:
    """A condition: the retention does not keep an event ``stored``."""
    times = {**rules.by_action, **({DEFAULT: rules.default} if rules.default else {})}
    texts = {action: moment.isoformat() for action, moment in times.items()}
    values = {text: f"{literal(text)}::timestamptz" for text in texts.values()}
    return f"greatest(stored.occurred_at, stored.recorded_at) < {by_action(texts, 'stored.action', values)}"


_HELD = is_held({name: f"stored.{name}" for name in ("tenant_id", "entity_type", "entity_id")})
_HELD_REJECT = is_held(
    {name: f"(stored.event ->> '{name}')" for name in ("tenant_id", "entity_type", "entity_id")}
)


def _prune(
    partition: AuditPartition, rules: Retention, latest: datetime, *, dry_run: bool
) -> Steps[PrunedPart]:
    table, expired = _table(partition), _expired(rules)
    counted = yield from query_row(
        f"select count(*) as rows, count(*) filter (where ({expired}) and not {_HELD}) as removed, "
        f"count(*) filter (where ({expired}) and {_HELD}) as held from {table} as stored"
    )
    may_drop = partition.ends_at is not None and partition.ends_at <= latest
    is_dropped = may_drop and counted["removed"] == counted["rows"]
    if is_dropped and not dry_run:
        settings = yield from installed_settings()
        is_dropped = yield from retry_while_locked(
            lambda: in_transaction(_drop(table, expired)), "the audit log", lambda: blockers(settings)
        )
    if is_dropped:
        return PrunedPart(partition.name, counted["rows"], partition.bytes, dropped=True)
    removed = counted["removed"]
    if removed and not dry_run:
        removed = yield from _delete_rows(table, f"({expired}) and not {_HELD}")
    return PrunedPart(partition.name, removed, 0, dropped=False, held=counted["held"])


def _drop(table: str, expired: str) -> Steps[bool]:
    """Drop a partition, unless an event in it is to be kept: stored, or held, since the count."""
    settings = yield from installed_settings()
    yield from query("select set_config('lock_timeout', %(timeout)s, true)", timeout=BUSY_LOCK_TIMEOUT)
    # The log first: PostgreSQL locks a partition and its table in this order.
    yield from query(f"lock table only {settings.audit_table.quoted} in access exclusive mode")
    found = yield from query_row(
        f"select exists (select from {table} as stored where ({expired}) is not true or {_HELD}) as kept"
    )
    if not found["kept"]:
        yield from query(f"drop table {table}")
    return not found["kept"]


def _prune_rejects(before: datetime, *, dry_run: bool) -> Steps[PrunedPart]:
    table, expired = (
        "usersync.audit_rejects",
        f"stored.rejected_at < {literal(before.isoformat())}::timestamptz",
    )
    counted = yield from query_row(
        f"select count(*) filter (where not {_HELD_REJECT}) as removed, "
        f"count(*) filter (where {_HELD_REJECT}) as held from {table} as stored where {expired}"
    )
    removed = counted["removed"]
    if removed and not dry_run:
        removed = yield from _delete_rows(table, f"{expired} and not {_HELD_REJECT}")
    return PrunedPart("audit_rejects", removed, 0, dropped=False, held=counted["held"])


def _forget_numbers(before: datetime) -> Steps[int]:
    """Delete the feed's numbers of old events that are gone."""
    log = (yield from installed_settings()).audit_table.quoted
    return (
        yield from _delete_rows(
            "usersync.event_numbers",
            f"stored.occurred_at < {literal(before.isoformat())}::timestamptz and not exists ("
            f"select from {log} as event where event.id = stored.event_id "
            "and event.occurred_at = stored.occurred_at)",
        )
    )


def _delete_rows(table: str, condition: str) -> Steps[int]:
    """Delete rows ``stored`` in batches that commit separately."""
    rows = 0

    def delete() -> Steps[int]:
        yield from query("select set_config('usersync.maintaining', 'audit', true)")
        deleted = yield from query_row(
            f"with gone as (delete from {table} where ctid = any(array("
            f"select stored.ctid from {table} as stored where {condition} limit {DELETE_BATCH}"
            ")) returning 1) select count(*) as rows from gone"
        )
        return int(deleted["rows"])

    while deleted := (yield from in_transaction(delete())):
        rows += deleted
    return rows


def _table(partition: AuditPartition) -> str:
    return TableName("usersync", partition.name).quoted


def rejects(*, after: int = 0, limit: int = 100) -> Steps[list[RejectedEvent]]:
    """The rejected events in order, after a ``reject_id``."""
    rows = yield from query(
        "select reject_id, event, sqlstate, reason, rejected_at from usersync.audit_rejects "
        "where reject_id > %(after)s order by reject_id limit %(limit)s",
        after=after,
        limit=limit,
    )
    return [RejectedEvent(**row) for row in rows]


def retry_rejects() -> Steps[RecordResult]:
    """Record the rejected events again, each once. An event that fails again is rejected again."""
    last = (yield from query_row("select max(reject_id) as last from usersync.audit_rejects"))["last"]
    total = RecordResult()
    while last is not None:
        row = yield from query_row(_RETRY, last=last, batch=RETRY_BATCH)
        if not row["taken"]:
            break
        result = row["result"]
        total += RecordResult(result["stored"], result["duplicates"], result["rejected"])
        total += RecordResult(
            row["own_stored"], row["own"] - row["own_stored"] - row["own_rejected"], row["own_rejected"]
        )
    return total


# One statement, so that an event is always in exactly one of the two tables. An event without a fingerprint
# is usersync's own, and keeps its source.
_RETRY = """
    with taken as (
        delete from usersync.audit_rejects
        where reject_id in (
            select reject_id from usersync.audit_rejects
            where reject_id <= %(last)s order by reject_id limit %(batch)s for update skip locked
        )
        returning reject_id, event, fingerprint is null as is_own
    ),
    batches as (
        select count(*) as taken, count(*) filter (where is_own) as own,
            coalesce(jsonb_agg(event order by reject_id) filter (where not is_own), '[]') as sent_events,
            coalesce(jsonb_agg(event order by reject_id) filter (where is_own), '[]') as own_events
        from taken
    ),
    sent as (
        select *, public.record_audit_events(sent_events) as result from batches
    )
    select taken, result, own, recorded.stored as own_stored, recorded.rejected as own_rejected
    from sent
    cross join lateral usersync.record_own_events(own_events) as recorded
"""
