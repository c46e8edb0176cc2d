"""The state of a table, what usersync has installed on it, and what it would install now."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from usersync.audit.tracking.columns import tracked_column
from usersync.audit.tracking.generate import (
    OPERATIONS,
    Tracking,
    TrackingPart,
    function_stem,
    read_comment,
    render_inspection,
    render_privileges,
)
from usersync.config.mapping import TableName, check_name, did_you_mean
from usersync.config.redaction import ValueKind
from usersync.errors import NotInstalledError, SettingsError
from usersync.models import Change
from usersync.sql.render import read_sql
from usersync.transports.steps import Steps, query

if TYPE_CHECKING:
    from collections.abc import Iterator

    from usersync.config.settings import Settings
    from usersync.transports.steps import Row

IsSecret = Callable[[str, ValueKind], bool]
"""Whether a column's name and the kind of its values mark a secret; ``Redactor.is_secret()``."""

#: The kinds of values by pg_type.typcategory.
_KINDS: Mapping[str, ValueKind] = {"B": "flag", "E": "flag", "N": "number", "D": "time", "T": "time"}

Made = Mapping[str, Any]
"""The ``Tracking.made_from`` that a table's functions were created from."""


@dataclass(frozen=True)
class TrackOptions:
    """Which columns are recorded. The key is always recorded, because events are found by it."""

    #: Record only these columns; if empty, all.
    columns: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    #: Record the values of these columns, although their names look like secrets.
    reveal: tuple[str, ...] = ()


def strings(made_from: Made | None, key: str) -> tuple[str, ...]:
    found = (made_from or {}).get(key)
    return tuple(str(each) for each in found) if isinstance(found, list) else ()


def table_of(row: Row) -> TableName | None:
    """The table that a function serves. If it serves none now, the table that it was created for."""
    if row["name"] is not None:
        return TableName(row["schema"], row["name"])
    made_from = read_comment(row["comment"])
    return TableName(*strings(made_from, "table")) if made_from else None


#: The maximum number of tables in one query.
_TABLES = 200


def read_state(settings: Settings, name: TableName) -> Steps[Row]:
    return (yield from read_states(settings, [name]))[name]


def read_states(settings: Settings, names: Sequence[TableName]) -> Steps[dict[TableName, Row]]:
    """The state of these tables and of the triggers on them, in one query for many tables."""
    functions = (yield from query(read_sql("tracking/functions.sql"))) if names else []
    found: dict[TableName, Row] = {}
    for start in range(0, len(names), _TABLES):
        part = names[start : start + _TABLES]
        rows = yield from query(render_inspection(settings, part))
        for name, row in zip(part, rows, strict=True):
            found[name] = {**row["state"], "taken": _Taken(functions, row["oid"])}
    return found


@dataclass(frozen=True)
class _Taken:
    """Names of functions that serve other tables, for example a table that had this table's name before."""

    functions: list[Row]
    table: int | None

    def names(self) -> set[str]:
        return {row["name"] for row in self.functions if row["relation"] not in {None, self.table}}


def inspect_table(settings: Settings, name: TableName) -> Steps[Row]:
    state = yield from read_state(settings, name)
    if not state["installed"]:
        raise NotInstalledError("usersync is not installed in this database", hint="Run: usersync apply")
    return state


def tracking_of(
    name: TableName,
    options: TrackOptions,
    is_secret: IsSecret,
    state: Row,
) -> Tracking:
    """What is recorded."""
    key = tuple(state["key"]["columns"]) if state["key"] else ()
    present = {column["name"]: column for column in state["columns"]}
    _check_options(name, options, key, present)
    wanted = [
        column
        for column in state["columns"]
        if not column["virtual"]
        and column["name"] not in options.exclude
        and (not options.columns or column["name"] in options.columns or column["name"] in key)
    ]
    if not wanted:
        raise SettingsError(f"{name}: no column is left to record")
    for column in wanted:
        check_name(column["name"], f"{name}: column")
    columns = tuple(
        tracked_column(
            column,
            secret=column["name"] not in options.reveal
            and is_secret(column["name"], _KINDS.get(column["category"], "other")),
        )
        for column in wanted
    )
    closed = bool(options.columns)
    names = {column.name for column in columns}
    form = ", ".join(column["form"] for column in state["columns"] if not closed or column["name"] in names)
    made_from = {
        "table": [name.schema, name.name],
        "columns": list(options.columns),
        "exclude": list(options.exclude),
        "reveal": list(options.reveal),
        "recorded": [column.name for column in columns],
        "redacted": [column.name for column in columns if column.secret],
        "key": list(key),
        "form": form,
    }
    return Tracking(
        name,
        columns,
        key,
        _stem(name, state),
        made_from,
        form,
        closed=closed,
        exclude=options.exclude,
        reveal=options.reveal,
        partitioned=state["kind"] == "p",
    )


def _check_options(
    name: TableName, options: TrackOptions, key: tuple[str, ...], present: Mapping[str, Any]
) -> None:
    for option in ("columns", "exclude", "reveal"):
        for column in getattr(options, option):
            if column not in present:
                raise SettingsError(
                    f"--{option}: {name} has no column {column}", hint=did_you_mean(column, present)
                )
    for column in options.exclude:
        if column in key:
            raise SettingsError(
                f"--exclude: {column} is part of the key of {name}, by which its events are found",
                hint="If it is a secret, its hash is recorded instead.",
            )
    for column in options.columns:
        if present[column]["virtual"]:
            raise SettingsError(
                f"--columns: {name}.{column} is a virtual generated column, which triggers cannot read"
            )


def _stem(name: TableName, state: Row) -> str:
    """The current name of this table's functions; else the first name that no other table uses."""
    own = {trigger["function"] for trigger in state["triggers"]}
    taken: set[str] = set() if f"{function_stem(name, 0)}_insert" in own else state["taken"].names()
    # Every tracked table that had this name before may still use one.
    most = len(taken) + len(own) + 1
    for number in range(most):
        if f"{function_stem(name, number)}_insert" in own:
            return function_stem(name, number)
    stems = (function_stem(name, number) for number in range(most))
    return next(stem for stem in stems if not taken & {f"{stem}_{operation}" for operation in OPERATIONS})


#: The value of pg_trigger.tgtype for an AFTER statement trigger.
_TYPES = {"insert": 4, "delete": 8, "update": 16, "truncate": 32}


def changes_of(parts: tuple[TrackingPart, ...], tracking: Tracking, state: Row) -> Iterator[Change]:
    present = {trigger["name"]: trigger for trigger in state["triggers"]}
    installed = {trigger["function"]: trigger for trigger in state["triggers"]}
    made = [part for part in parts if differs(part, tracking, installed.get(part.function))]
    for part in made:
        new = part.function not in installed
        reason = "" if new else "the table, the options, the settings or the release changed"
        yield Change(
            "create" if new else "replace", f"function usersync.{part.function}()", reason, part.function_sql
        )
    if made:
        yield Change("alter", "privileges", "no role may call these functions", render_privileges(parts))
    for part in parts:
        trigger, was = f"trigger {part.trigger} on {tracking.table}", present.get(part.trigger)
        if was is None:
            yield Change("create", trigger, "", part.trigger_sql, busy=True)
        elif (was["function"], was["enabled"], was["type"]) != (part.function, "O", _TYPES[part.operation]):
            yield Change("replace", trigger, "it is disabled, or was replaced", part.trigger_sql, busy=True)
    for function in sorted(set(installed) - {part.function for part in parts}):
        if read_comment(installed[function]["comment"]) is not None:
            yield Change(
                "drop",
                f"function usersync.{function}()",
                "created under an older name",
                drop_function(function),
            )


def drop_function(function: str) -> str:
    return f"drop function usersync.{function}() cascade;"


def differs(part: TrackingPart, tracking: Tracking, installed: Mapping[str, Any] | None) -> bool:
    return (
        installed is None
        or installed["body"] != part.body
        or not installed["definer"]
        # The catalog has the names of settings in PostgreSQL's spelling: TimeZone, DateStyle.
        or sorted(map(str.lower, installed["config"])) != sorted(map(str.lower, part.config))
        or read_comment(installed["comment"]) != tracking.made_from
    )
