"""Whether each subscription is served, and has no dead events."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

from usersync.doctor.context import Context, Definition, Verdict, lines, number
from usersync.events.subscriptions import subscriptions
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


def look(context: Context) -> Steps[Verdict]:  # noqa: ARG001 - the query does not depend on the settings
    row = yield from query_row("select to_regclass('usersync.subscriptions') is not null as found")
    if not row["found"]:
        return Verdict("none")
    known = yield from subscriptions()
    if not known:
        return Verdict("none")
    findings = tuple(finding for each in known if (finding := _finding(each)) is not None)
    return Verdict(f"{number(len(known), 'subscription')}, each with a worker or paused", findings)


def _finding(each: SubscriptionStatus) -> Finding | None:
    if problems := lines(_problems(each)):
        fix = _HELD if each.state == "held" else _DEAD if each.dead else "usersync worker MODULE:NAME"
        fix = fix.format(name=shlex.quote(each.name))
        return Finding("D038", f"subscription {each.name}", problems, fix, "warning")
    return None


def _problems(each: SubscriptionStatus) -> Iterator[str]:
    if each.dead:
        yield f"{number(each.dead, 'dead event')}: all attempts failed"
    if each.state == "active" and not each.workers:
        yield f"no worker runs for it; {number(each.lag, 'event')} not read yet"
    if each.state != "active" and each.reason:
        yield f"{each.state}: {each.reason}"


CHECK = Definition("D038", "Subscriptions", look)
