"""``usersync pause``: the triggers record changed users and sync none of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from usersync.cli.options import Call, data_api_options, examples
from usersync.cli.text import bold, typed, warning, wrap
from usersync.core import pausing

if TYPE_CHECKING:
    from collections.abc import Iterator

    from usersync.cli.output import View
    from usersync.models import Pause


@dataclass(frozen=True)
class PauseView:
    """The start of the pause, and who started it."""

    pause: Pause
    is_new: bool
    target: str
    exit_code: int = 0

    def lines(self, width: int) -> Iterator[str]:
        state = "paused" if self.is_new else "was paused already"
        yield f"{bold(self.target)}  {warning(state)} {self.pause}"
        yield from wrap(
            "Sign-ups, changes and deletions still succeed. The triggers record these users in "
            "usersync.sync_failures and sync none of them. sync, retry and removals fail until the pause "
            "ends. Calls for one user and the audit log work.",
            width,
        )
        yield ""
        yield f"To end the pause and sync:  {typed('usersync resume')}"

    def data(self) -> dict[str, Any]:
        return {"database": self.target, "paused": self.pause, "is_new": self.is_new}


@click.command(
    epilog=examples(
        ("usersync pause", "before work on the users table"),
        ("usersync status", "shows the start of the pause, and who started it"),
        ("usersync resume", "ends the pause and syncs"),
    )
)
@data_api_options
def pause(call: Call) -> View:
    """Pause the triggers. Sign-ups succeed; no user is synced until resume.

    From the next statement of the auth server on, the triggers record which users are created, changed and
    deleted, and do not touch the users table. 'usersync resume' syncs these users. During a pause, 'sync',
    'retry' and removals fail. Calls for one user ('sync --user', ensure_user_exists, an audit event) work.
    The command locks no table of the application or of the auth server.
    """
    found, is_new = call.run(pausing.pause(by=call.by))
    return PauseView(found, is_new, call.target)
