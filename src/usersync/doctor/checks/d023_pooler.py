"""Whether the connection goes through a pooler, which usersync supports."""

from __future__ import annotations

from typing import TYPE_CHECKING

from usersync.doctor.context import Context, Definition, Verdict
from usersync.transports.steps import query_row

if TYPE_CHECKING:
    from usersync.transports.steps import Steps


def look(context: Context) -> Steps[Verdict]:
    row = yield from query_row("select pg_backend_pid() as pid")
    if context.client_pid is None:
        return Verdict("not checked")
    # A pooler assigns its own process ids to its clients.
    if context.client_pid == row["pid"]:
        return Verdict("none, the connection is direct")
    return Verdict(
        "yes, and usersync supports it: it prepares no statement and keeps no state in the session"
    )


CHECK = Definition("D023", "Pooler", look, "nothing")
