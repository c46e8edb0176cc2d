"""Compares this machine's clock with the database server's clock, which decides how old an event is."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from usersync.transports.steps import query_row

if TYPE_CHECKING:
    from usersync.transports.steps import Steps


@dataclass(frozen=True)
class Clocks:
    """The times of both clocks. The time that the query takes does not count as a difference."""

    server: datetime
    #: This machine's time before and after the query.
    before: datetime
    after: datetime

    @property
    def apart(self) -> timedelta:
        """The minimum difference of the clocks."""
        return max(self.before - self.server, self.server - self.after, timedelta(0))

    @property
    def is_behind(self) -> bool:
        """Whether this machine's clock is behind the server's clock."""
        return self.server > self.after


def compare_clocks() -> Steps[Clocks]:
    """Read both clocks."""
    before = datetime.now(UTC)
    server = (yield from query_row("select clock_timestamp() as now"))["now"]
    return Clocks(server, before, datetime.now(UTC))
