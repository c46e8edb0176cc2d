"""``usersync resume``: end the pause, and make up for what has happened meanwhile."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from usersync.cli.options import Call, common_options, examples
from usersync.cli.sync import reconcile
from usersync.cli.text import bad, bold, count, good, typed, wrap
from usersync.core import pausing
from usersync.plans import users

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
        noted = f"{count(self.retried.counts.examined, 'user')} noted during the pause"
        yield from wrap(f"{state} {noted}, {self.retried.synced:,} in sync now.", width)
        yield ""
        yield from self.sync.lines(width)
        if self.pending:
            yield ""
            yield from wrap(
                "A transaction that began during the pause has not ended; the users that it has noted are "
                "not synced yet.",
                width,
                first=bad("  ! "),
            )
            yield from wrap(self.pending.hint or "", width, first="    ")
            yield f"    Once it has ended:  {typed('usersync resume')}"

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
        ("usersync resume", "ends the pause, and syncs"),
        ("usersync resume --json", "for programs"),
    )
)
@common_options
def resume(call: Call) -> View:
    """End the pause, and sync what has changed meanwhile.

    The triggers sync again from the next statement of the auth server on. Then the users whom they have noted
    are synced, deletions included, and both tables are compared as 'usersync sync' does it. Waits up to 5 s
    for transactions that began during the pause. Can be run again. Exit code 1 if a user could not be synced,
    or such a transaction has not ended.
    """
    ended = call.run(pausing.end_pause(by=call.by))
    pending = call.name_blockers(ended.pending) if ended.pending else None
    retried = call.run(users.retry(sqlstate=pausing.NOTED))
    return ResumeView(ended.pause, retried, reconcile(call), pending)
