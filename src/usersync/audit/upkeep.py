"""Maintains the audit log: its partitions, old events, and rejected events."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from usersync.audit.models import AuditPartition, PrunedPart, PruneResult, RecordResult, RejectedEvent
from usersync.audit.reading import installed_settings, settings_with_log
from usersync.config.mapping import TableName
from usersync.core.blockers import blockers
from usersync.core.clocks import compare_clocks
from usersync.errors import SettingsError
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


def prune(
    before: datetime, *, dry_run: bool = False, on_part: Callable[[PrunedPart], None] = lambda _: None
) -> Steps[PruneResult]:
    """Remove the events of months that ended before ``before``, and rejected events of the same age.

    An event's age is that of the later of ``occurred_at`` and ``recorded_at``, so a wrong or forged time does
    not remove a new event. A partition with only old events is dropped, in its own transaction, which waits a
    tenth of a second for its lock and is retried; finally it raises ``BusyError``. From other partitions, old
    events are deleted in batches. An interruption leaves complete partitions. Manually attached partitions
    stay. ``on_part`` is called with each removed part.
    """
    first_kept = before.astimezone(UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    if before > (yield from compare_clocks()).server:
        raise SettingsError("before: is in the future by the database server's clock")
    removed = []

    def note(part: PrunedPart) -> None:
        if part.rows or part.dropped:
            removed.append(part)
            on_part(part)

    for partition in (yield from partitions()):
        if partition.is_own and _may_be_old(partition, first_kept):
            note((yield from _prune(partition, first_kept, dry_run=dry_run)))
    note((yield from _prune_rows("audit_rejects", "rejected_at", first_kept, dry_run=dry_run)))
    return PruneResult(first_kept, dry_run, tuple(removed))


def _may_be_old(partition: AuditPartition, before: datetime) -> bool:
    return partition.is_default or (partition.ends_at is not None and partition.ends_at <= before)


def _prune(partition: AuditPartition, before: datetime, *, dry_run: bool) -> Steps[PrunedPart]:
    table = _table(partition)
    if not partition.is_default:
        counted = yield from query_row(
            "select count(*) as rows, count(*) filter (where recorded_at >= %(before)s) as younger "
            f"from {table}",
            before=before,
        )
        is_dropped = counted["younger"] == 0
        if is_dropped and not dry_run:
            settings = yield from installed_settings()
            is_dropped = yield from retry_while_locked(
                lambda: in_transaction(_drop(table, before)), "the audit log", lambda: blockers(settings)
            )
        if is_dropped:
            return PrunedPart(partition.name, counted["rows"], partition.bytes, dropped=True)
    return (
        yield from _prune_rows(partition.name, "greatest(occurred_at, recorded_at)", before, dry_run=dry_run)
    )


def _drop(table: str, before: datetime) -> Steps[bool]:
    """Drop a partition, unless a newer event was stored in it since the count."""
    settings = yield from installed_settings()
    yield from query("select set_config('lock_timeout', %(timeout)s, true)", timeout=BUSY_LOCK_TIMEOUT)
    # The log first: PostgreSQL locks a partition and its table in this order.
    yield from query(f"lock table only {settings.audit_table.quoted} in access exclusive mode")
    found = yield from query_row(
        f"select exists (select from {table} where recorded_at >= %(before)s) as younger", before=before
    )
    if not found["younger"]:
        yield from query(f"drop table {table}")
    return not found["younger"]


def _prune_rows(name: str, age: str, before: datetime, *, dry_run: bool) -> Steps[PrunedPart]:
    """Delete old rows of a table in batches that commit separately; ``age`` is an SQL expression."""
    table, rows = TableName("usersync", name).quoted, 0
    if dry_run:
        counted = yield from query_row(
            f"select count(*) as rows from {table} where {age} < %(before)s", before=before
        )
        return PrunedPart(name, counted["rows"], 0, dropped=False)

    def delete() -> Steps[int]:
        yield from query("select set_config('usersync.maintaining', 'audit', true)")
        deleted = yield from query_row(
            f"with gone as (delete from {table} where ctid = any(array(select ctid from {table} "
            f"where {age} < %(before)s limit %(batch)s)) returning 1) select count(*) as rows from gone",
            before=before,
            batch=DELETE_BATCH,
        )
        return int(deleted["rows"])

    while deleted := (yield from in_transaction(delete())):
        rows += deleted
    return PrunedPart(name, rows, 0, dropped=False)


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
