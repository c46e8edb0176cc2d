"""Storing events: the SQL function, the path from the spool, and record_in, against COPY and single INSERTs.

All use the same table with its indexes and foreign key, emptied each time, and one connection.
"""

from __future__ import annotations

import json
import logging
import random
import re
import tempfile
import uuid
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Protocol

from psycopg.types.json import Jsonb

from measuring import LOGGED, Row, faster, medians, slower, superuser_of, take_turns, timed
from usersync import AuditLog
from usersync.config.audit_columns import FIELDS
from usersync.testing import GoTrue
from usersync.testing.install import install

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import ExitStack

    import psycopg

    from measuring import Lab

BATCH, USERS = 500, 1_000
COLUMNS = tuple(FIELDS)

Event = dict[str, Any]


def make_events(users: list[uuid.UUID], count: int) -> list[Event]:
    """The events of an inventory application in a day, in the order of time."""
    start, chance = datetime.now(UTC) - timedelta(days=1), random.Random(1)  # noqa: S311
    return [_event(start + timedelta(seconds=86_400 * n / count), users, chance) for n in range(count)]


def _event(at: datetime, users: list[uuid.UUID], chance: random.Random) -> Event:
    milliseconds = int(at.timestamp() * 1000)
    number = milliseconds << 80 | 7 << 76 | chance.getrandbits(12) << 64 | 2 << 62 | chance.getrandbits(62)
    before = chance.randrange(1000)
    return {
        "id": str(uuid.UUID(int=number)),
        "occurred_at": at.isoformat(),
        "action": chance.choice(["product.created", "product.updated", "stock.adjusted"]),
        "outcome": "succeeded",
        "actor_id": str(chance.choice(users)),
        "actor_type": "user",
        "entity_type": "product",
        "entity_id": str(chance.randrange(10_000)),
        "changes": {"quantity": [before, before - 1], "location": ["A-12", "B-7"]},
        "metadata": {"warehouse": "north", "reason": "sold"},
        "request_id": str(uuid.UUID(int=chance.getrandbits(128))),
        "ip": "203.0.113.7",
        "user_agent": "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36",
        "source": "app",
    }


class HasOwner(Protocol):
    """A database that gives a connection as the owner."""

    owner: psycopg.Connection[Any]


class Log:
    """One database with users, and events about them."""

    def __init__(self, lab: Lab, stack: ExitStack, events: int) -> None:
        database = stack.enter_context(lab.database())
        install(database, LOGGED)
        with GoTrue(database.dsn("supabase_auth_admin")) as auth:
            self._users = auth.import_users(USERS)
        self.superuser: psycopg.Connection[Any] = stack.enter_context(superuser_of(database))
        self.owner: psycopg.Connection[Any] = stack.enter_context(database.connect("postgres"))
        self.events = make_events(self._users, events)
        self._dsn = database.dsn()

    def store(self, way: Callable[[Log, list[Event]], None], count: int) -> float:
        """Seconds an event of storing the events in an empty log."""
        self.empty()
        took = timed(lambda: way(self, self.events[:count]))
        self.check(count)
        return took / count

    def drain(self, count: int) -> float:
        """Seconds an event of sending a spool with the events."""
        self.empty()
        with tempfile.TemporaryDirectory() as directory:
            # No role of that name can log in, so the events wait in the spool of the same database.
            nobody = re.sub("//[^:@]*", "//nobody", self._dsn, count=1)
            log = AuditLog(nobody, spool_dir=directory, project="bench")
            with log.context(request_id="r-1", ip="203.0.113.7"):
                record_all(log, self.events[:count])
            log.close(timeout=0)
            with AuditLog(self._dsn, spool_dir=directory, project="bench") as log:
                took = timed(lambda: log.drain(timeout=600))
        self.check(count)
        return took / count

    def record_in(self, count: int) -> float:
        """Seconds an event of record_in() in one transaction of the application."""
        self.empty()
        with AuditLog(self._dsn) as log, self.owner.transaction(force_rollback=True):
            return timed(lambda: [self._record_in(log, event) for event in self.events[:count]]) / count

    def _record_in(self, log: AuditLog, event: Event) -> None:
        fields = ("actor_id", "changes", "metadata", "request_id", "ip", "user_agent")
        entity = (event["entity_type"], event["entity_id"])
        given: Any = {name: event[name] for name in fields}
        assert log.record_in(self.owner, event["action"], entity=entity, **given) is not None

    def insert(self, count: int) -> float:
        """Seconds an event of single INSERTs in one transaction of the application."""
        self.empty()
        with self.owner.transaction(force_rollback=True):
            return timed(lambda: by_single_inserts(self, self.events[:count])) / count

    def check(self, count: int) -> None:
        stored = self.superuser.execute("select count(*) from public.audit_logs").fetchone()
        assert stored == (count,), stored

    def empty(self) -> None:
        self.superuser.execute("truncate public.audit_logs")
        self.superuser.execute("checkpoint")


def record_all(log: AuditLog, events: list[Event]) -> None:
    """Record events in the spool."""
    for event in events:
        log.record(
            event["action"],
            entity=(event["entity_type"], event["entity_id"]),
            actor_id=event["actor_id"],
            changes=event["changes"],
            metadata=event["metadata"],
        )


def as_row(event: Event) -> tuple[Any, ...]:
    whole = (
        dict.fromkeys(COLUMNS) | event | {"recorded_at": event["occurred_at"], "user_id": event["actor_id"]}
    )
    return tuple(json.dumps(whole[c]) if c in {"changes", "metadata"} else whole[c] for c in COLUMNS)


def by_copy(log: Log, events: list[Event]) -> None:
    rows = [as_row(event) for event in events]
    with log.owner.cursor().copy(f"copy public.audit_logs ({', '.join(COLUMNS)}) from stdin") as copy:
        for row in rows:
            copy.write_row(row)


def by_function(log: HasOwner, events: list[Event]) -> None:
    for start in range(0, len(events), BATCH):
        log.owner.execute("select public.record_audit_events(%s)", [Jsonb(events[start : start + BATCH])])


def by_single_inserts(log: Log, events: list[Event]) -> None:
    marks = ", ".join(["%s"] * len(COLUMNS))
    insert = f"insert into public.audit_logs ({', '.join(COLUMNS)}) values ({marks})"
    for event in events:
        log.owner.execute(insert, as_row(event))


def measure(lab: Lab, stack: ExitStack) -> tuple[list[Row], dict[str, Any]]:
    """The rows of the table, and the time of each way."""
    count = lab.options.events
    few = min(count, lab.options.commits)
    logging.getLogger(
        "usersync.audit"
    ).disabled = True  # its warning that the database is unavailable is expected
    log = Log(lab, stack, count)
    times = take_turns(
        {
            "COPY": lambda: log.store(by_copy, count),
            "function": lambda: log.store(by_function, count),
            "spool": lambda: log.drain(count),
            "INSERT": lambda: log.store(by_single_inserts, few),
        },
        lab.rounds,
    )
    one_by_one = take_turns(
        {"record_in": lambda: log.record_in(few), "INSERT": lambda: log.insert(few)}, lab.rounds, slices=4
    )
    copy, single = "COPY into the same table", "an INSERT and a commit each"
    rows = [
        faster("audit throughput, spool to table", copy, times, "spool", "COPY", limit=0.7),
        faster("audit throughput, record_audit_events", copy, times, "function", "COPY", limit=0.7),
        faster("audit throughput, spool to table", single, times, "spool", "INSERT", limit=12),
        faster("audit throughput, record_audit_events", single, times, "function", "INSERT", limit=12),
        faster("COPY into the same table: the limit", single, times, "COPY", "INSERT"),
        slower(
            "record_in, in the application's transaction",
            "a bare INSERT into the log",
            one_by_one,
            "record_in",
            "INSERT",
            limit=1.5,
        ),
    ]
    return rows, {"unit": "µs an event", "ways": medians(times)}
