"""Records the changes of a table's rows: plan, install, remove.

``usersync audit track`` creates a function and a trigger for each operation. Creating a trigger locks the
table against writes for a moment, so it waits for its locks as patiently as for the auth server's table.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from usersync.audit.tracking.generate import OPERATIONS, Tracking, read_comment, render_tracking, trigger_name
from usersync.audit.tracking.state import changes_of, drop_function, inspect_table, table_of, tracking_of
from usersync.config.mapping import TableName, parse_name
from usersync.core.audit_log import no_log
from usersync.core.blockers import blockers
from usersync.errors import ConflictError, PrivilegeMissingError, SettingsError
from usersync.models import Change, Finding
from usersync.sql.render import read_sql
from usersync.sql.script import one_statement
from usersync.transports.lock_retry import BUSY_LOCK_TIMEOUT, retry_while_locked, take_lock
from usersync.transports.steps import Steps, in_transaction, query
from usersync.version import __version__

if TYPE_CHECKING:
    from collections.abc import Iterator

    from usersync.audit.tracking.state import IsSecret, TrackOptions
    from usersync.config.settings import Settings
    from usersync.transports.steps import Row

OnChange = Callable[[Change], None]


@dataclass(frozen=True)
class TrackingPlan:
    """What tracking a table changes in the database, and what it will record."""

    table: TableName
    changes: tuple[Change, ...]
    findings: tuple[Finding, ...] = ()
    columns: tuple[str, ...] = ()
    #: Columns whose values are recorded as ``[redacted]``. The fact that they changed is recorded.
    redacted: tuple[str, ...] = ()
    #: Empty if the table has no key. Its rows are then identified by a hash of the recorded columns.
    key: tuple[str, ...] = ()


def plan_track(
    settings: Settings, table: str, options: TrackOptions, is_secret: IsSecret
) -> Steps[TrackingPlan]:
    """What ``track()`` would change. Writes nothing."""
    name = parse_name(table, "table")
    state = yield from inspect_table(settings, name)
    return _plan(settings, name, options, is_secret, state)


def script(planned: TrackingPlan) -> str:
    """The changes of a plan as one statement, which drivers and migration tools take unchanged."""
    head = f"-- usersync {__version__}: row tracking of {planned.table}"
    if not planned.changes:
        return f"{head}: nothing to change\n"
    return one_statement([head], (f"{change.sql.rstrip().rstrip(';')};\n" for change in planned.changes))


def track(
    settings: Settings,
    table: str,
    options: TrackOptions,
    is_secret: IsSecret,
    on_change: OnChange = lambda _: None,
) -> Steps[TrackingPlan]:
    """Record the changes of ``table`` from now on. Repeating it changes nothing, except with other options.

    Raises ``SettingsError`` for a table or column that cannot be tracked, and ``PrivilegeMissingError`` that
    names the missing privilege.
    """
    name = parse_name(table, "table")
    done: list[TrackingPlan] = []

    def attempt() -> Steps[None]:
        yield from take_lock(BUSY_LOCK_TIMEOUT)
        state = yield from inspect_table(settings, name)
        planned = _plan(settings, name, options, is_secret, state)
        for change in planned.changes:
            yield from query(change.sql)
        done.append(planned)

    yield from retry_while_locked(
        lambda: in_transaction(attempt()), str(name), lambda: blockers(settings, name)
    )
    for change in done[-1].changes:
        on_change(change)
    return done[-1]


def plan_untrack(settings: Settings, table: str) -> Steps[TrackingPlan]:
    """What ``untrack()`` would remove; nothing if the table is not tracked. Writes nothing."""
    name = parse_name(table, "table")
    yield from inspect_table(settings, name)
    functions = yield from query(read_sql("tracking/tracked.sql"))
    ours = sorted({row["function"] for row in functions if table_of(row) == name})
    drops = (
        Change("drop", f"function usersync.{each}()", "with its trigger", drop_function(each))
        for each in ours
    )
    return TrackingPlan(name, tuple(drops))


def untrack(settings: Settings, table: str, on_change: OnChange = lambda _: None) -> Steps[TrackingPlan]:
    """Remove everything that ``track()`` created on ``table``. Recorded events stay."""
    done: list[TrackingPlan] = []

    def attempt() -> Steps[None]:
        yield from take_lock(BUSY_LOCK_TIMEOUT)
        planned = yield from plan_untrack(settings, table)
        for change in planned.changes:
            yield from query(change.sql)
        done.append(planned)

    yield from retry_while_locked(lambda: in_transaction(attempt()), table, lambda: blockers(settings))
    for change in done[-1].changes:
        on_change(change)
    return done[-1]


def _plan(
    settings: Settings, name: TableName, options: TrackOptions, is_secret: IsSecret, state: Row
) -> TrackingPlan:
    _check_table(name, state)
    tracking = tracking_of(name, options, is_secret, state)
    parts = render_tracking(settings, tracking)
    return TrackingPlan(
        name,
        tuple(changes_of(parts, tracking, state)),
        (*_privacy(settings, tracking), *_notes(name, tracking, state)),
        columns=tuple(column.name for column in tracking.columns),
        redacted=tuple(column.name for column in tracking.columns if column.secret),
        key=tracking.key,
    )


_KINDS = {
    "v": "a view",
    "m": "a materialized view",
    "f": "a foreign table",
    "S": "a sequence",
    "i": "an index",
    "I": "an index",
    "c": "a type",
}


def _check_table(name: TableName, state: Row) -> None:
    if not state["has_log"]:
        raise no_log()
    if not state["exists"]:
        raise SettingsError(
            f"there is no table {name}", hint="Write it as schema.table; without a schema it is in public."
        )
    if state["kind"] not in {"r", "p"}:
        raise SettingsError(
            f"{name} is {_KINDS.get(state['kind'], 'not a table')}, and only tables can be tracked",
            hint="Track the tables that it reads." if state["kind"] in {"v", "m"} else None,
        )
    if state["is_audit_table"] or name.schema in {"usersync", "pg_catalog", "information_schema"}:
        raise SettingsError(
            f"{name} cannot be tracked: recording a change would change it again, without end"
        )
    if state["persistence"] == "t":
        raise SettingsError(f"{name} is a temporary table and cannot be tracked")
    _check_privileges(name, state)
    for trigger in state["triggers"]:
        if trigger["name"] in _TRIGGER_NAMES and read_comment(trigger["comment"]) is None:
            raise ConflictError(
                f"the trigger {trigger['name']} on {name} is not usersync's: it runs {trigger['function']}",
                hint="Rename it: alter trigger … on … rename to …;",
            )


_TRIGGER_NAMES = {trigger_name(operation) for operation in OPERATIONS}


def _check_privileges(name: TableName, state: Row) -> None:
    if not state["schema_is_ours"]:
        raise PrivilegeMissingError(
            f"role {state['role']} lacks ownership of schema usersync",
            hint="Connect as the role that installed usersync, on Supabase `postgres`.",
        )
    if not state["may_track"]:
        raise PrivilegeMissingError(
            f"role {state['role']} lacks TRIGGER on table {name}",
            hint=f"As {state['owner']}: grant trigger on table {name.quoted} to {state['role']};",
        )


def _notes(name: TableName, tracking: Tracking, state: Row) -> Iterator[Finding]:
    if not tracking.key:
        yield _note(
            name,
            f"{name} has no primary key: a hash of the recorded columns identifies a row in events",
            "An update is recorded with the hashes before and after, so that a row can be followed from "
            "event to event. Equal rows have the same hash, and hashing makes recording slower. Add a "
            "primary key if you can.",
        )
    elif not state["key"]["primary"]:
        key = ", ".join(tracking.key)
        yield _note(name, f"{name} has no primary key: the unique {key} identifies a row in events")
    yield from _relatives(name, state)
    virtual = [column["name"] for column in state["columns"] if column["virtual"]]
    if virtual:
        yield _note(name, f"virtual generated columns are not recorded: {', '.join(virtual)}")
    secret = [column.name for column in tracking.columns if column.secret]
    if secret:
        yield _note(
            name,
            f"values are redacted, because the names look like secrets: {', '.join(secret)}",
            "To record the values of a column that holds no secret: --reveal COLUMN.",
        )
    if not state["owner_is_ours"]:
        yield _note(
            name,
            f"{name} belongs to {state['owner']}: recording runs the output functions of its types with the "
            f"rights of {state['role']}",
            "Track only tables whose owners you trust with these rights.",
        )
    for constraint in state["deferred_on_log"]:
        yield _note(
            name,
            f"the constraint {constraint} of the audit table is checked at COMMIT: if it fails, so does "
            "the application's transaction",
            "Make it immediate: alter table … alter constraint … not deferrable;",
        )


#: Column names that probably hold personal data. ``name`` is not one of them, because products have it too.
_PERSONAL = re.compile(
    r"e_?mail|phone|mobile|fax|(first|last|full|middle|given|family|maiden)_?name|surname|birth\w*|dob|address"
    r"|street|post(al)?_?code|zip(_?code)?|iban|ssn|passport|gender|nationality|avatar|ip|raw_user_meta_data"
)


#: Suffixes of columns with data about a personal value.
_ABOUT = re.compile(r"_(at|id|count|status|sent|verified|confirmed)$")


def _is_personal(column: str) -> bool:
    words = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", column).lower()
    return _ABOUT.search(words) is None and re.search(rf"(^|_)({_PERSONAL.pattern})(_|$)", words) is not None


def _privacy(settings: Settings, tracking: Tracking) -> Iterator[Finding]:
    """Recorded values cannot be removed, and anonymizing records the old value once more."""
    whose = tracking.table in {settings.users_table, settings.source_table}
    personal = [each.name for each in tracking.columns if not each.secret and _is_personal(each.name)]
    if whose or personal:
        excludable = [name for name in personal if name not in tracking.key]
        holds = f", most likely in {', '.join(personal)}" if personal else ""
        yield _note(
            tracking.table,
            f"{tracking.table} holds personal data{holds}. Old and new values go into the log, which is "
            "append-only: deleting or anonymizing a person does not remove them, and records the old values "
            "once more",
            f"Exclude columns that need not be recorded: --exclude {','.join(excludable)}"
            if excludable
            else "Record only the needed columns: --columns …",
        )


def _relatives(name: TableName, state: Row) -> Iterator[Finding]:
    if state["kind"] == "p":
        yield _note(
            name,
            f"{name} is partitioned: changes through it are recorded in all partitions; statements that name "
            "a partition are not recorded",
            "Track a partition as well if applications name it. No change is recorded twice.",
        )
    elif state["has_children"]:
        yield _note(
            name,
            f"other tables inherit from {name}: changes through it are recorded, with the columns of {name}; "
            "statements that name an inheriting table are not recorded",
            "Track these tables as well if applications name them. No change is recorded twice.",
        )
    if state["is_partition"]:
        yield _note(name, f"{name} is a partition: changes through its parent are not recorded")


def _note(name: TableName, message: str, advice: str | None = None) -> Finding:
    return Finding("D029", f"table {name}", message, f"-- {advice}" if advice else None, "warning")
