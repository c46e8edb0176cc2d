"""The feed of an audit log that is a table of the application.

Such a table does not store the transactions of its events. A trigger on it notes each new event in
``usersync.noted_events``. The trigger is created when the feed is wanted: by ``[audit] feed = true``, or by
the first subscription.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from usersync.audit.feed import number_events
from usersync.audit.reading import installed_settings
from usersync.config.audit_columns import FIELDS
from usersync.config.mapping import quote
from usersync.core.blockers import blockers
from usersync.errors import SettingsError
from usersync.models import Finding
from usersync.sql.audit_reading import AuditReading
from usersync.sql.render import render_bundle
from usersync.transports.lock_retry import BUSY_LOCK_TIMEOUT, retry_while_locked, take_lock
from usersync.transports.steps import PIN_SEARCH_PATH, Pause, in_transaction, query, query_row

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from usersync.config.settings import Settings
    from usersync.transports.steps import Steps

#: How many numbers a step looks at.
_STEP = 5_000

#: How long to wait for another session that numbers events, in seconds.
_PAUSE_S = 0.05


def feed_findings(settings: Settings, about: Mapping[str, Any]) -> Iterator[Finding]:
    """Why the application's audit table can have no feed. ``about``: the table, as it was inspected."""
    table, columns = settings.audit_table, settings.audit.columns
    key = columns["id"]
    found = about["columns"].get(key.name)
    if found is None:
        return
    label = f"{table}.{key.name}"
    if (key.type or FIELDS["id"]) != "uuid" and not found["string"]:
        yield _error(
            f"column {label}",
            f"the ids of the events are of type {found['type']}, and the feed requires uuid or text",
            f"alter table {table.quoted} add column event_id uuid unique;\n"
            f"alter table {table.quoted} alter column event_id set default gen_random_uuid();\n"
            '-- Then set in [audit.columns]: id = "event_id"',
        )
    elif not (found["not_null"] or found["has_default"]):
        yield _error(
            f"column {label}",
            f"{label} has no default, so rows that the application inserts without it have no id, and the "
            "feed would omit them",
            f"alter table {table.quoted} alter column {quote(key.name)} set default gen_random_uuid();",
        )
    if not columns.keys() & {"occurred_at", "recorded_at"}:
        yield _error(
            f"table {table}",
            f"the feed of {table} requires the time of an event, and neither occurred_at nor recorded_at is "
            "mapped",
            f"alter table {table.quoted} add column created_at timestamptz default now();\n"
            '-- Then set in [audit.columns]: occurred_at = "created_at"',
        )
    if about["foreign_partitions"]:
        yield _error(
            f"table {table}",
            f"{table} has partitions that are foreign tables: with a trigger that reads new rows, PostgreSQL "
            "refuses INSERTs into them",
            f"-- Detach these partitions, or leave {table} without a feed.",
        )
    if about["hides_rows"]:
        yield _error(
            f"table {table}",
            f"row-level security of {table} hides events from the role that owns usersync, so the feed would "
            "omit them",
            f"-- Let this role own {table}, or give it BYPASSRLS.",
        )
    if not about["may_create_triggers"]:
        yield _error(
            f"table {table}",
            f"this role has no right to create a trigger on {table}, which the feed requires",
            f"grant trigger on table {table.quoted} to current_user; -- as the owner of the table",
        )


def _error(subject: str, message: str, fix: str) -> Finding:
    return Finding("D025", subject, message, fix, level="error")


def start_feed(settings: Settings) -> Steps[None]:
    """Create the trigger if it is missing, and number all events that the table has.

    Raises ``SettingsError`` if the table can have no feed, and ``BusyError`` if the table stays locked.
    """
    bundle = render_bundle(settings)
    catalog = (yield from query_row(PIN_SEARCH_PATH + bundle.inspect_audit_log))["state"]
    for each in feed_findings(settings, catalog["audit_table"]):
        raise SettingsError(each.message, hint=each.fix)
    is_complete = yield from _is_complete(settings)
    if is_complete is None or not is_noted(catalog):
        yield from retry_while_locked(
            lambda: in_transaction(_create_trigger(bundle.note_events)),
            str(settings.audit_table),
            lambda: blockers(settings, settings.audit_table),
        )
    while not (yield from _is_complete(settings)):
        if (yield from number_events()) is None:
            yield Pause(_PAUSE_S)
    yield from number_events()


def _create_trigger(sql: str) -> Steps[None]:
    yield from take_lock(BUSY_LOCK_TIMEOUT)
    yield from query(sql)


def is_wanted(settings: Settings, catalog: Mapping[str, Any]) -> bool:
    """Whether new events of the application's audit table are to be noted."""
    return not settings.audit.is_own and (settings.audit.feed or catalog["has_subscriptions"])


def is_noted(catalog: Mapping[str, Any]) -> bool:
    """Whether new events of the application's audit table are noted."""
    return any(each["is_right"] and each["is_enabled"] for each in catalog["note_triggers"])


def has_started(settings: Settings) -> Steps[bool]:
    """Whether the log's events are to be numbered: those of the application's table only from its first
    subscription on.
    """
    return settings.audit.is_own or (yield from _is_complete(settings)) is not None


def has_feed(settings: Settings) -> Steps[bool]:
    """Whether new events of the application's audit table get numbers."""
    row = yield from query_row(_HAS_FEED, log=settings.audit_table.quoted)
    return bool(row["found"])


_HAS_FEED = """
    select exists (
        select from pg_trigger
        where tgrelid = to_regclass(%(log)s) and tgfoid = to_regprocedure('usersync.note_events()')
    ) and exists (select from usersync.noted_log where log = %(log)s and is_complete) as found
"""


def search_again() -> Steps[None]:
    """Have the table searched for events that were not noted, by the next calls of ``number_events()``.

    Such are rows that were inserted while triggers were off (``session_replication_role``), or directly into
    a partition.
    """
    yield from query(
        "update usersync.noted_log set is_searched = true, search_after = null, part = null, block = 0 "
        "where not is_searched"
    )


def forget_removed(is_ending: Callable[[], bool] = lambda: False) -> Steps[int]:
    """Delete the numbers of events that the application has deleted. Returns how many.

    Looks at all numbers, in steps that commit separately. ``is_ending``: whether to stop after the next step.
    """
    settings = yield from installed_settings()
    if settings.audit.is_own:
        return 0
    reading = AuditReading(settings)
    position, forgotten = 0, 0
    while not is_ending():
        row = yield from query_row(
            "with these as (select max(number) as last from (select number from usersync.event_numbers "
            "where number > %(after)s order by number limit %(size)s) as page), "
            "gone as (delete from usersync.event_numbers as numbered using these "
            "where number > %(after)s and number <= these.last and not exists ("
            f"select from {reading.table} as stored where {reading.has_number}) returning 1) "
            "select (select last from these) as last, (select count(*) from gone) as gone",
            after=position,
            size=_STEP,
        )
        if row["last"] is None:
            break
        position, forgotten = row["last"], forgotten + row["gone"]
    return forgotten


def _is_complete(settings: Settings) -> Steps[bool | None]:
    row = yield from query_row(
        "select bool_and(is_complete) as is_complete from usersync.noted_log where log = %(log)s",
        log=settings.audit_table.quoted,
    )
    complete: bool | None = row["is_complete"]
    return complete
