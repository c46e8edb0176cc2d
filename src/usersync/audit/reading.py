"""Reads the audit log. Nothing here writes; see ``usersync.audit.upkeep``.

Table and column names come from the settings that are installed in the database, so a client needs no
settings. Everything also works with an application's own audit table, for the fields that it has.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID

from usersync.audit.models import (
    DailyCount,
    EventFilter,
    EventPage,
    EventPosition,
    EventRecord,
    FeedCursor,
    Search,
    SnapshotCursor,
    TailBatch,
    TimeCursor,
)
from usersync.config.audit_columns import FIELDS
from usersync.core.audit_log import has_log, no_log
from usersync.core.daily_counts import counts_by_day
from usersync.core.installed import require_membership, settings_in_database
from usersync.errors import (
    ArgumentTypeError,
    ArgumentValueError,
    ConflictError,
    DatabaseError,
    NeedsDatabaseError,
    NotInstalledError,
    PrivilegeMissingError,
)
from usersync.sql.audit_reading import AuditReading
from usersync.sql.expressions import literal
from usersync.transports.steps import Steps, in_transaction, operate, query, query_row

if TYPE_CHECKING:
    from usersync.audit.models import TailCursor
    from usersync.config.settings import Settings
    from usersync.core.daily_counts import DayCount
    from usersync.transports.steps import Row

PAGE_SIZE = 100

#: The largest page.
LARGEST_PAGE = 100_000

OnPage = Callable[[tuple[EventRecord, ...]], None]

#: The transaction of the caller has failed already.
_ABORTED = "25P02"

#: How many events one call of ``tail`` fetches at most.
TAIL_SIZE = 5_000

#: Readers that follow the log do not wait for transactions that are open for longer.
LONGEST_TRANSACTION = timedelta(minutes=15)

#: Allowance for a transaction that has started but is not yet visible in pg_stat_activity.
SLACK = timedelta(seconds=1)


def installed_settings() -> Steps[Settings]:
    """The installed settings. Raises ``NotInstalledError``."""
    found = yield from settings_in_database()
    if found is None:
        yield from require_membership()
        raise NotInstalledError("usersync is not installed in this database", hint="Run: usersync apply")
    return found


def settings_with_log() -> Steps[Settings]:
    """The installed settings, if there is an audit log. Raises ``NotInstalledError`` if there is none."""
    settings = yield from installed_settings()
    if not (yield from has_log(settings)):
        raise no_log()
    return settings


def reading_of_log() -> Steps[AuditReading]:
    """SQL expressions that read the log. Raises ``NotInstalledError`` if there is no log."""
    return AuditReading((yield from settings_with_log()))


def search(
    wanted: EventFilter,
    *,
    after: EventPosition | str | None = None,
    limit: int = PAGE_SIZE,
    oldest_first: bool = False,
) -> Steps[EventPage]:
    """A page of at most ``limit`` events after a position, newest first. Stable while events are added.

    ``after`` is the cursor that the previous page returned. Raises ``ArgumentValueError`` for a cursor of
    another search and for an invalid ``limit``, before it reads anything.
    """
    check_limit(limit)
    this = Search(wanted, oldest_first)
    place = this.position(after) if after is not None and not isinstance(after, EventPosition) else after
    return _page(this, place, limit)


def check_limit(limit: object) -> None:
    """Raise ``ArgumentTypeError`` or ``ArgumentValueError`` unless it is the size of a page."""
    told = f"limit: expected 1 to {LARGEST_PAGE} events, got {repr(limit)[:80]}"
    if not isinstance(limit, int) or isinstance(limit, bool):
        raise ArgumentTypeError(told)
    if not 1 <= limit <= LARGEST_PAGE:
        raise ArgumentValueError(told)


def _page(this: Search, place: EventPosition | None, limit: int | None) -> Steps[EventPage]:
    answer = yield from _answer(this.wanted.describe(), place, limit, oldest_first=this.oldest_first)
    events = tuple(map(event_of, answer["events"]))
    return EventPage(events, this.cursor(events[-1].position) if answer["more"] else None)


def _answer(
    wanted: Mapping[str, Any], place: EventPosition | None, limit: int | None, *, oldest_first: bool
) -> Steps[Any]:
    try:
        return (
            yield from operate(
                "search_audit_log",
                returns={"events": [dict], "more": bool},
                wanted=wanted,
                after=place.describe() if place is not None else None,
                oldest_first=oldest_first,
                page_size=limit,
            )
        )
    except PrivilegeMissingError as missing:
        try:
            yield from require_membership()
        except NeedsDatabaseError:
            pass
        except DatabaseError as error:
            if error.sqlstate == _ABORTED:
                raise missing from None
            raise
        raise


def each_page(
    wanted: EventFilter, on_page: OnPage, *, size: int = PAGE_SIZE, after: UUID | None = None
) -> Steps[int]:
    """Pass all matching events to ``on_page``, oldest first. Returns how many there were.

    It is one query in one transaction, read through a cursor: it sees one snapshot of the log, and needs
    memory for one page. ``after`` is the id of the last event that the caller already has. Raises
    ``ConflictError`` if the log does not have that event.
    """
    yield from settings_with_log()
    place = (yield from _place_of(after)) if after is not None else None
    return (yield from in_transaction(_fetch_all(wanted, on_page, size, place)))


def _place_of(event_id: UUID) -> Steps[EventPosition]:
    if found := (yield from show(event_id)):
        return found[-1].position
    raise ConflictError(
        f"the audit log has no event {event_id}",
        hint="It was pruned, or the file is from another database. Export into a new file.",
    )


def _fetch_all(wanted: EventFilter, on_page: OnPage, size: int, after: EventPosition | None) -> Steps[int]:
    row = yield from query_row(
        "select usersync.audit_query(%(wanted)s::jsonb, %(after)s::jsonb, true) as text",
        wanted=json.dumps(wanted.describe()),
        after=json.dumps(after.describe()) if after is not None else None,
    )
    yield from query(f"declare usersync_export no scroll cursor for {row['text']}")
    total = 0
    while rows := (yield from query(f"fetch {size} from usersync_export")):
        on_page(tuple(map(event_of, rows)))
        total += len(rows)
    return total


def conditions_of(wanted: EventFilter) -> Steps[str]:
    """The filter as a condition, for a statement with parameters."""
    row = yield from query_row(
        "select usersync.audit_conditions(%(wanted)s::jsonb) as text", wanted=json.dumps(wanted.describe())
    )
    return str(row["text"]).replace("%", "%%")


def show(event_id: UUID, *, tenant_id: str | None = None) -> Steps[tuple[EventRecord, ...]]:
    """The event with this id, with ``tenant_id`` only if it belongs to this tenant. More than one only if a
    client sent one id with different times.
    """
    wanted = {"id": str(event_id)} | ({} if tenant_id is None else {"tenant_id": tenant_id})
    answer = yield from _answer(wanted, None, None, oldest_first=True)
    return tuple(map(event_of, answer["events"]))


def history(
    entity_type: str, entity_id: UUID | str | int, *, after: str | None = None, limit: int = PAGE_SIZE
) -> Steps[EventPage]:
    """The events of one entity, oldest first."""
    wanted = EventFilter(entity_type=entity_type, entity_id=entity_id)
    return search(wanted, after=after, limit=limit, oldest_first=True)


def tail(cursor: TailCursor | None = None, wanted: EventFilter | None = None) -> Steps[TailBatch]:
    """The events that have become visible since the last call. Without a cursor, only a position.

    Every event is returned once, whenever its transaction commits. An audit table of the application does
    not store the transactions. If it has a feed, the events are those of the feed. Otherwise no event of a
    transaction shorter than LONGEST_TRANSACTION is missed.
    """
    settings = yield from settings_with_log()
    reading = AuditReading(settings)
    if not reading.is_own:
        from usersync.audit import feed, noting  # noqa: PLC0415 - they import this module

        if isinstance(cursor, FeedCursor) or (cursor is None and (yield from noting.has_feed(settings))):
            position = cursor.position if isinstance(cursor, FeedCursor) else None
            page = yield from feed.feed(position, wanted or EventFilter(), TAIL_SIZE)
            return TailBatch(page.events, FeedCursor(page.position))
        given = cursor if isinstance(cursor, TimeCursor) else None
        return (yield from _tail_by_time(reading, given, wanted or EventFilter()))
    if not isinstance(cursor, SnapshotCursor):
        row = yield from query_row("select pg_current_snapshot()::text as snapshot")
        return TailBatch((), SnapshotCursor(row["snapshot"]))
    return (yield from _tail_by_snapshot(reading, cursor, wanted or EventFilter()))


def _tail_by_snapshot(reading: AuditReading, cursor: SnapshotCursor, wanted: EventFilter) -> Steps[TailBatch]:
    """The events that are visible now, or in ``cursor.target``, and were not visible in
    ``cursor.snapshot``.
    """
    conditions = yield from conditions_of(wanted)
    # Null in rows of triggers that an earlier release has installed.
    order = "coalesce(stored.seq, 9223372036854775807)"
    first, _, open_ones = cursor.snapshot.partition(":")[2].partition(":")
    rows = yield from query(
        # One statement, so that the snapshot is the one in which the events were read.
        "with now as materialized ("
        "select coalesce(%(target)s::pg_snapshot, pg_current_snapshot()) as snapshot) "
        "select now.snapshot::text as tail_snapshot, event.* from now left join lateral ("
        f"select {reading.fields()}, {order} as tail_order from {reading.table} as stored "
        "where (stored.xid >= %(first)s or stored.xid = any(%(open_ones)s::bigint[])) "
        "and pg_visible_in_snapshot(stored.xid::text::xid8, now.snapshot) "
        f"and {order} > %(after)s and {conditions} order by {order} limit %(fetched)s"
        ") as event on true order by tail_order",
        target=cursor.target,
        first=int(first),
        open_ones=[int(each) for each in open_ones.split(",") if each],
        after=cursor.after,
        fetched=TAIL_SIZE,
    )
    found = [row for row in rows if row["tail_order"] is not None]
    target = rows[0]["tail_snapshot"]
    if len(found) == TAIL_SIZE:  # There may be more events in this difference.
        cursor = SnapshotCursor(cursor.snapshot, target, found[-1]["tail_order"])
    else:
        cursor = SnapshotCursor(target)
    return TailBatch(tuple(map(event_of, found)), cursor)


def _tail_by_time(reading: AuditReading, cursor: TimeCursor | None, wanted: EventFilter) -> Steps[TailBatch]:
    """The events recorded since the oldest transaction that was open at the last call, without known ones.

    An event has the start time of its transaction, so an event that commits late is older than events that
    were returned before.
    """
    (moment,) = (yield from query_row(_HORIZON, longest=LONGEST_TRANSACTION, slack=SLACK)).values()
    if cursor is None:
        return TailBatch((), TimeCursor(moment))
    conditions = yield from conditions_of(wanted)
    rows = yield from query(
        f"select {reading.fields()}, {reading.recorded} as tail_order from {reading.table} as stored "
        f"where {reading.recorded} >= %(tail_since)s and {reading.tie} <> all (%(tail_seen)s) "
        f"and {conditions} order by {reading.recorded}, {reading.tie} limit %(fetched)s",
        tail_since=cursor.since,
        tail_seen=[tie for _, tie in cursor.seen],
        fetched=TAIL_SIZE,
    )
    if len(rows) == TAIL_SIZE:  # There are more events. The next call continues after these.
        moment = min(moment, rows[-1]["tail_order"])
    since = max(cursor.since, moment)
    looked_at = cursor.seen | {(row["tail_order"], row["tie"]) for row in rows}
    seen = frozenset((time, tie) for time, tie in looked_at if time >= since)
    return TailBatch(tuple(map(event_of, rows)), TimeCursor(since, seen))


# A role that cannot see the start times of other sessions' transactions waits for the maximum.
_HORIZON = """
    select case
        when pg_has_role('pg_read_all_stats', 'USAGE') then greatest(
            least(min(xact_start), clock_timestamp()) - %(slack)s, clock_timestamp() - %(longest)s)
        else clock_timestamp() - %(longest)s
    end as horizon
    from pg_stat_activity
    where datname = current_database() and pid <> pg_backend_pid()
"""


def stats(days: int) -> Steps[list[DailyCount]]:
    """The number of events of each action on each of the last days (UTC), including today."""
    reading = yield from reading_of_log()
    action, outcome = reading.column("action"), reading.column("outcome")
    rows = yield from query(
        f"select ({reading.time} at time zone 'UTC')::date as day, {action}::text as action, "
        f"count(*) as events, count(*) filter (where {outcome} <> 'succeeded') as unsuccessful "
        f"from {reading.table} as stored "
        f"where {reading.time} >= (date_trunc('day', now() at time zone 'UTC') "
        "- make_interval(days => %(days)s - 1)) at time zone 'UTC' group by 1, 2 order by 1, 2",
        days=days,
    )
    return [DailyCount(**row) for row in rows]


def events_by_day(*, days: int, most: int, action: str | None = None) -> Steps[tuple[DayCount, ...]]:
    """Count the events of each of the last days (UTC), and at most ``most`` of each."""
    reading = yield from reading_of_log()
    condition = f"{reading.column('action')} = {literal(action)}" if action else "true"
    table = f"{reading.table} as stored"
    return (yield from counts_by_day(table, reading.time, days=days, most=most, condition=condition))


def event_of(row: Row) -> EventRecord:
    """The event in a row with all fields, from any driver or as JSON."""
    return EventRecord(**event_values(row))


def event_values(row: Row) -> dict[str, Any]:
    """The fields of an event in a row, in the types of ``EventRecord``."""
    values = {name: row[name] for name in (*FIELDS, "tie")}
    for name in ("id", "user_id"):
        values[name] = _uuid(values[name])
    values["recorded_at"] = _utc(values["recorded_at"])
    # An application's own table may hold times that datetime does not.
    latest = str(values["occurred_at"]) == "infinity"
    values["occurred_at"] = _utc(values["occurred_at"]) or (_LATEST if latest else _EARLIEST)
    return values


_EARLIEST, _LATEST = datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)


def _utc(moment: datetime | str | None) -> datetime | None:
    """A time in UTC. A field without a column is text, and the application may store any value in it."""
    if isinstance(moment, str):
        try:
            moment = datetime.fromisoformat(moment)
        except ValueError:
            return None
    if moment is None:
        return None
    return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)


def _uuid(text: str | None) -> UUID | None:
    try:
        return UUID(text) if text else None
    except ValueError:
        return None
