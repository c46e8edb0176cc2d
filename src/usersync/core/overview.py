"""What an overview shows without comparing the tables: the last run, the failures, a pause."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING
from uuid import UUID

from usersync.core.paging import RUN_PART
from usersync.core.reconcile import counts_of
from usersync.core.users import FAILURE_STATUS
from usersync.models import Counts, Pause
from usersync.transports.steps import operate

if TYPE_CHECKING:
    from collections.abc import Mapping

    from usersync.transports.steps import Steps

_STATUS = FAILURE_STATUS | {"by_sqlstate": dict}


@dataclass(frozen=True)
class Comparison:
    """The last run that compared both tables, and what it found."""

    run_id: UUID
    finished: bool
    updated_at: datetime
    counts: Counts


@dataclass(frozen=True)
class Overview:
    """The last comparison, and the failures as of now."""

    comparison: Comparison | None
    degraded: int
    failed: int
    removal_failed: int
    event_failed: int
    oldest_failure_at: datetime | None
    by_sqlstate: Mapping[str, int]
    observed_at: datetime
    #: ``standby``, or ``setting`` (default_transaction_read_only), if the database accepts no writes.
    read_only: str | None
    paused: Pause | None

    @property
    def failures(self) -> int:
        """The number of users in the failures table, of every kind of failure."""
        return self.degraded + self.failed + self.removal_failed + self.event_failed

    @property
    def verdict(self) -> str:
        """``in sync``, ``out of sync``, or ``not known`` without a finished comparison.

        Missing and stale rows are not among the reasons: the run has written them, or recorded a failure.
        """
        if self.failures or (self.comparison is not None and self.comparison.counts.left_alone):
            return "out of sync"
        return "in sync" if self.comparison is not None and self.comparison.finished else "not known"


def overview() -> Steps[Overview]:
    """Read the failures table and the last run. Reads neither table of users."""
    found = yield from operate("ledger_status", returns=_STATUS)
    run = found["last_run"]
    comparison = None
    if run is not None:
        comparison = Comparison(
            UUID(run["run_id"]),
            run["finished"],
            datetime.fromisoformat(run["updated_at"]),
            (yield from _counts(run["run_id"])),
        )
    oldest = found["oldest_failure_at"]
    return Overview(
        comparison=comparison,
        degraded=found["degraded"],
        failed=found["failed"],
        removal_failed=found["removal_failed"],
        event_failed=found["event_failed"],
        oldest_failure_at=datetime.fromisoformat(oldest) if oldest else None,
        by_sqlstate=found["by_sqlstate"],
        observed_at=datetime.fromisoformat(found["observed_at"]),
        read_only=found.get("read_only"),
        paused=Pause.from_json(found["paused"]) if found.get("paused") else None,
    )


def _counts(run_id: str) -> Steps[Counts]:
    total, part, parts = Counts(), 1, 1
    while part <= parts:
        row = yield from operate("run_part", returns=RUN_PART | {"part_count": int}, run_id=run_id, part=part)
        total, part, parts = total + counts_of(row), part + 1, row["part_count"]
    return total
