"""``usersync sync --from-api``: the copy of the auth server's users, from its admin API."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING

from usersync.cli.progress import progress
from usersync.cli.text import count, number
from usersync.core.admin_users import ASKED, Received, receive_all
from usersync.core.reconcile import Progress
from usersync.models import Counts
from usersync.transports.data_api.admin import AuthServer
from usersync.transports.psycopg import link_to

if TYPE_CHECKING:
    from usersync.cli.options import Call


def receive(call: Call, *, ask_up_to: int = ASKED) -> Received:
    """Write what the auth server lists to the copy, and say how many users that were."""
    server = AuthServer.from_env()
    call.output.tell(f"Reading users from {server.api.host}")
    with closing(link_to(call.source)) as link, progress(call.output) as on_progress:

        def on_listed(listed: int, total: int | None) -> None:
            on_progress(Progress(Counts(examined=listed), total or 0))

        received = receive_all(link, server, ask_up_to=ask_up_to, on_listed=on_listed)
    unlisted = f", {number(received.unlisted)} not listed any more" if received.unlisted else ""
    call.output.tell(
        f"{count(received.listed, 'user')} listed, {number(received.written)} new or changed{unlisted}"
    )
    return received
