"""Whether every user has a row with the auth server's values."""

from __future__ import annotations

from typing import TYPE_CHECKING

from usersync.core import users
from usersync.doctor.context import Context, Definition, Verdict, number
from usersync.models import Finding

if TYPE_CHECKING:
    from collections.abc import Iterator

    from usersync.models import SyncStatus
    from usersync.transports.steps import Steps


def look(context: Context) -> Steps[Verdict]:  # noqa: ARG001 - the query does not depend on the settings
    status = yield from users.status()
    findings = (*_out_of_sync(status), *_not_removed(status))
    return Verdict("" if findings else f"{number(status.auth_users, 'user')} in sync", findings)


def _out_of_sync(status: SyncStatus) -> Iterator[Finding]:
    if not (status.missing or status.stale):
        return
    detail = f"of {number(status.auth_users, 'user')}: {status.missing:,} missing, {status.stale:,} stale"
    if status.lag is not None:
        detail += f"; the oldest has been missing since {status.oldest_missing_at:%Y-%m-%d %H:%M %Z}"
    if status.failed:
        failed = number(status.failed, "user")
        detail += f"\n{failed} cannot be synced before the cause of the failure is fixed (D018)"
    yield Finding("D017", "users", detail, _fix(status))


def _fix(status: SyncStatus) -> str:
    if status.paused:
        return "usersync resume"
    if users.only_failures_remain(status):
        return "-- First fix the causes that D018 names, then:\nusersync failures\nusersync retry"
    if status.stale:
        # Pasting the fix overwrites nothing.
        return (
            "usersync sync --dry-run\n"
            "-- It shows the values that differ. usersync sync replaces them with the auth server's"
        )
    run = status.last_run
    return "usersync sync" if run is None or run.finished else "usersync sync --resume"


def _not_removed(status: SyncStatus) -> Iterator[Finding]:
    """No fix removes rows when pasted: the auth server's table may be incomplete."""
    if status.orphaned:
        yield Finding(
            "D017",
            "orphaned rows",
            f"{number(status.orphaned, 'row')} of users whom the auth server does not have. A sync "
            "leaves them as they are",
            "usersync sync --dry-run\n"
            "-- If the auth server's table is complete, usersync sync --remove-orphans applies on_delete to "
            "these rows, after a confirmation",
            "warning",
        )
    if status.deleted_upstream:
        yield Finding(
            "D017",
            "rows of soft-deleted users",
            f"{number(status.deleted_upstream, 'row')} of users whom the auth server has soft-deleted. A "
            "sync leaves them as they are",
            "usersync sync --dry-run\n"
            "-- usersync sync --apply-deletions applies on_soft_delete to these rows, after a confirmation",
            "warning",
        )


CHECK = Definition("D017", "Users in sync", look)
