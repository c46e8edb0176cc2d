"""Recording the changes of a table's rows: what would be installed on it, installing it, taking it away.

``usersync audit track`` makes a function and a trigger for each operation. Making a trigger locks the
table against writes for a moment, so everything is done as patiently as with the auth server's table.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from usersync.errors import (
    ConflictError,
    NotInstalledError,
    PrivilegeMissingError,
    SettingsError,
)
from usersync.mapping import TableName, check_name, parse_name
from usersync.models import Change, Finding
from usersync.plans.patience import BUSY_LOCK_TIMEOUT, patiently, take_lock
from usersync.plans.protocol import Plan, in_transaction, query, query_row
from usersync.sql.render import read_sql
from usersync.sql.tracking import (
    OPERATIONS,
    Tracking,
    TrackingPart,
    function_stem,
    read_comment,
    render_inspection,
    render_privileges,
    render_tracking,
    trigger_name,
)
from usersync.sql.tracking_columns import tracked_column

if TYPE_CHECKING:
    from collections.abc import Iterator

    from usersync.plans.protocol import Row
    from usersync.settings import Settings

IsSecret = Callable[[str], bool]
"""Whether a column of this name holds a secret; :meth:`usersync.audit.redaction.Redactor.is_secret`."""

OnChange = Callable[[Change], None]

State = Literal["current", "stale", "gone"]

Made = Mapping[str, Any]
"""What a table's functions were made from: what :attr:`Tracking.made_from` was then."""


@dataclass(frozen=True)
class TrackOptions:
    """Which columns are recorded. The key always is: events are found by it."""

    #: Only these; empty is all.
    columns: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    #: Recorded as they are, although their names look as if they held secrets.
    reveal: tuple[str, ...] = ()


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


@dataclass(frozen=True)
class TrackedTable:
    """A table whose changes are recorded. If it is ``stale``, tracking it again brings it up to date."""

    table: TableName
    state: State
    reasons: tuple[str, ...]
    columns: tuple[str, ...]
    redacted: tuple[str, ...]
    key: tuple[str, ...]
    options: TrackOptions = field(default_factory=TrackOptions)
    #: Whether a function or a trigger is not what it was: changes may be put aside, or not seen at all.
    broken: bool = False

    @property
    def command(self) -> str:
        """What to type: brings it up to date as it was tracked, or forgets a table that is gone."""
        if self.state == "gone":
            return f"usersync audit untrack {shlex.quote(str(self.table))}"
        words = ["usersync audit track", shlex.quote(str(self.table))]
        words += [
            f"--{name} {shlex.quote(','.join(given))}"
            for name in ("columns", "exclude", "reveal")
            if (given := getattr(self.options, name))
        ]
        return " ".join(words)


@dataclass(frozen=True)
class Renewal:
    """What applying does for the tables that are tracked, and those that it cannot do it for."""

    changes: tuple[Change, ...] = ()
    findings: tuple[Finding, ...] = ()


def plan_track(
    settings: Settings, table: str, options: TrackOptions, is_secret: IsSecret
) -> Plan[TrackingPlan]:
    """What :func:`track` would change. Writes nothing."""
    name = parse_name(table, "table")
    state = yield from _inspect(settings, name)
    return _plan(settings, name, options, is_secret, state)


def track(
    settings: Settings,
    table: str,
    options: TrackOptions,
    is_secret: IsSecret,
    on_change: OnChange = lambda _: None,
) -> Plan[TrackingPlan]:
    """Record the changes of ``table`` from now on. Done already, it changes nothing; options replace others.

    Raises :class:`SettingsError` for a table or column that cannot be tracked, and
    :class:`PrivilegeMissingError` that names what is missing.
    """
    name = parse_name(table, "table")
    done: list[TrackingPlan] = []

    def attempt() -> Plan[None]:
        yield from take_lock(BUSY_LOCK_TIMEOUT)
        state = yield from _inspect(settings, name)
        planned = _plan(settings, name, options, is_secret, state)
        for change in planned.changes:
            yield from query(change.sql)
        done.append(planned)

    yield from patiently(lambda: in_transaction(attempt()), str(name))
    for change in done[-1].changes:
        on_change(change)
    return done[-1]


def plan_untrack(settings: Settings, table: str) -> Plan[TrackingPlan]:
    """What :func:`untrack` would take away; nothing if the table is not tracked. Writes nothing."""
    name = parse_name(table, "table")
    yield from _inspect(settings, name)
    functions = yield from query(read_sql("tracking/tracked.sql"))
    ours = sorted({row["function"] for row in functions if _table_of(row) == name})
    drops = (Change("drop", f"function usersync.{each}()", "with its trigger", _drop(each)) for each in ours)
    return TrackingPlan(name, tuple(drops))


def untrack(settings: Settings, table: str, on_change: OnChange = lambda _: None) -> Plan[TrackingPlan]:
    """Take everything away that :func:`track` has put on ``table``. What was recorded stays recorded."""
    done: list[TrackingPlan] = []

    def attempt() -> Plan[None]:
        yield from take_lock(BUSY_LOCK_TIMEOUT)
        planned = yield from plan_untrack(settings, table)
        for change in planned.changes:
            yield from query(change.sql)
        done.append(planned)

    yield from patiently(lambda: in_transaction(attempt()), table)
    for change in done[-1].changes:
        on_change(change)
    return done[-1]


def tracked(settings: Settings, is_secret: IsSecret | None = None) -> Plan[tuple[TrackedTable, ...]]:
    """The tables that are tracked, and whether what is installed on them is what would be installed now.

    Without ``is_secret``, those columns count as secret that did when the table was tracked.
    """
    found = []
    for name, row in (yield from _tracked_rows()).items():
        found.append((yield from _describe(settings, name, row, is_secret)))
    return tuple(found)


def tracked_functions() -> Plan[dict[TableName, tuple[str, ...]]]:
    """The functions on each table that is tracked; those left out that were dropped since."""
    found: dict[TableName, tuple[str, ...]] = {}
    for row in (yield from query(read_sql("tracking/tracked.sql"))):
        if row["name"] is not None:
            name = TableName(row["schema"], row["name"])
            found[name] = (*found.get(name, ()), row["function"])
    return found


def renew(settings: Settings) -> Plan[Renewal]:
    """What it takes that tracked tables are recorded as these settings and this release have it.

    Only functions, so that no table is locked; which columns are recorded stays. A table that was altered
    since in such a way that this has to be decided anew is left to :func:`track`, with a note.
    """
    changes, findings = list[Change](), list[Finding]()
    for name, row in (yield from _tracked_rows()).items():
        made_from = read_comment(row["comment"])
        if row["name"] is None or made_from is None:
            continue
        state = yield from _look(settings, name)
        options = _options(made_from, state)
        try:
            tracking = _tracking(
                name, options, _noted_secrets(made_from), state, _strings(made_from, "recorded")
            )
            altered = list(_drift(tracking, made_from))
        except SettingsError as error:
            altered = [str(error)]
        if altered:
            table = TrackedTable(name, "stale", (), (), (), (), options)
            findings.append(
                Finding(
                    "note",
                    f"{name} is tracked, and was altered since: {'; '.join(altered)}",
                    f"Track it again: {table.command}",
                )
            )
            continue
        installed = {trigger["function"]: trigger for trigger in state["triggers"]}
        for part in render_tracking(settings, tracking):
            was = installed.get(part.function)
            if was is not None and _differs(part, tracking, was):
                reason = f"as settings and release have it, to record {name}"
                subject = f"function usersync.{part.function}()"
                # Not before the table is there that it writes into.
                changes.append(Change("replace", subject, reason, part.function_sql, busy=True))
    return Renewal(tuple(changes), tuple(findings))


def _tracked_rows() -> Plan[dict[TableName, Row]]:
    """One function's row for each table that is tracked."""
    rows = yield from query(read_sql("tracking/tracked.sql"))
    found: dict[TableName, Row] = {}
    for row in rows:
        name = _table_of(row)
        if name is not None:
            found.setdefault(name, row)
    return found


def _table_of(row: Row) -> TableName | None:
    """The table that a function serves; for one that serves none, the table that it was made for."""
    if row["name"] is not None:
        return TableName(row["schema"], row["name"])
    made_from = read_comment(row["comment"])
    return TableName(*_strings(made_from, "table")) if made_from else None


def _describe(
    settings: Settings, name: TableName, row: Row, is_secret: IsSecret | None
) -> Plan[TrackedTable]:
    made_from = read_comment(row["comment"]) or {}
    options = _options(made_from)
    state: State = "gone"
    drift, damage = ["the table was dropped"], list[str]()
    if row["name"] is not None:
        inspected = yield from _inspect(settings, name)
        options = _options(made_from, inspected)
        try:
            tracking = _tracking(name, options, is_secret or _noted_secrets(made_from), inspected)
        except SettingsError as error:
            drift = [str(error)]
        else:
            drift = list(_drift(tracking, made_from))
            damage = list(_damage(settings, tracking, inspected, altered=bool(drift)))
        state = "stale" if drift or damage else "current"
    recorded, redacted, key = (_strings(made_from, each) for each in ("recorded", "redacted", "key"))
    return TrackedTable(name, state, (*drift, *damage), recorded, redacted, key, options, broken=bool(damage))


def _options(made_from: Made, state: Row | None = None) -> TrackOptions:
    """The options that a table was tracked with, as far as its columns are still there.

    Without any of those to record, ``columns`` stays as it was: left out, it would mean all of them.
    """
    options = TrackOptions(*(_strings(made_from, each) for each in ("columns", "exclude", "reveal")))
    if state is None:
        return options
    present = {column["name"] for column in state["columns"]}
    columns, *others = (
        tuple(each for each in given if each in present)
        for given in (options.columns, options.exclude, options.reveal)
    )
    return TrackOptions(columns or options.columns, *others)


def _noted_secrets(made_from: Made) -> IsSecret:
    return frozenset(_strings(made_from, "redacted")).__contains__


def _strings(made_from: Made | None, key: str) -> tuple[str, ...]:
    found = (made_from or {}).get(key)
    return tuple(str(each) for each in found) if isinstance(found, list) else ()


def _look(settings: Settings, name: TableName) -> Plan[Row]:
    return (yield from query_row(render_inspection(settings, name)))["state"]  # type: ignore[no-any-return]


def _inspect(settings: Settings, name: TableName) -> Plan[Row]:
    state = yield from _look(settings, name)
    if not state["installed"]:
        raise NotInstalledError(
            "usersync, with its audit log, is not installed in this database", hint="Run: usersync apply"
        )
    return state


def _plan(
    settings: Settings, name: TableName, options: TrackOptions, is_secret: IsSecret, state: Row
) -> TrackingPlan:
    _refuse(name, state)
    tracking = _tracking(name, options, is_secret, state)
    parts = render_tracking(settings, tracking)
    return TrackingPlan(
        name,
        tuple(_changes(parts, tracking, state)),
        tuple(_notes(name, tracking, state)),
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


def _tracking(
    name: TableName,
    options: TrackOptions,
    is_secret: IsSecret,
    state: Row,
    only: tuple[str, ...] | None = None,
) -> Tracking:
    """What is to be recorded; of these columns ``only``, if any are named."""
    key = tuple(state["key"]["columns"]) if state["key"] else ()
    present = {column["name"]: column for column in state["columns"]}
    _check_options(name, options, key, present)
    wanted = [
        column
        for column in state["columns"]
        if not column["virtual"]
        and (only is None or column["name"] in only)
        and column["name"] not in options.exclude
        and (not options.columns or column["name"] in options.columns or column["name"] in key)
    ]
    if not wanted:
        raise SettingsError(f"{name}: no column is left to record")
    for column in wanted:
        check_name(column["name"], f"{name}: column")
    columns = tuple(
        tracked_column(column, secret=column["name"] not in options.reveal and is_secret(column["name"]))
        for column in wanted
    )
    made_from = {
        "table": [name.schema, name.name],
        "columns": list(options.columns),
        "exclude": list(options.exclude),
        "reveal": list(options.reveal),
        "recorded": [column.name for column in columns],
        "redacted": [column.name for column in columns if column.secret],
        "key": list(key),
    }
    partitioned = state["kind"] == "p"
    return Tracking(name, columns, key, _stem(name, state), made_from, state["server_version"], partitioned)


def _check_options(
    name: TableName, options: TrackOptions, key: tuple[str, ...], present: Mapping[str, Any]
) -> None:
    for option in ("columns", "exclude", "reveal"):
        for column in getattr(options, option):
            if column not in present:
                raise SettingsError(
                    f"--{option}: {name} has no column {column}", hint=f"It has {', '.join(present)}."
                )
    for column in options.exclude:
        if column in key:
            raise SettingsError(
                f"--exclude: {column} is part of the key of {name}, by which its events are found",
                hint="If it holds something secret, its hash is recorded in its place.",
            )
    for column in options.columns:
        if present[column]["virtual"]:
            raise SettingsError(
                f"--columns: {name}.{column} is computed when it is read, and triggers do not see it"
            )


def _stem(name: TableName, state: Row) -> str:
    """What this table's functions are called already; else the first name that no other table's are."""
    taken = set(state["taken"])
    own = {trigger["function"] for trigger in state["triggers"]}
    # Each table that had this name before, and is still tracked, may hold one.
    stems = [function_stem(name, number) for number in range(len(taken) + len(own) + 1)]
    for stem in stems:
        if f"{stem}_insert" in own:
            return stem
    return next(stem for stem in stems if not taken & {f"{stem}_{operation}" for operation in OPERATIONS})


#: pg_trigger.tgtype of a trigger after each statement.
_TYPES = {"insert": 4, "delete": 8, "update": 16, "truncate": 32}


def _changes(parts: tuple[TrackingPart, ...], tracking: Tracking, state: Row) -> Iterator[Change]:
    present = {trigger["name"]: trigger for trigger in state["triggers"]}
    installed = {trigger["function"]: trigger for trigger in state["triggers"]}
    made = [part for part in parts if _differs(part, tracking, installed.get(part.function))]
    for part in made:
        new = part.function not in installed
        reason = "" if new else "the table, the options, the settings or the release changed"
        yield Change(
            "create" if new else "replace", f"function usersync.{part.function}()", reason, part.function_sql
        )
    if made:
        yield Change("alter", "privileges", "nobody may call these functions", render_privileges(parts))
    for part in parts:
        trigger, was = f"trigger {part.trigger} on {tracking.table}", present.get(part.trigger)
        if was is None:
            yield Change("create", trigger, "", part.trigger_sql, busy=True)
        elif (was["function"], was["enabled"], was["type"]) != (part.function, "O", _TYPES[part.operation]):
            yield Change(
                "replace", trigger, "it is disabled or not ours any more", part.trigger_sql, busy=True
            )
    for function in sorted(set(installed) - {part.function for part in parts}):
        if read_comment(installed[function]["comment"]) is not None:
            yield Change(
                "drop", f"function usersync.{function}()", "made under an older name", _drop(function)
            )


def _drop(function: str) -> str:
    return f"drop function usersync.{function}() cascade;"


def _differs(part: TrackingPart, tracking: Tracking, installed: Mapping[str, Any] | None) -> bool:
    return (
        installed is None
        or installed["body"] != part.body
        or not installed["definer"]
        or sorted(installed["config"]) != sorted(part.config)
        or read_comment(installed["comment"]) != tracking.made_from
    )


def _damage(settings: Settings, tracking: Tracking, state: Row, *, altered: bool) -> Iterator[str]:
    """Which functions and triggers are not as they would be made now."""
    present = {trigger["name"]: trigger for trigger in state["triggers"]}
    if altered:
        # Each function would be another now, which says nothing about those that are there.
        for operation in OPERATIONS:
            was = present.get(trigger_name(operation))
            if was is None or was["enabled"] != "O":
                yield f"trigger {trigger_name(operation)}: {'it is disabled' if was else 'missing'}"
        return
    for change in _changes(render_tracking(settings, tracking), tracking, state):
        if change.kind != "alter":
            yield f"{change.subject}: {change.reason or 'missing'}"


def _drift(tracking: Tracking, made_from: Made) -> Iterator[str]:
    before, now = _strings(made_from, "recorded"), [column.name for column in tracking.columns]
    added = [column for column in now if column not in before]
    gone = [column for column in before if column not in now]
    if added:
        yield f"not recorded, because added or renamed since: {', '.join(added)}"
    if gone:
        yield f"gone since: {', '.join(gone)}; until it is tracked again, recording is slow"
    if list(tracking.key) != list(_strings(made_from, "key")):
        yield f"the key is another: {', '.join(tracking.key) or 'none'}"
    if _strings(made_from, "table") != (tracking.table.schema, tracking.table.name):
        yield f"renamed since: events say {'.'.join(_strings(made_from, 'table'))}"


def _notes(name: TableName, tracking: Tracking, state: Row) -> Iterator[Finding]:
    if not tracking.key:
        yield Finding(
            "note",
            f"{name} has no primary key: an event names its row by a hash of what is recorded of it",
            "An update is recorded with the hashes before and after, so that a row can be followed from "
            "event to event; equal rows cannot be told apart, and each row pays for the hashing. "
            "Add a primary key if you can.",
        )
    elif not state["key"]["primary"]:
        key = ", ".join(tracking.key)
        yield Finding("note", f"{name} has no primary key; events name its rows by the unique {key}")
    yield from _relatives(name, state)
    virtual = [column["name"] for column in state["columns"] if column["virtual"]]
    if virtual:
        yield Finding("note", f"computed when read, and so not recorded: {', '.join(virtual)}")
    secret = [column.name for column in tracking.columns if column.secret]
    if secret:
        yield Finding(
            "note",
            f"their names look like secrets, only that they changed is recorded: {', '.join(secret)}",
            "Name those that hold none in --reveal.",
        )
    if not state["owner_is_ours"]:
        yield Finding(
            "note",
            f"{name} belongs to {state['owner']}, whose types are read with the rights of {state['role']}",
            "Track tables of owners that you trust as you trust yourself.",
        )
    for constraint in state["deferred_on_log"]:
        yield Finding(
            "note",
            f"the constraint {constraint} of the audit table is checked at COMMIT, where its failure fails "
            "the application's transaction",
            "Make it immediate: alter table … alter constraint … not deferrable;",
        )


def _relatives(name: TableName, state: Row) -> Iterator[Finding]:
    if state["kind"] == "p":
        yield Finding(
            "note",
            f"{name} is partitioned: what is changed through it is recorded, in whichever partition; what is "
            "changed in a partition directly is not",
            "Track a partition as well if applications name it; nothing is recorded twice.",
        )
    elif state["has_children"]:
        yield Finding(
            "note",
            f"other tables inherit from {name}: what is changed through it is recorded, with its own "
            "columns; what is changed in them directly is not",
            "Track them as well if applications name them; nothing is recorded twice.",
        )
    if state["is_partition"]:
        yield Finding("note", f"{name} is a partition: what is changed through its parent is not seen here")
