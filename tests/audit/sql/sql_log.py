"""Helpers for tests that use a project's audit log with SQL."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

from psycopg.rows import dict_row
from psycopg.types.json import Jsonb

from usersync.transports.steps import OWN_TRANSACTION

if TYPE_CHECKING:
    import psycopg

    from fixtures_project import Project

HOSTILE_TABLE = {"audit": {"table": '"we\'ird %s ""schema"."au\'dit %I ""log"'}}


def event(**fields: Any) -> dict[str, Any]:
    """An event with an id, an action and a time, and the given fields."""
    return {"id": str(uuid4()), "action": "stock.adjusted", "occurred_at": "2026-03-01T12:00:00Z"} | fields


def send(connection: psycopg.Connection[Any], *events: Any) -> tuple[int, int, int]:
    """Record the events. Returns the numbers of stored events, duplicates and rejected events."""
    statement = "select public.record_audit_events(%s)"
    if not events:
        statement = f"{OWN_TRANSACTION} {statement} from told"
    row = connection.execute(statement, [Jsonb(list(events))]).fetchone()
    assert row
    return row[0]["stored"], row[0]["duplicates"], row[0]["rejected"]


def found(connection: psycopg.Connection[Any], statement: str) -> list[Any]:
    """The first value of each row, sorted."""
    return sorted(row[0] for row in connection.execute(statement).fetchall())


def as_sent(kept: Any) -> Any:
    """A rejected event without the generated id and time, if it was sent without them."""
    given = isinstance(kept, dict) and set(kept) <= {"id", "occurred_at", "action"}
    return {key: kept[key] for key in kept if key == "action"} if given else kept


@dataclass(frozen=True)
class Log:
    project: Project

    @property
    def owner(self) -> psycopg.Connection[Any]:
        return self.project.owner

    @property
    def table(self) -> str:
        """The log's quoted name."""
        return self.project.settings.audit_table.quoted

    @property
    def names(self) -> tuple[str, str]:
        """The log's schema and name, unquoted."""
        return self.project.settings.audit_table.schema, self.project.settings.audit_table.name

    def record(self, *events: Any) -> tuple[int, int, int]:
        return send(self.owner, *events)

    def rows(self) -> list[dict[str, Any]]:
        """All events, oldest first, each with its partition."""
        with self.owner.cursor(row_factory=dict_row) as cursor:
            read = (
                "select log.*, tableoid::regclass::text as partition from {} as log order by occurred_at, id"
            )
            rows = cursor.execute(read.format(self.table)).fetchall()
        for row in rows:
            # The user's id as text if the key is of type text.
            row["user_id"] = row["user_id"] and UUID(str(row["user_id"]))
        return rows

    def row(self) -> dict[str, Any]:
        """The only event, except those of usersync's own commands."""
        (row,) = (each for each in self.rows() if not each["action"].startswith("usersync."))
        return row

    def rejects(self) -> list[tuple[Any, str, str]]:
        """The rejected events: event, SQLSTATE, reason."""
        read = "select event, sqlstate, reason from usersync.audit_rejects order by reject_id"
        return self.owner.execute(read).fetchall()

    def partitions(self) -> list[str]:
        """The names of the partitions without their schema."""
        read = """
            select relname from pg_inherits join pg_class on pg_class.oid = inhrelid
            where inhparent = %s::regclass order by 1
        """
        return [row[0] for row in self.owner.execute(read, [self.table]).fetchall()]


def wait_until_blocked(observer: psycopg.Connection[Any], blocked: psycopg.Connection[Any]) -> None:
    """Wait until ``blocked`` waits for a lock."""
    deadline = time.monotonic() + 90
    while time.monotonic() < deadline:
        look = "select cardinality(pg_blocking_pids(%s)) > 0 from pg_sleep(0.005)"
        if observer.execute(look, [blocked.info.backend_pid]).fetchone() == (True,):
            return
    raise AssertionError("the session did not wait for a lock")
