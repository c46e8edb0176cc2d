"""``usersync resume``: ends the pause, and syncs the users who changed during it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from usersync.cli.options import Call, data_api_options, examples
from usersync.cli.sync import reconcile
from usersync.cli.text import bad, bold, count, good, typed, wrap
from usersync.core import pausing, users

if TYPE_CHECKING:
    from collections.abc import Iterator

    from usersync.cli.output import View
    from usersync.cli.sync_view import SyncView
    from usersync.errors import BusyError
    from usersync.models import Pause, SyncResult


@dataclass(frozen=True)
class ResumeView:
    """The pause that has ended, and what was synced."""

    pause: Pause | None
    retried: SyncResult
    sync: SyncView
    #: The sessions whose transactions began during the pause and have not ended.
    pending: BusyError | None = None

    @property
    def exit_code(self) -> int:
        return 1 if self.pending or self.retried.errors else self.sync.exit_code

    def lines(self, width: int) -> Iterator[str]:
        state = f"It was paused {self.pause}." if self.pause else "It was not paused."
        yield f"{bold(self.sync.target)}  {good('not paused')}"
        recorded = f"{count(self.retried.counts.examined, 'user')} recorded during the pause"
        yield from wrap(
            f"{state} {recorded[0].upper()}{recorded[1:]}, {self.retried.synced:,} in sync now.", width
        )
        yield ""
        yield from self.sync.lines(width)
        if self.pending:
            yield ""
            yield from wrap(
                "A transaction that began during the pause has not ended. The users that it recorded are "
                "not synced yet.",
                width,
                first=bad("  ! "),
            )
            yield from wrap(self.pending.hint or "", width, first="    ")
            yield f"    When it has ended:  {typed('usersync resume')}"

    def data(self) -> dict[str, Any]:
        return {
            "database": self.sync.target,
            "pause": self.pause,
            "noted": self.retried.counts.examined,
            "retried": self.retried.synced,
            "complete": self.pending is None,
            "sync": self.sync.data(),
        }


@click.command(
    epilog=examples(
        ("usersync resume", "ends the pause and syncs"),
        ("usersync resume --json", "for programs"),
    )
)
@data_api_options
def resume(call: Call) -> View:
    """End the pause, and sync the users who changed during it.

    The triggers sync again from the next statement of the auth server on. The command then syncs the users
    that the triggers recorded, deletions included, and compares both tables as 'usersync sync' does. It waits
    up to 5 s for transactions that began during the pause. It can be run again. Exit code 1 if a user could
    not be synced, or if such a transaction has not ended.
    """
    ended = call.run(pausing.end_pause(by=call.by))
    pending = call.name_blockers(ended.pending) if ended.pending else None
    retried = call.run(users.retry(sqlstate=pausing.NOTED))
    return ResumeView(ended.pause, retried, reconcile(call), pending)
