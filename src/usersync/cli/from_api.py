"""``usersync sync --from-api``: updates the copy of the auth server's users from its admin API."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING

from usersync.cli.progress import progress
from usersync.cli.text import count, number
from usersync.core.admin_users import ASK_UP_TO, CopyUpdate, update_copy
from usersync.core.reconcile import Progress
from usersync.models import Counts
from usersync.transports.data_api.admin import AuthServer
from usersync.transports.psycopg import transport_for

if TYPE_CHECKING:
    from usersync.cli.options import Call


def update_copy_from_api(call: Call, *, ask_up_to: int = ASK_UP_TO) -> CopyUpdate:
    """Write what the auth server lists to the copy, and say how many users that were."""
    server = AuthServer.from_env()
    call.output.tell(f"Reading users from {server.api.host}")
    with closing(transport_for(call.source)) as transport, progress(call.output) as on_progress:

        def on_listed(listed: int, total: int | None) -> None:
            on_progress(Progress(Counts(examined=listed), total or 0))

        updated = update_copy(transport, server, ask_up_to=ask_up_to, on_listed=on_listed)
    unlisted = f", {number(updated.unlisted)} no longer listed" if updated.unlisted else ""
    call.output.tell(
        f"{count(updated.listed, 'user')} listed, {number(updated.written)} new or changed{unlisted}"
    )
    return updated
