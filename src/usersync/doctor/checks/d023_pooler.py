"""Whether a pooler is between us and the server. Nothing of usersync minds one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from usersync.doctor.context import Context, Definition, Verdict
from usersync.transports.steps import query_row

if TYPE_CHECKING:
    from usersync.transports.steps import Steps


def look(context: Context) -> Steps[Verdict]:
    row = yield from query_row("select pg_backend_pid() as pid")
    if context.client_pid is None:
        return Verdict("not looked at")
    # A pooler answers for many servers, and so gives its clients process numbers of its own.
    if context.client_pid == row["pid"]:
        return Verdict("none, the connection is direct")
    return Verdict(
        "there is one, which is fine: usersync prepares no statement and keeps nothing in a session"
    )


CHECK = Definition("D023", "Pooler", look, "nothing")
