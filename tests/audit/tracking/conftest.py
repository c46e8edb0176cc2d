"""Fixtures for tests of row tracking: a project with an audit log, and its tracked tables."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from usersync.audit.tracking import operations as tracking
from usersync.audit.tracking import tables as tracked_tables
from usersync.audit.tracking.state import TrackOptions
from usersync.config.redaction import Redactor
from usersync.transports.run import run

if TYPE_CHECKING:
    from collections.abc import Iterator

    import psycopg

    from fixtures_project import Project
    from usersync.audit.tracking.operations import TrackingPlan
    from usersync.audit.tracking.tables import TrackedTable

is_secret = Redactor().is_secret


@dataclass(frozen=True)
class Tracker:
    """Tracks tables of a project, and returns the recorded events."""

    project: Project

    def execute(self, statement: str, *parameters: Any) -> psycopg.Cursor[Any]:
        """Run SQL as ``postgres``. Without parameters, it may contain several statements."""
        return self.project.owner.execute(statement, parameters or None)

    def plan(self, table: str, **options: Any) -> TrackingPlan:
        plan = tracking.plan_track(self.project.settings, table, TrackOptions(**options), is_secret)
        return run(plan, self.project.owner)

    def track(self, table: str, **options: Any) -> TrackingPlan:
        plan = tracking.track(self.project.settings, table, TrackOptions(**options), is_secret)
        return run(plan, self.project.owner)

    def untrack(self, table: str) -> TrackingPlan:
        return run(tracking.untrack(self.project.settings, table), self.project.owner)

    def tracked(self) -> tuple[TrackedTable, ...]:
        return run(tracked_tables.tracked(self.project.settings, is_secret), self.project.owner)

    def events(self, fields: str = "action, entity_id, changes") -> list[Any]:
        """The recorded events in order. Single values if only one field is requested."""
        rows = self.project.owner.execute(
            f"select {fields} from public.audit_logs where source = 'trigger' "
            "order by occurred_at, action, entity_id"
        ).fetchall()
        return [row[0] for row in rows] if rows and len(rows[0]) == 1 else rows

    def rejects(self) -> list[Any]:
        return self.project.owner.execute(
            "select event ->> 'action', event ->> 'entity_id', event -> 'changes', sqlstate "
            "from usersync.audit_rejects order by reject_id"
        ).fetchall()

    @contextmanager
    def session(self, **settings: str) -> Iterator[psycopg.Connection[Any]]:
        """Another session with one open transaction, and settings that end with the transaction."""
        with self.project.database.connect("postgres", autocommit=False) as connection:
            for name, value in settings.items():
                connection.execute("select set_config(%s, %s, true)", [name.replace("__", "."), value])
            yield connection


@pytest.fixture
def tracker(project: Project, every_isolation_level: str) -> Tracker:
    return Tracker(project)
