"""The state that both clients keep in memory: users with a row, and the progress of a run."""

from __future__ import annotations

import time
from collections import OrderedDict
from typing import TYPE_CHECKING

from usersync.core.reconcile import Progress
from usersync.models import Counts
from usersync.transports.processes import ForkSafeLock

if TYPE_CHECKING:
    from uuid import UUID

    from usersync.core.position import DatabasePosition
    from usersync.core.reconcile import OnProgress, Run


class RunStoppedError(Exception):
    """Ends a worker between two pages because another worker failed. The client does not raise it."""


class RunCounter:
    """Adds up the counts of a run's workers and reports the sum. Safe to use from threads."""

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
        """End every worker after its current page."""
        self._stopped = True


class PositiveCache:
    """A cache of users who have a row, for ten minutes each. Negative answers are not cached.

    In that time, ``on_delete = "delete"`` may remove the row; other policies keep it. A failover or a restore
    to a point in time may lose the row, but changes the timeline or the cluster, which clears the cache.
    """

    SIZE, SECONDS = 10_000, 600.0
    #: The interval between two queries of the database's position.
    LOOK_SECONDS = 30.0

    def __init__(self) -> None:
        self._until: OrderedDict[UUID, float] = OrderedDict()
        self._lock = ForkSafeLock()
        self._position: DatabasePosition | None = None
        self._look_at = 0.0

    @property
    def wants_position(self) -> bool:
        """Whether the position is due: query it and call ``update_position()``."""
        return time.monotonic() >= self._look_at

    def update_position(self, position: DatabasePosition | None) -> None:
        """Clear the cache if the position has changed. ``position`` is None if the database did not
        answer.
        """
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
        """Remove the user from the cache."""
        with self._lock:
            self._until.pop(user_id, None)
