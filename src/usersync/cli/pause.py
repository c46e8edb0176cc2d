"""``usersync pause``: the triggers note what happens, and sync nobody."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from usersync.cli.options import Call, common_options, examples
from usersync.cli.text import bold, typed, warning, wrap
from usersync.core import pausing

if TYPE_CHECKING:
    from collections.abc import Iterator

    from usersync.cli.output import View
    from usersync.models import Pause


@dataclass(frozen=True)
class PauseView:
    """Since when, and by whom, usersync is paused."""

    pause: Pause
    is_new: bool
    target: str
    exit_code: int = 0

    def lines(self, width: int) -> Iterator[str]:
        state = "paused" if self.is_new else "was paused already"
        yield f"{bold(self.target)}  {warning(state)} {self.pause}"
        yield from wrap(
            "Sign-ups, changes and deletions go on. The triggers note them in usersync.sync_failures, and "
            "sync nobody. sync, retry and removals are refused; calls for one user, and the audit log, work.",
            width,
        )
        yield ""
        yield f"End the pause, and sync:  {typed('usersync resume')}"

    def data(self) -> dict[str, Any]:
        return {"database": self.target, "paused": self.pause, "is_new": self.is_new}


@click.command(
    epilog=examples(
        ("usersync pause", "before work on the users table"),
        ("usersync status", "says since when, and by whom"),
        ("usersync resume", "ends the pause, and syncs"),
    )
)
@common_options
def pause(call: Call) -> View:
    """Pause the triggers. Sign-ups go on; nobody is synced until resume.

    From the next statement of the auth server on, the triggers note which users are created, changed and
    deleted, and do not touch the users table. 'usersync resume' makes up for it. 'sync', 'retry' and removals
    are refused meanwhile. What concerns one user ('sync --user', ensure_user_exists, an audit event) works.
    No table of the application or of the auth server is locked.
    """
    found, is_new = call.run(pausing.pause(by=call.by))
    return PauseView(found, is_new, call.target)
