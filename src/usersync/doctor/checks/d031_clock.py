"""Whether the clocks of this machine and the server agree."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from usersync.core.clocks import compare_clocks
from usersync.doctor.context import Context, Definition, Verdict
from usersync.models import Finding

if TYPE_CHECKING:
    from usersync.transports.steps import Steps

#: The difference that the check of access tokens allows (the ``leeway`` of usersync.contrib.auth).
_TOLERATED = timedelta(seconds=10)


def look(context: Context) -> Steps[Verdict]:  # noqa: ARG001 - the query does not depend on the settings
    clocks = yield from compare_clocks()
    if clocks.apart <= _TOLERATED:
        return Verdict("this machine and the server agree")
    return Verdict("", (_finding(clocks.apart.total_seconds(), is_behind=clocks.is_behind),))


def _finding(seconds: float, *, is_behind: bool) -> Finding:
    return Finding(
        "D031",
        "clock",
        f"this machine's clock is {seconds:,.0f} s {'behind' if is_behind else 'ahead of'} the server's "
        "clock: events recorded here get a wrong occurred_at, and tokens are refused too early or accepted "
        "too long",
        "-- Synchronize the clock of this machine: timedatectl set-ntp true",
        "warning",
    )


CHECK = Definition("D031", "Clock", look, "nothing")
