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
    Cursor,
    DailyCount,
    EventFilter,
    EventPage,
    EventRecord,
    HistoryEntry,
    TailBatch,
    TailCursor,
)
from usersync.audit.reading_sql import AuditReading
from usersync.config.audit_columns import FIELDS
from usersync.core.audit_log import has_log, no_log
from usersync.core.installed import require_membership, settings_in_database
from usersync.errors import ConflictError, NotInstalledError
from usersync.sql.audit_expressions import SET_APART
from usersync.transports.steps import Steps, in_transaction, query, query_row

if TYPE_CHECKING:
    from usersync.config.settings import Settings
    from usersync.transports.steps import Row

PAGE_SIZE = 100

OnPage = Callable[[tuple[EventRecord, ...]], None]

#: How many events one call of ``tail`` fetches at most.
TAIL_SIZE = 5_000

#: Readers that follow the log do not wait for transactions that are open for longer.
PATIENCE = timedelta(minutes=15)

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


def _reading() -> Steps[AuditReading]:
    return AuditReading((yield from settings_with_log()))


def search(
    wanted: EventFilter, *, after: Cursor | None = None, limit: int = PAGE_SIZE, oldest_first: bool = False
) -> Steps[EventPage]:
    """The next ``limit`` events after a position, newest first. Stable while events are added."""
    reading = yield from _reading()
    conditions, values = _conditions(reading, wanted)
    if after is not None:
        conditions.append(_beyond(reading, ">" if oldest_first else "<"))
        values |= {"after_time": after.occurred_at, "after_tie": after.tie}
    direction = "asc" if oldest_first else "desc"
    rows = yield from query(
        f"select {reading.fields()} from {reading.table} as stored where {' and '.join(conditions)} "
        f"order by {reading.time} {direction}, {reading.tie} {direction} limit %(fetched)s",
        **values,
        fetched=limit + 1,
    )
    events = tuple(_event(row, reading) for row in rows[:limit])
    return EventPage(events, events[-1].cursor if len(rows) > limit else None)


def each_page(
    wanted: EventFilter, on_page: OnPage, *, size: int = PAGE_SIZE, after: UUID | None = None
) -> Steps[int]:
    """Pass all matching events to ``on_page``, oldest first. Returns how many there were.

    It is one query in one transaction, read through a cursor: it sees one snapshot of the log, and needs
    memory for one page. ``after`` is the id of the last event that the caller already has. Raises
    ``ConflictError`` if the log does not have that event.
    """
    reading = yield from _reading()
    place = (yield from _place_of(reading, after)) if after is not None else None
    return (yield from in_transaction(_fetch_all(reading, wanted, on_page, size, place)))


def _place_of(reading: AuditReading, event_id: UUID) -> Steps[Cursor]:
    rows = yield from query(
        f"select {reading.fields()} from {reading.table} as stored "
        f"where {reading.column('id')} = {reading.parameter('id')} order by {reading.time} desc limit 1",
        id=str(event_id),
    )
    if not rows:
        raise ConflictError(
            f"the audit log has no event {event_id}",
            hint="It was pruned, or the file is from another database. Export into a new file.",
        )
    return _event(rows[0], reading).cursor


def _fetch_all(
    reading: AuditReading, wanted: EventFilter, on_page: OnPage, size: int, after: Cursor | None
) -> Steps[int]:
    conditions, values = _conditions(reading, wanted)
    if after is not None:
        conditions.append(_beyond(reading, ">"))
        values |= {"after_time": after.occurred_at, "after_tie": after.tie}
    select = f"select {reading.fields()} from {reading.table} as stored where {' and '.join(conditions)}"
    order = f"order by {reading.time}, {reading.tie}"
    yield from query(f"declare usersync_export no scroll cursor for {select} {order}", **values)
    total = 0
    while rows := (yield from query(f"fetch {size} from usersync_export")):
        on_page(tuple(_event(row, reading) for row in rows))
        total += len(rows)
    return total


def _beyond(reading: AuditReading, sign: str) -> str:
    """The first condition is redundant: it lets an index be used."""
    return (
        f"{reading.time} {sign}= %(after_time)s and "
        f"({reading.time} {sign} %(after_time)s or {reading.tie} {sign} %(after_tie)s)"
    )


def _conditions(reading: AuditReading, wanted: EventFilter) -> tuple[list[str], dict[str, Any]]:
    conditions: list[str] = ["true"]
    values: dict[str, Any] = {}
    for name in ("user_id", "actor_id", "entity_type", "entity_id", "outcome", "request_id"):
        if (value := getattr(wanted, name)) is not None:
            conditions.append(reading.is_given(name))
            values[name] = str(value)
    if wanted.action is not None:
        conditions.append(_action(reading, wanted.action))
        values["action"] = _pattern(wanted.action)
    if wanted.since is not None:
        conditions.append(f"{reading.time} >= %(since)s")
        values["since"] = wanted.since
    if wanted.until is not None:
        conditions.append(f"{reading.time} < %(until)s")
        values["until"] = wanted.until
    for number, word in enumerate((wanted.text or "").split()):
        conditions.append(_holds(reading, f"word_{number}"))
        # Searched in the text of the complete document first: most documents do not contain the word, and
        # need not be split into values.
        values[f"word_{number}"] = word
        values[f"word_{number}_written"] = json.dumps(word, ensure_ascii=False)[1:-1]
    return conditions, values


def _holds(reading: AuditReading, word: str) -> str:
    """A condition: a value in metadata or changes contains the word. Names of keys are not searched."""
    values = (
        'jsonb_path_query(found.document, \'strict $.** ? (@.type() != "object" && @.type() != "array")\')'
    )
    return (
        f"exists (select from (select {reading.document} as document offset 0) as found "
        f"where position(lower(%({word}_written)s) in lower(found.document::text)) > 0 and exists ("
        f"select from {values} as each (value) "
        f"where position(lower(%({word})s) in lower(each.value #>> '{{}}')) > 0))"
    )


def _action(reading: AuditReading, action: str) -> str:
    return f"{reading.column('action')} {'like' if action.endswith('*') else '='} %(action)s"


def _pattern(action: str) -> str:
    if not action.endswith("*"):
        return action
    for special in ("\\", "%", "_"):
        action = action.replace(special, f"\\{special}")
    return action[:-1] + "%"


def show(event_id: UUID) -> Steps[tuple[EventRecord, ...]]:
    """The event with this id. More than one only if a client sent one id with different times."""
    reading = yield from _reading()
    rows = yield from query(
        f"select {reading.fields()} from {reading.table} as stored "
        f"where {reading.column('id')} = {reading.parameter('id')} order by {reading.time}",
        id=str(event_id),
    )
    return tuple(_event(row, reading) for row in rows)


def history(
    entity_type: str, entity_id: str, *, after: Cursor | None = None, limit: int = PAGE_SIZE
) -> Steps[tuple[tuple[HistoryEntry, ...], Cursor | None]]:
    """The events of one entity, oldest first, field by field; and the position of the next page."""
    wanted = EventFilter(entity_type=entity_type, entity_id=entity_id)
    page = yield from search(wanted, after=after, limit=limit, oldest_first=True)
    return tuple(HistoryEntry.of(event) for event in page.events), page.next


def tail(cursor: TailCursor | None = None, wanted: EventFilter | None = None) -> Steps[TailBatch]:
    """The events recorded since the last call. Without a cursor, only the position to start from.

    An event has the start time of its transaction, so an event that commits late is older than events that
    were returned before. Therefore each call starts at the oldest transaction that was open at the last call,
    and omits events that were returned already. No event of a transaction shorter than PATIENCE is missed.
    """
    reading = yield from _reading()
    (moment,) = (yield from query_row(_HORIZON, patience=PATIENCE, slack=SLACK)).values()
    if cursor is None:
        return TailBatch((), TailCursor(moment))
    conditions, values = _conditions(reading, wanted or EventFilter())
    rows = yield from query(
        f"select {reading.fields()}, {reading.recorded} as tail_order from {reading.table} as stored "
        f"where {reading.recorded} >= %(tail_since)s and {reading.tie} <> all (%(tail_seen)s) "
        f"and {' and '.join(conditions)} order by {reading.recorded}, {reading.tie} limit %(fetched)s",
        **values,
        tail_since=cursor.since,
        tail_seen=[tie for _, tie in cursor.seen],
        fetched=TAIL_SIZE,
    )
    if len(rows) == TAIL_SIZE:  # There are more events. The next call continues after these.
        moment = min(moment, rows[-1]["tail_order"])
    since = max(cursor.since, moment)
    looked_at = cursor.seen | {(row["tail_order"], row["tie"]) for row in rows}
    seen = frozenset((time, tie) for time, tie in looked_at if time >= since)
    return TailBatch(tuple(_event(row, reading) for row in rows), TailCursor(since, seen))


# A role that cannot see the start times of other sessions' transactions waits for the maximum.
_HORIZON = """
    select case
        when pg_has_role('pg_read_all_stats', 'USAGE') then greatest(
            least(min(xact_start), clock_timestamp()) - %(slack)s, clock_timestamp() - %(patience)s)
        else clock_timestamp() - %(patience)s
    end as horizon
    from pg_stat_activity
    where datname = current_database() and pid <> pg_backend_pid()
"""


def stats(days: int) -> Steps[list[DailyCount]]:
    """The number of events of each action on each of the last days (UTC), including today."""
    reading = yield from _reading()
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


def _event(row: Row, reading: AuditReading) -> EventRecord:
    values = {name: row[name] for name in (*FIELDS, "tie")}
    for name in ("id", "user_id"):
        values[name] = _uuid(values[name])
    if not reading.is_own and isinstance(values["metadata"], dict):
        values["metadata"] = _without_fields(
            values["metadata"], reading, by_usersync=values["id"] is not None
        )
    for name in ("occurred_at", "recorded_at"):
        values[name] = _utc(values[name])
    return EventRecord(**values)


def _without_fields(
    metadata: Mapping[str, Any], reading: AuditReading, *, by_usersync: bool
) -> dict[str, Any]:
    """The metadata without the fields that have no column of their own and were added to it."""
    apart = metadata.get(SET_APART) if by_usersync else None
    own = {key: value for key, value in metadata.items() if key not in reading.unmapped}
    if isinstance(apart, dict):
        del own[SET_APART]
        own |= apart
    return own


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
