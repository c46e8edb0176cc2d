"""Whether each subscription is served, and has no dead events."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

from usersync.doctor.context import Context, Definition, Verdict, number
from usersync.events.subscriptions import HANDLER, STREAM, WEBHOOK, subscriptions
from usersync.models import Finding
from usersync.transports.steps import query_row

if TYPE_CHECKING:
    from collections.abc import Iterator

    from usersync.events.models import SubscriptionStatus
    from usersync.transports.steps import Steps

_DEAD = """\
usersync subscriptions dead {name}
-- After the cause is fixed:
usersync subscriptions retry {name}"""


_HELD = """\
-- If this database replaces the other one:
usersync subscriptions resume {name}
-- In a copy:
usersync subscriptions pause {name}"""

_START = {
    HANDLER: "usersync worker MODULE:NAME",
    WEBHOOK: "-- With the extra webhooks and USERSYNC_SECRET_KEY. The log of a running worker says what it "
    "lacks.\nusersync worker",
    STREAM: "-- With the extra nats. The log of a running worker says what it lacks.\nusersync worker",
}

#: How many subscriptions without a worker are named.
_MOST = 5


def look(context: Context) -> Steps[Verdict]:  # noqa: ARG001 - the query does not depend on the settings
    row = yield from query_row("select to_regclass('usersync.subscriptions') is not null as found")
    if not row["found"]:
        return Verdict("none")
    known = yield from subscriptions()
    if not known:
        return Verdict("none")
    return Verdict(
        f"{number(len(known), 'subscription')}, each with a worker or paused", tuple(_findings(known))
    )


def _findings(known: tuple[SubscriptionStatus, ...]) -> Iterator[Finding]:
    for each in known:
        name = shlex.quote(each.name)
        if each.dead:
            problem = f"{number(each.dead, 'dead event')}: all attempts failed"
            yield _finding([each], f"{each.name}: {problem}", _DEAD.format(name=name))
        if each.state != "active" and each.reason:
            fix = _HELD if each.state == "held" else "usersync subscriptions resume {name}"
            yield _finding([each], f"{each.name} is {each.state}: {each.reason}", fix.format(name=name))
    for kind, fix in _START.items():
        idle = [each for each in known if each.kind == kind and each.state == "active" and not each.workers]
        if idle:
            names = ", ".join(each.name for each in idle[:_MOST])
            more = f" and {len(idle) - _MOST} more" if len(idle) > _MOST else ""
            unread = number(max(each.lag for each in idle), "event")
            upto = "up to " if len(idle) > 1 else ""
            yield _finding(idle, f"no worker serves {names}{more}: {upto}{unread} not read yet", fix)


def _finding(about: list[SubscriptionStatus], message: str, fix: str) -> Finding:
    subject = f"subscription {about[0].name}" if len(about) == 1 else f"{len(about)} subscriptions"
    return Finding("D038", subject, message, fix, "warning")


CHECK = Definition("D038", "Subscriptions", look)
