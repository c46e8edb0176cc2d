"""What was recorded on this machine and is not in the database."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from usersync.models import Finding
from usersync.plans.doctor.context import Context, Definition, Spool, Verdict, lines, number, settled

if TYPE_CHECKING:
    from collections.abc import Iterator

    from usersync.transports.steps import Plan

#: A writer that reaches its database delivers within seconds.
_PATIENCE = timedelta(minutes=10)


def look(context: Context) -> Plan[Verdict]:
    spool = context.spool
    if spool is None:
        return settled(Verdict("not looked at"))
    waiting = f"{number(spool.waiting, 'event')} on the way" if spool.waiting else "nothing waits"
    return settled(Verdict(f"{waiting} on this machine", tuple(_findings(spool))))


def _findings(spool: Spool) -> Iterator[Finding]:
    drain = f"usersync audit spool --drain --project {spool.project}"
    if spool.abandoned:
        yield Finding(
            "D032",
            f"spool {spool.project}",
            f"{number(spool.abandoned, 'event')} of processes that died: the next one that records here "
            "takes them over",
            drain,
            "warning",
        )
    if spool.oldest_at is not None and datetime.now(UTC) - spool.oldest_at > _PATIENCE:
        yield Finding(
            "D032",
            f"spool {spool.project}",
            f"{number(spool.waiting, 'event')} wait since {spool.oldest_at:%Y-%m-%d %H:%M %Z}: no writer has "
            "reached the database since",
            drain,
        )
    if spool.refused:
        yield Finding(
            "D032",
            f"spool {spool.project}",
            f"the database refused {number(spool.refused, 'event')} in every form",
            f"usersync audit spool --refused --project {spool.project}",
        )
    if spool.damaged:
        yield Finding(
            "D032",
            f"spool {spool.project}",
            lines(f"{name} cannot be read" for name in spool.damaged),
            "-- Keep the file for somebody who can look into SQLite; new events go to another.",
        )


CHECK = Definition("D032", "Spool of this machine", look, "nothing")
