"""Whether a sign-up waits for another server."""

from __future__ import annotations

from typing import TYPE_CHECKING

from usersync.doctor.context import Context, Definition, Verdict
from usersync.models import Finding
from usersync.schema.network_calls import network_calls
from usersync.sql.expressions import literal

if TYPE_CHECKING:
    from usersync.schema.network_calls import NetworkCall
    from usersync.transports.steps import Steps


def look(context: Context) -> Steps[Verdict]:
    found = yield from network_calls(list(context.names.values()))
    listed = "; ".join(str(each) for each in found)
    return Verdict(listed or "none", tuple(_finding(each) for each in found if each.is_immediate))


def _finding(caller: NetworkCall) -> Finding:
    return Finding(
        "D030",
        f"trigger {caller.trigger}",
        f"{caller}. It may run at {caller.waits_at}, which then wait for that server. If the request "
        "fails, the call is not undone",
        "-- Send it from a queue: net.http_post of pg_net, or a table that a worker reads. Its text:\n"
        f"select pg_get_functiondef({literal(caller.function)}::regprocedure);",
        "warning",
    )


CHECK = Definition("D030", "Triggers that call other servers", look, "source")
