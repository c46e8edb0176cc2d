"""The seed's third verification: whether every user is there, and as the auth server has them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from usersync.models import Finding
from usersync.plans import users
from usersync.plans.doctor.context import Context, Definition, Verdict, number
from usersync.transports.steps import query_row

if TYPE_CHECKING:
    from usersync.models import SyncStatus
    from usersync.transports.steps import Plan


def look(context: Context) -> Plan[Verdict]:  # noqa: ARG001 - what is asked does not depend on settings
    status = yield from users.status()
    if not (status.missing or status.stale or status.orphaned):
        return Verdict(f"{number(status.auth_users, 'user')} in step")
    removals = yield from query_row("select * from usersync.count_removals()")
    over = removals["removals"] > removals["allowed"]
    return Verdict("", (_finding(status, over_cap=over),))


def _finding(status: SyncStatus, *, over_cap: bool) -> Finding:
    parts = [f"{getattr(status, kind):,} {kind}" for kind in ("missing", "stale", "orphaned")]
    detail = f"of {number(status.auth_users, 'user')}: {', '.join(parts)}"
    if status.lag is not None:
        detail += f"; the oldest has been missing since {status.oldest_missing_at:%Y-%m-%d %H:%M %Z}"
    if status.failed:
        detail += (
            f"\n{number(status.failed, 'user')} cannot be had before a cause in the ledger is mended (D018)"
        )
    if over_cap:
        detail += "\nmore rows would go than removal_cap allows: see that the auth server's table is complete"
    return Finding("D017", "users", detail, _fix(status, over_cap=over_cap))


def _fix(status: SyncStatus, *, over_cap: bool) -> str:
    if over_cap:
        return "usersync sync --dry-run\nusersync sync --removal-cap 1"
    if users.only_failures_remain(status):
        return "-- First mend what D018 names, then:\nusersync failures\nusersync retry"
    run = status.last_run
    return "usersync sync" if run is None or run.finished else "usersync sync --resume"


CHECK = Definition("D017", "Users in step", look)
