"""The events that were recorded on this machine and are not in the database yet."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from usersync.core.audit_log import COMMAND, has_log
from usersync.core.position import DatabasePosition
from usersync.doctor.context import Context, Definition, Spool, Verdict, lines, number, without_query
from usersync.models import Finding
from usersync.transports.steps import query_row

if TYPE_CHECKING:
    from collections.abc import Iterator

    from usersync.config.settings import Settings
    from usersync.transports.steps import Steps

#: A writer that reaches its database delivers within seconds.
_DELAY = timedelta(minutes=10)


def look(context: Context) -> Steps[Verdict]:
    spool = context.spool
    if spool is None:
        return without_query(Verdict("not checked"))
    return _compare(spool, context.settings)


def _compare(spool: Spool, settings: Settings) -> Steps[Verdict]:
    found = yield from query_row(_INSTALLED)
    position = None
    if found["has_position"] and spool.other_spools:
        row = yield from query_row("select usersync.database_position() as position")
        position = DatabasePosition.read(row["position"])
    waiting = f"{number(spool.waiting, 'event')} waiting" if spool.waiting else "no event waits"
    findings = (
        *(
            (yield from _without_log(spool, settings, is_installed=found["is_installed"]))
            if spool.waiting
            else ()
        ),
        *_findings(spool),
        *_of_other_spools(spool, position),
    )
    return Verdict(f"{waiting} on this machine", findings)


_INSTALLED = (
    "select to_regprocedure('public.record_audit_events(jsonb)') is not null as is_installed, "
    "to_regprocedure('usersync.database_position()') is not null as has_position"
)


def _without_log(spool: Spool, settings: Settings, *, is_installed: bool) -> Steps[tuple[Finding, ...]]:
    if is_installed and (yield from has_log(settings)):
        return ()
    found = Finding(
        "D032",
        f"spool {spool.project}",
        f"{number(spool.waiting, 'event')} wait, and this database has no audit log: the spool keeps "
        "them up to its limit",
        COMMAND if is_installed else "usersync apply",
    )
    return (found,)


def _of_other_spools(spool: Spool, position: DatabasePosition | None) -> Iterator[Finding]:
    for each in spool.other_spools:
        if position is not None and each.installation == position.installation:
            yield Finding(
                "D032",
                f"spool {each.project}",
                f"{number(each.waiting, 'event')} of processes that died were recorded for this database "
                "with another connection string",
                f"usersync audit spool --drain --project {each.project}",
                "warning",
            )


def _findings(spool: Spool) -> Iterator[Finding]:
    drain = f"usersync audit spool --drain --project {spool.project}"
    if spool.abandoned:
        yield Finding(
            "D032",
            f"spool {spool.project}",
            f"{number(spool.abandoned, 'event')} of processes that died: the next process that records here "
            "delivers them",
            drain,
            "warning",
        )
    if spool.oldest_at is not None and datetime.now(UTC) - spool.oldest_at > _DELAY:
        yield Finding(
            "D032",
            f"spool {spool.project}",
            f"{number(spool.waiting, 'event')} have waited since {spool.oldest_at:%Y-%m-%d %H:%M %Z}: no "
            "writer has reached the database since then",
            drain,
        )
    if spool.quarantined:
        yield Finding(
            "D032",
            f"spool {spool.project}",
            f"{number(spool.quarantined, 'event')} quarantined: the database accepts them in no form",
            f"usersync audit spool --quarantined --project {spool.project}",
        )
    if spool.damaged:
        yield Finding(
            "D032",
            f"spool {spool.project}",
            lines(f"{name} cannot be read" for name in spool.damaged),
            "-- Keep the file: its events may be recovered with SQLite. New events go to another file.",
        )


CHECK = Definition("D032", "Spool of this machine", look, "nothing")
