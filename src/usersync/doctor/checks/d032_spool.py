"""What was recorded on this machine and is not in the database."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from usersync.core.audit_log import COMMAND, has_log
from usersync.core.position import Position
from usersync.doctor.context import Context, Definition, Spool, Verdict, lines, number, settled
from usersync.models import Finding
from usersync.transports.steps import query_row

if TYPE_CHECKING:
    from collections.abc import Iterator

    from usersync.config.settings import Settings
    from usersync.transports.steps import Steps

#: A writer that reaches its database delivers within seconds.
_PATIENCE = timedelta(minutes=10)


def look(context: Context) -> Steps[Verdict]:
    spool = context.spool
    if spool is None:
        return settled(Verdict("not looked at"))
    return _compare(spool, context.settings)


def _compare(spool: Spool, settings: Settings) -> Steps[Verdict]:
    found = yield from query_row(_INSTALLED)
    position = None
    if found["says_where"] and spool.elsewhere:
        row = yield from query_row("select usersync.database_position() as position")
        position = Position.read(row["position"])
    waiting = f"{number(spool.waiting, 'event')} on the way" if spool.waiting else "nothing waits"
    findings = (
        *(
            (yield from _without_log(spool, settings, is_installed=found["is_installed"]))
            if spool.waiting
            else ()
        ),
        *_findings(spool),
        *_of_former_addresses(spool, position),
    )
    return Verdict(f"{waiting} on this machine", findings)


_INSTALLED = (
    "select to_regprocedure('public.record_audit_events(jsonb)') is not null as is_installed, "
    "to_regprocedure('usersync.database_position()') is not null as says_where"
)


def _without_log(spool: Spool, settings: Settings, *, is_installed: bool) -> Steps[tuple[Finding, ...]]:
    if is_installed and (yield from has_log(settings)):
        return ()
    found = Finding(
        "D032",
        f"spool {spool.project}",
        f"{number(spool.waiting, 'event')} wait, and this database has no audit log: they are kept up to the "
        "spool's limit",
        COMMAND if is_installed else "usersync apply",
    )
    return (found,)


def _of_former_addresses(spool: Spool, position: Position | None) -> Iterator[Finding]:
    for each in spool.elsewhere:
        if position is not None and each.installation == position.installation:
            yield Finding(
                "D032",
                f"spool {each.project}",
                f"{number(each.waiting, 'event')} of processes that died were recorded for this database "
                "under another address",
                f"usersync audit spool --drain --project {each.project}",
                "warning",
            )


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
