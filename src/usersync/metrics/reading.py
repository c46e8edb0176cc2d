"""Reads the metrics for a collector that asks periodically."""

from __future__ import annotations

import logging
import time
from contextlib import suppress
from typing import TYPE_CHECKING

from usersync import metrics
from usersync.audit.spool.listing import survey_spools
from usersync.errors import UsersyncError
from usersync.transports.processes import ForkSafeLock

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    from usersync.audit import AuditLog
    from usersync.client import UserSync
    from usersync.metrics import Sample

__all__ = ["Reading"]

_log = logging.getLogger("usersync.metrics")


class Reading:
    """The metrics of both tables of users (``sync``), of this process's audit log (``audit``), of all spools
    on this machine (``spool_dir``), and of a stream that workers store (``ingest``, called at each reading).

    Reading the tables is slow, so they are read again only after ``max_age`` seconds. While the database is
    unavailable, ``usersync_up`` is 0 and the other metrics of the tables are left out.
    """

    def __init__(
        self,
        *,
        sync: UserSync | None = None,
        audit: AuditLog | None = None,
        spool_dir: Path | None = None,
        ingest: Callable[[], Iterable[Sample]] | None = None,
        max_age: float = 60.0,
    ) -> None:
        self._sync = sync
        self._audit = audit
        self._spool_dir = spool_dir
        self._ingest = ingest
        self._max_age = max_age
        self._lock = ForkSafeLock()
        self._of_tables: list[Sample] = []
        self._asked_at = float("-inf")
        #: Why the last query of the database failed; None if it succeeded.
        self.error: UsersyncError | None = None

    def samples(self) -> Iterator[Sample]:
        """All metrics. Blocks while it queries the database. Does not raise if the database is
        unavailable.
        """
        if self._sync is not None:
            yield from self._tables(self._sync)
        if self._audit is not None:
            yield from metrics.of_audit_log(self._audit.stats())
        if self._ingest is not None:
            yield from self._ingest()
        if self._spool_dir is not None:
            try:
                yield from metrics.of_spools(survey_spools(self._spool_dir), time.time())
            except OSError as error:
                _log.warning("cannot look into the spool: %s", error)

    def _tables(self, sync: UserSync) -> list[Sample]:
        with self._lock:
            if time.monotonic() - self._asked_at >= self._max_age:
                try:
                    status = sync.status()
                except UsersyncError as error:
                    self._of_tables, self.error = [metrics.Sample(metrics.UP, 0)], error
                    _log.warning("cannot ask the database: %s", error)
                else:
                    self._of_tables, self.error = [metrics.Sample(metrics.UP, 1)], None
                    self._of_tables += metrics.of_status(status)
                    # Only the owner may read them, over a connection.
                    with suppress(UsersyncError):
                        self._of_tables += metrics.of_subscriptions(sync.subscriptions())
                # After asking: who waited for a slow answer gets it too.
                self._asked_at = time.monotonic()
            return self._of_tables
