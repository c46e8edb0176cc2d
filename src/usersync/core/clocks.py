"""This machine's clock and the database server's, which decides what is old."""

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
    #: This machine's, before and after the server was asked.
    before: datetime
    after: datetime

    @property
    def apart(self) -> timedelta:
        """The smallest possible difference of the clocks."""
        return max(self.before - self.server, self.server - self.after, timedelta(0))

    @property
    def is_behind(self) -> bool:
        """Whether this machine's is the one that is behind."""
        return self.server > self.after


def compare_clocks() -> Steps[Clocks]:
    """Ask the server."""
    before = datetime.now(UTC)
    server = (yield from query_row("select clock_timestamp() as now"))["now"]
    return Clocks(server, before, datetime.now(UTC))
