"""The output of ``track``, ``untrack`` and ``tracked``."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from usersync.cli.plan_view import change_data, change_lines, finding_lines
from usersync.cli.text import bold, count, faint, good, plain, typed, warning, wrap

if TYPE_CHECKING:
    from collections.abc import Iterator

    from usersync.audit.tracking.operations import TrackingPlan
    from usersync.audit.tracking.state import IsSecret
    from usersync.audit.tracking.tables import TrackedTable


def is_secret() -> IsSecret:
    """Return a function that tells whether a column's values are redacted, as AuditLog does it."""
    from usersync.config.redaction import Redactor  # noqa: PLC0415 - only if used

    return Redactor().is_secret


@dataclass(frozen=True)
class TrackView:
    """The recorded columns of a table, and the installed changes."""

    planned: TrackingPlan
    target: str
    dry_run: bool
    exit_code: int = 0

    def lines(self, width: int) -> Iterator[str]:
        yield f"{bold(self.target)}  {plain(self.planned.table)}"
        yield from finding_lines(self.planned.findings, width)
        if self.dry_run:
            yield from change_lines(self.planned.changes, width)
        yield ""
        yield from self._conclusion(width)

    def _conclusion(self, width: int) -> Iterator[str]:
        planned = self.planned
        if not planned.changes:
            yield good("Everything is up to date. Nothing to change.")
        elif self.dry_run:
            yield f"Nothing was changed. To continue, omit {typed('--dry-run')}."
        else:
            yield f"{good('Done:')} every change of {plain(planned.table)} is recorded from now on."
        yield from map(faint, wrap(self._what(), width))

    def _what(self) -> str:
        planned = self.planned
        columns = ", ".join(map(plain, planned.columns))
        key = f"Key: {', '.join(map(plain, planned.key))}. " if planned.key else ""
        hidden = f" Redacted: {', '.join(map(plain, planned.redacted))}." if planned.redacted else ""
        return f"{key}Columns: {columns}.{hidden}"

    def data(self) -> dict[str, Any]:
        return _plan_data(self.planned, self.target, dry_run=self.dry_run)


@dataclass(frozen=True)
class TrackingSqlView:
    """The SQL that tracks a table, or ends that."""

    planned: TrackingPlan
    sql: str
    exit_code: int = 0

    def lines(self, width: int) -> Iterator[str]:  # noqa: ARG002 - SQL is not wrapped
        yield self.sql.rstrip()

    def data(self) -> dict[str, Any]:
        return {"table": str(self.planned.table), "sql": self.sql}


@dataclass(frozen=True)
class UntrackView:
    """The changes that were or would be removed."""

    planned: TrackingPlan
    target: str
    dry_run: bool

    @property
    def exit_code(self) -> int:
        return 0 if self.planned.changes else 1

    def lines(self, width: int) -> Iterator[str]:
        if not self.planned.changes:
            yield f"{bold(self.target)}  {plain(self.planned.table)} is not tracked"
            return
        if self.dry_run:
            yield bold(self.target)
            yield from change_lines(self.planned.changes, width)
            yield ""
            yield f"Nothing was changed. To continue, omit {typed('--dry-run')}."
            return
        yield f"{good('Done:')} changes of {plain(self.planned.table)} are no longer recorded."
        yield faint("The recorded events stay.")

    def data(self) -> dict[str, Any]:
        return _plan_data(self.planned, self.target, dry_run=self.dry_run)


def _plan_data(planned: TrackingPlan, target: str, *, dry_run: bool) -> dict[str, Any]:
    return {
        "database": target,
        "table": str(planned.table),
        "dry_run": dry_run,
        "changes": [change_data(change) for change in planned.changes],
        "findings": [asdict(finding) for finding in planned.findings],
        "columns": planned.columns,
        "redacted": planned.redacted,
        "key": planned.key,
    }


@dataclass(frozen=True)
class TrackedView:
    """Each tracked table with its state."""

    tables: tuple[TrackedTable, ...]
    target: str

    @property
    def exit_code(self) -> int:
        return 1 if any(table.state != "current" for table in self.tables) else 0

    def lines(self, width: int) -> Iterator[str]:
        if not self.tables:
            yield f"{bold(self.target)}  no table is tracked"
            yield f"To record every change of a table:  {typed('usersync audit track TABLE')}"
            return
        yield f"{bold(self.target)}  {count(len(self.tables), 'table')} tracked"
        for table in self.tables:
            yield ""
            yield from _table_lines(table, width)

    def data(self) -> dict[str, Any]:
        tables = [asdict(table) | {"table": str(table.table)} for table in self.tables]
        return {"database": self.target, "tables": tables}


def _table_lines(table: TrackedTable, width: int) -> Iterator[str]:
    state = good(table.state) if table.state == "current" else warning(table.state)
    key = f"key {', '.join(map(plain, table.key))}" if table.key else "no key"
    yield f"{bold(plain(table.table))}  {state}  {faint(key)}"
    hidden = {name: f"{plain(name)} (redacted)" for name in table.redacted}
    columns = ", ".join(hidden.get(name, plain(name)) for name in table.columns)
    yield from wrap(columns, width, first="  ")
    for reason in table.reasons:
        yield from wrap(plain(reason), width, first=f"  {warning('!')} ")
    if table.state != "current":
        yield f"  {typed(plain(table.command))}"
