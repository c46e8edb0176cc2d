"""What both clients keep in memory: which users are known, and how far a run has come."""

from __future__ import annotations

import time
from collections import OrderedDict
from typing import TYPE_CHECKING

from usersync.core.reconcile import Progress
from usersync.models import Counts
from usersync.transports.processes import ForkSafeLock

if TYPE_CHECKING:
    from uuid import UUID

    from usersync.core.position import Position
    from usersync.core.reconcile import OnProgress, Run


class RunStoppedError(Exception):
    """Ends a worker between two pages because another one failed. Never leaves the client."""


class RunCounter:
    """Adds up what the workers of a run report, and passes the sum on. Safe to use from threads."""

    def __init__(self, on_progress: OnProgress | None, run: Run | None = None) -> None:
        self.counts = run.before if run else Counts()
        self.total = run.total if run else 0
        self._on_progress = on_progress
        self._stopped = False
        self._lock = ForkSafeLock()

    def add(self, page: Counts) -> None:
        """Count one page, and end the worker if the run was stopped meanwhile."""
        with self._lock:
            self.counts += page
            if self._on_progress:
                self._on_progress(Progress(self.counts, self.total))
        self.check()

    def check(self) -> None:
        """Raise ``RunStoppedError`` once ``stop()`` was called."""
        if self._stopped:
            raise RunStoppedError

    def stop(self) -> None:
        """Have every worker end after the page that it is at."""
        self._stopped = True


class PositiveCache:
    """Users who are known to have a row, for ten minutes each. Only positive answers are kept.

    A row may be removed meanwhile by ``on_delete = "delete"``; the other policies keep the row. A failover
    and a restore to a point in time may lose it: both begin another timeline, or lead to another cluster.
    """

    SIZE, SECONDS = 10_000, 600.0
    #: How often the database is asked for its position.
    LOOK_SECONDS = 30.0

    def __init__(self) -> None:
        self._until: OrderedDict[UUID, float] = OrderedDict()
        self._lock = ForkSafeLock()
        self._position: Position | None = None
        self._look_at = 0.0

    @property
    def wants_position(self) -> bool:
        """Whether it is time to ask the database for its position, and to call ``update_position()``."""
        return time.monotonic() >= self._look_at

    def update_position(self, position: Position | None) -> None:
        """Forget all users if the database has moved. ``position`` is None if the database did not answer."""
        with self._lock:
            self._look_at = time.monotonic() + self.LOOK_SECONDS
            # A standby, and a database that did not answer, have no timeline.
            if position is None or not position.timeline:
                return
            if self._position not in (None, position):
                self._until.clear()
            self._position = position

    def has(self, user_id: UUID) -> bool:
        """Whether the user is known to have a row."""
        return self._until.get(user_id, 0.0) > time.monotonic()

    def add(self, user_id: UUID) -> None:
        """Remember that the user has a row."""
        with self._lock:
            self._until[user_id] = time.monotonic() + self.SECONDS
            self._until.move_to_end(user_id)
            if len(self._until) > self.SIZE:
                self._until.popitem(last=False)

    def forget(self, user_id: UUID) -> None:
        """Ask again next time."""
        with self._lock:
            self._until.pop(user_id, None)
