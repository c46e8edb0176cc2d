"""Recording the changes of a table's rows: what would be installed on it, installing it, taking it away.

``usersync audit track`` makes a function and a trigger for each operation. Making a trigger locks the
table against writes for a moment, so a locked table is tried again, as the auth server's table is.
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
from usersync.transports.lock_retry import BUSY_LOCK_TIMEOUT, retry_while_locked, take_lock
from usersync.transports.steps import Steps, in_transaction, query

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
    #: Whose values are replaced by ``[redacted]``; that they changed is recorded.
    redacted: tuple[str, ...] = ()
    #: Empty if the table has none; a row is then known by a hash of what is recorded of it.
    key: tuple[str, ...] = ()


def plan_track(
    settings: Settings, table: str, options: TrackOptions, is_secret: IsSecret
) -> Steps[TrackingPlan]:
    """What ``track()`` would change. Writes nothing."""
    name = parse_name(table, "table")
    state = yield from inspect_table(settings, name)
    return _plan(settings, name, options, is_secret, state)


def track(
    settings: Settings,
    table: str,
    options: TrackOptions,
    is_secret: IsSecret,
    on_change: OnChange = lambda _: None,
) -> Steps[TrackingPlan]:
    """Record the changes of ``table`` from now on. Done already, it changes nothing; options replace others.

    Raises ``SettingsError`` for a table or column that cannot be tracked, and
    ``PrivilegeMissingError`` that names what is missing.
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
    """What ``untrack()`` would take away; nothing if the table is not tracked. Writes nothing."""
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
    """Take everything away that ``track()`` has put on ``table``. What was recorded stays recorded."""
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
    _refuse(name, state)
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


def _refuse(name: TableName, state: Row) -> None:
    if not state["has_log"]:
        raise no_log()
    if not state["exists"]:
        raise SettingsError(
            f"there is no table {name}", hint="Write it as schema.table; without a schema it is in public."
        )
    if state["kind"] not in {"r", "p"}:
        raise SettingsError(
            f"{name} is {_KINDS.get(state['kind'], 'not a table')}, and only tables can be tracked",
            hint="Track the tables behind it." if state["kind"] in {"v", "m"} else None,
        )
    if state["is_audit_table"] or name.schema in {"usersync", "pg_catalog", "information_schema"}:
        raise SettingsError(f"{name} cannot be tracked: recording would change it, and so record without end")
    if state["persistence"] == "t":
        raise SettingsError(f"{name} is a temporary table, and ends with its session")
    _refuse_privileges(name, state)
    for trigger in state["triggers"]:
        if trigger["name"] in _TRIGGER_NAMES and read_comment(trigger["comment"]) is None:
            raise ConflictError(
                f"the trigger {trigger['name']} on {name} is not usersync's: it runs {trigger['function']}",
                hint="Rename it: alter trigger … on … rename to …;",
            )


_TRIGGER_NAMES = {trigger_name(operation) for operation in OPERATIONS}


def _refuse_privileges(name: TableName, state: Row) -> None:
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
            f"{name} has no primary key: an event names its row by a hash of what is recorded of it",
            "An update is recorded with the hashes before and after, so that a row can be followed from "
            "event to event; equal rows cannot be told apart, and each row pays for the hashing. "
            "Add a primary key if you can.",
        )
    elif not state["key"]["primary"]:
        key = ", ".join(tracking.key)
        yield _note(name, f"{name} has no primary key; events name its rows by the unique {key}")
    yield from _relatives(name, state)
    virtual = [column["name"] for column in state["columns"] if column["virtual"]]
    if virtual:
        yield _note(name, f"computed when read, and so not recorded: {', '.join(virtual)}")
    secret = [column.name for column in tracking.columns if column.secret]
    if secret:
        yield _note(
            name,
            f"their names look like secrets, only that they changed is recorded: {', '.join(secret)}",
            "Name those that hold none in --reveal.",
        )
    if not state["owner_is_ours"]:
        yield _note(
            name,
            f"{name} belongs to {state['owner']}, whose types are read with the rights of {state['role']}",
            "Track tables of owners that you trust as you trust yourself.",
        )
    for constraint in state["deferred_on_log"]:
        yield _note(
            name,
            f"the constraint {constraint} of the audit table is checked at COMMIT, where its failure fails "
            "the application's transaction",
            "Make it immediate: alter table … alter constraint … not deferrable;",
        )


#: What columns are called that most likely hold something of a person. ``name`` is of products as often.
_PERSONAL = re.compile(
    r"e_?mail|phone|mobile|fax|(first|last|full|middle|given|family|maiden)_?name|surname|birth\w*|dob|address"
    r"|street|post(al)?_?code|zip(_?code)?|iban|ssn|passport|gender|nationality|avatar|ip|raw_user_meta_data"
)


#: What is known about a person's data rather than being it.
_ABOUT = re.compile(r"_(at|id|count|status|sent|verified|confirmed)$")


def _is_personal(column: str) -> bool:
    words = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", column).lower()
    return _ABOUT.search(words) is None and re.search(rf"(^|_)({_PERSONAL.pattern})(_|$)", words) is not None


def _privacy(settings: Settings, tracking: Tracking) -> Iterator[Finding]:
    """What is recorded cannot be taken back, and anonymizing records the old value once more."""
    whose = tracking.table in {settings.users_table, settings.source_table}
    personal = [each.name for each in tracking.columns if not each.secret and _is_personal(each.name)]
    if whose or personal:
        excludable = [name for name in personal if name not in tracking.key]
        holds = f", most likely in {', '.join(personal)}" if personal else ""
        yield _note(
            tracking.table,
            f"{tracking.table} holds what is personal{holds}. Old and new values go into the log, which is "
            "append-only: deleting or anonymizing a person does not take them out again, and writes them "
            "there once more",
            f"Leave out what need not be recorded: --exclude {','.join(excludable)}"
            if excludable
            else "Record only what is needed: --columns …",
        )


def _relatives(name: TableName, state: Row) -> Iterator[Finding]:
    if state["kind"] == "p":
        yield _note(
            name,
            f"{name} is partitioned: what is changed through it is recorded, in whichever partition; what is "
            "changed in a partition directly is not",
            "Track a partition as well if applications name it; nothing is recorded twice.",
        )
    elif state["has_children"]:
        yield _note(
            name,
            f"other tables inherit from {name}: what is changed through it is recorded, with its own "
            "columns; what is changed in them directly is not",
            "Track them as well if applications name them; nothing is recorded twice.",
        )
    if state["is_partition"]:
        yield _note(name, f"{name} is a partition: what is changed through its parent is not seen here")


def _note(name: TableName, message: str, advice: str | None = None) -> Finding:
    return Finding("D029", f"table {name}", message, f"-- {advice}" if advice else None, "warning")
