"""The tracked tables: whether their triggers are current, and how ``apply`` updates them."""

from __future__ import annotations

import shlex
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from usersync.audit.tracking.generate import OPERATIONS, Tracking, read_comment, render_tracking, trigger_name
from usersync.audit.tracking.state import (
    IsSecret,
    Made,
    TrackOptions,
    changes_of,
    differs,
    read_states,
    strings,
    table_of,
    tracking_of,
)
from usersync.config.mapping import TableName
from usersync.config.redaction import Redactor
from usersync.errors import SettingsError
from usersync.models import Change, Finding
from usersync.sql.render import read_sql
from usersync.transports.steps import Steps, query

if TYPE_CHECKING:
    from collections.abc import Iterator

    from usersync.config.settings import Settings
    from usersync.transports.steps import Row

TrackedState = Literal["current", "stale", "gone"]


@dataclass(frozen=True)
class TrackedTable:
    """A tracked table. If it is ``stale``, tracking it again updates it."""

    table: TableName
    state: TrackedState
    reasons: tuple[str, ...]
    columns: tuple[str, ...]
    redacted: tuple[str, ...]
    key: tuple[str, ...]
    options: TrackOptions = field(default_factory=TrackOptions)
    #: Whether a function or a trigger was changed or removed: changes may be rejected or not recorded.
    broken: bool = False

    @property
    def command(self) -> str:
        """The command to type: track the table again with the same options, or untrack a dropped table."""
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
class TrackedUpdate:
    """What ``apply`` changes for tracked tables, and the tables that it cannot update."""

    changes: tuple[Change, ...] = ()
    findings: tuple[Finding, ...] = ()


def tracked(settings: Settings, is_secret: IsSecret | None = None) -> Steps[tuple[TrackedTable, ...]]:
    """The tracked tables, and whether their triggers are the ones that would be installed now.

    Without ``is_secret``, the columns that were secret when the table was tracked are secret, and the usual
    rules decide about the others.
    """
    rows = yield from _tracked_rows()
    states = yield from read_states(settings, tuple(rows))
    return tuple(_describe(settings, name, row, states[name], is_secret) for name, row in rows.items())


def tracked_functions() -> Steps[dict[TableName, tuple[str, ...]]]:
    """The functions on each tracked table, without dropped tables."""
    found: dict[TableName, tuple[str, ...]] = {}
    for row in (yield from query(read_sql("tracking/tracked.sql"))):
        if row["name"] is not None:
            name = TableName(row["schema"], row["name"])
            found[name] = (*found.get(name, ()), row["function"])
    return found


def update_tracked(settings: Settings) -> Steps[TrackedUpdate]:
    """The changes that update tracked tables to these settings, this release and their present columns.

    Only functions are replaced, so no table is locked. If the table was renamed, if its key was altered, or
    if a column that an option names is gone, ``track()`` must decide anew: the table is left unchanged, with
    a finding.
    """
    changes, findings = list[Change](), list[Finding]()
    rows = yield from _tracked_rows()
    states = yield from read_states(settings, tuple(rows))
    for name, row in rows.items():
        made_from = read_comment(row["comment"])
        if row["name"] is None or made_from is None:
            continue
        state = states[name]
        options = _options(made_from, state)
        try:
            tracking = tracking_of(name, options, _known_secrets(made_from), state)
            altered = list(_undecided(tracking, made_from))
        except SettingsError as error:
            altered = [str(error)]
        if altered:
            table = TrackedTable(name, "stale", (), (), (), (), options)
            findings.append(
                Finding(
                    "D029",
                    f"table {name}",
                    f"{name} is tracked, and was altered since: {'; '.join(altered)}",
                    f"-- Track it again:\n{table.command}",
                    "warning",
                )
            )
            continue
        installed = {trigger["function"]: trigger for trigger in state["triggers"]}
        for part in render_tracking(settings, tracking):
            was = installed.get(part.function)
            if was is not None and differs(part, tracking, was):
                reason = f"updated for the settings and this release, to record {name}"
                subject = f"function usersync.{part.function}()"
                # After the creation of the table into which it writes.
                changes.append(Change("replace", subject, reason, part.function_sql, busy=True))
    return TrackedUpdate(tuple(changes), tuple(findings))


def _tracked_rows() -> Steps[dict[TableName, Row]]:
    """One function's row for each tracked table."""
    rows = yield from query(read_sql("tracking/tracked.sql"))
    found: dict[TableName, Row] = {}
    for row in rows:
        name = table_of(row)
        if name is not None:
            found.setdefault(name, row)
    return found


def _describe(
    settings: Settings, name: TableName, row: Row, inspected: Row, is_secret: IsSecret | None
) -> TrackedTable:
    made_from = read_comment(row["comment"]) or {}
    options = _options(made_from)
    state: TrackedState = "gone"
    drift, damage = ["the table was dropped"], list[str]()
    if row["name"] is None and inspected["exists"]:
        state, damage = "stale", ["another table has its name, and is not recorded"]
    elif row["name"] is not None:
        options = _options(made_from, inspected)
        try:
            tracking = tracking_of(name, options, is_secret or _known_secrets(made_from), inspected)
        except SettingsError as error:
            drift = [str(error)]
        else:
            drift = list(_drift(tracking, made_from))
            damage = list(_damage(settings, tracking, inspected, altered=bool(drift)))
        state = "stale" if drift or damage else "current"
    recorded, redacted, key = (strings(made_from, each) for each in ("recorded", "redacted", "key"))
    return TrackedTable(name, state, (*drift, *damage), recorded, redacted, key, options, broken=bool(damage))


def _options(made_from: Made, state: Row | None = None) -> TrackOptions:
    """The options that a table was tracked with, without dropped columns.

    If all columns of ``columns`` were dropped, it is unchanged, because an empty one means all columns.
    """
    options = TrackOptions(*(strings(made_from, each) for each in ("columns", "exclude", "reveal")))
    if state is None:
        return options
    present = {column["name"] for column in state["columns"]}
    columns, *others = (
        tuple(each for each in given if each in present)
        for given in (options.columns, options.exclude, options.reveal)
    )
    return TrackOptions(columns or options.columns, *others)


def _known_secrets(made_from: Made) -> IsSecret:
    """The columns that were secret when the table was tracked, and the secrets among those added since."""
    recorded, redacted = (frozenset(strings(made_from, each)) for each in ("recorded", "redacted"))
    is_secret = Redactor().is_secret
    return lambda name, kind: name in redacted if name in recorded else is_secret(name, kind)


def _damage(settings: Settings, tracking: Tracking, state: Row, *, altered: bool) -> Iterator[str]:
    """The functions and triggers that differ from what would be created now."""
    present = {trigger["name"]: trigger for trigger in state["triggers"]}
    if altered:
        # Each function would differ now, so only missing and disabled triggers are reported.
        for operation in OPERATIONS:
            was = present.get(trigger_name(operation))
            if was is None or was["enabled"] != "O":
                yield f"trigger {trigger_name(operation)}: {'it is disabled' if was else 'missing'}"
        return
    for change in changes_of(render_tracking(settings, tracking), tracking, state):
        if change.kind != "alter":
            yield f"{change.subject}: {change.reason or 'missing'}"


def _drift(tracking: Tracking, made_from: Made) -> Iterator[str]:
    before, now = strings(made_from, "recorded"), [column.name for column in tracking.columns]
    added = [column for column in now if column not in before]
    gone = [column for column in before if column not in now]
    slow = "recording is slow until 'usersync apply' or until the table is tracked again"
    if added:
        yield f"added or renamed since: {', '.join(added)}; {slow}"
    if gone:
        yield f"gone since: {', '.join(gone)}; {slow}"
    if not added and not gone and made_from.get("form", tracking.form) != tracking.form:
        yield f"the type of a column changed since; {slow}"
    yield from _undecided(tracking, made_from)


def _undecided(tracking: Tracking, made_from: Made) -> Iterator[str]:
    """The differences after which ``track()`` has to decide what is recorded."""
    if list(tracking.key) != list(strings(made_from, "key")):
        yield f"the key changed to: {', '.join(tracking.key) or 'none'}"
    if strings(made_from, "table") != (tracking.table.schema, tracking.table.name):
        yield f"renamed since: events have the name {'.'.join(strings(made_from, 'table'))}"
    for option, left in (("columns", strings(tracking.made_from, "columns")), ("exclude", tracking.exclude)):
        gone = [column for column in strings(made_from, option) if column not in left]
        if gone:
            yield f"columns of --{option} are gone: {', '.join(gone)}"
