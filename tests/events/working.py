"""A project with an audit log, workers that run in this process, and helpers that read subscriptions."""

from __future__ import annotations

import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from psycopg.types.json import Jsonb

from usersync.events import subscriptions
from usersync.events.definitions import definitions
from usersync.transports.run import run
from usersync.worker.worker import Worker

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import psycopg

    from fixtures_project import Project
    from usersync import Handlers
    from usersync.events.models import ParkedEvent, SubscriptionStatus

DEADLINE_S = 90


def wait_for(condition: Callable[[], Any], what: str = "the condition") -> Any:
    """Wait until a condition is true."""
    deadline = time.monotonic() + DEADLINE_S
    while time.monotonic() < deadline:
        if found := condition():
            return found
        time.sleep(0.01)
    raise AssertionError(f"{what} did not come true in {DEADLINE_S} s")


@dataclass(frozen=True)
class Working:
    project: Project
    started: list[Worker] = field(default_factory=list)

    @property
    def owner(self) -> psycopg.Connection[Any]:
        return self.project.owner

    @property
    def dsn(self) -> str:
        return self.project.database.dsn()

    def register(self, handlers: Handlers, **options: Any) -> Any:
        """Register handlers, as ``usersync subscriptions sync`` does."""
        return run(subscriptions.sync_handlers(definitions(handlers), **options), self.owner)

    def record(self, *entities: object, action: str = "a.b", connection: Any = None) -> list[str]:
        """Record an event of each entity. Returns their ids."""
        events = [
            {
                "id": event_id,
                "action": action,
                "occurred_at": "2026-03-01T12:00:00Z",
                "entity_type": "thing" if each is not None else None,
                "entity_id": str(each) if each is not None else None,
                "metadata": {"n": number},
            }
            # Events of one statement are stored in the order of their ids.
            for number, (each, event_id) in enumerate(
                zip(entities, sorted(str(uuid4()) for _ in entities), strict=True)
            )
        ]
        (connection or self.owner).execute("select public.record_audit_events(%s)", [Jsonb(events)])
        return [each["id"] for each in events]

    @contextmanager
    def worker(self, handlers: Handlers | None = None, **options: Any) -> Iterator[Worker]:
        """A worker that tries again at once, and ends with the block."""
        worker = self.new(handlers, **options)
        worker.start()
        try:
            yield worker
        finally:
            worker.close()

    def new(
        self, handlers: Handlers | None, dsn: str | None = None, *, renewal: float = 0.2, **options: Any
    ) -> Worker:
        """A worker whose leases no slow machine loses, and which soon sees what changes in the database."""
        worker = Worker(dsn or self.dsn, handlers, **{"lease": 600.0, "backoff": lambda _: 0.05} | options)
        worker._renewal = renewal
        return worker

    def status(self, name: str) -> SubscriptionStatus:
        (found,) = run(subscriptions.subscriptions(name), self.owner)
        return found

    def parked(self, name: str) -> tuple[ParkedEvent, ...]:
        return run(subscriptions.parked_events(name), self.owner)

    def is_done(self, name: str) -> bool:
        """Whether every event is handled or dead."""
        return self.is_read(name) and self.status(name).parked == 0

    def is_read(self, name: str) -> bool:
        """Whether every event is handled, parked or dead."""
        # In one statement: a slow machine would exceed the limit for idle transactions of number_events().
        statement = "select public.usersync('number_events') <> 'null'"
        wait_for(lambda: self.owner.execute(statement).fetchone() == (True,), "the turn to number events")
        found = self.status(name)
        return found.lag == 0 and found.backfilled is None

    def wait_done(self, name: str) -> None:
        wait_for(lambda: self.is_done(name), f"{name} to handle all events")

    def retry(self, name: str) -> int:
        return run(subscriptions.retry(name), self.owner)

    def pause(self, name: str, **options: Any) -> bool:
        return run(subscriptions.pause(name, **options), self.owner)

    def resume(self, name: str) -> bool:
        return run(subscriptions.resume(name), self.owner)

    def remove(self, name: str) -> SubscriptionStatus:
        return run(subscriptions.remove(name), self.owner)

    def leased(self, name: str) -> int:
        """How many shards have a lease."""
        statement = (
            "select count(*) from usersync.subscription_shards where subscription = %s and worker is not null"
        )
        row = self.owner.execute(statement, [name]).fetchone()
        assert row
        return int(row[0])
