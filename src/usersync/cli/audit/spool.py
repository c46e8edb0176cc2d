"""``usersync audit spool``: shows and delivers the spooled events of this machine."""

from __future__ import annotations

import logging
import shlex
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

from usersync.cli.audit.periods import as_period
from usersync.cli.options import Call, common_options, examples, spools_option
from usersync.cli.text import (
    ago,
    align,
    bad,
    bold,
    count,
    faint,
    good,
    number,
    plain,
    size,
    typed,
    warning,
    wrap,
)
from usersync.errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from usersync.audit import AuditLog
    from usersync.audit.delivery.engine import DrainResult
    from usersync.audit.delivery.stats import AuditStats
    from usersync.audit.spool.listing import QuarantinedEvent, SpoolFile, SpoolSurvey
    from usersync.audit.spool.quarantine import RetryResult
    from usersync.cli.output import View
    from usersync.config.periods import Period


@dataclass(frozen=True)
class SpoolView:
    """The spool of each database: its files, their processes, and the number of waiting events."""

    root: Path
    surveys: tuple[SpoolSurvey, ...]
    with_quarantined: bool = False
    #: Whether --drain delivered everything. None without --drain.
    drained: bool | None = None
    delivered: int = 0
    error: str | None = None
    #: Files with events for another database: the database, and how many events.
    left: tuple[tuple[Path, str, int], ...] = ()
    #: Files that --drain could not read.
    unreadable: tuple[Path, ...] = ()
    #: The result of --retry-quarantined.
    retried: RetryResult | None = None

    @property
    def exit_code(self) -> int:
        is_bad = any(each.quarantined or each.damaged or each.problem for each in self.surveys)
        return 1 if self.drained is False or is_bad else 0

    def lines(self, width: int) -> Iterator[str]:
        shown = [each for each in self.surveys if each.files or each.damaged or each.problem]
        if not shown:
            yield f"{bold(str(self.root))}  {good('no events waiting')}"
        for number_, survey in enumerate(shown):
            if number_:
                yield ""
            yield from _survey_lines(survey, width, with_quarantined=self.with_quarantined)
        if self.drained is not None:
            yield ""
            verdict = good("Done:") if self.drained else bad("Stopped:")
            yield f"{verdict} {count(self.delivered, 'event')} delivered."
        if self.drained is False and (self.error or not (self.left or self.unreadable)):
            yield from wrap(
                f"Not all events could be delivered: {plain(self.error or '--timeout is over')}",
                width,
            )
        for path in self.unreadable:
            yield from wrap(f"not read: {plain(path)}", width, first=f"  {bad('✗')} ")
        for path, reason, waiting in self.left:
            first = f"  {warning('left')} "
            yield from wrap(f"{count(waiting, 'event')} {plain(reason)}: {plain(path)}", width, first=first)
        if self.retried is not None:
            yield ""
            yield from wrap(_outcome(self.retried), width)
        yield from self._advice(width)

    def _advice(self, width: int) -> Iterator[str]:
        orphaned = [
            each for each in self.surveys if any(file.waiting and not file.owned for file in each.files)
        ]
        if orphaned:
            yield ""
            yield from wrap(
                "The next process that records into the same spool delivers the events of dead processes. To "
                "deliver them now, pass the connection string of their database to:",
                width,
            )
        for each in orphaned:
            yield f"  {typed(f'usersync audit spool --drain --project {shlex.quote(each.directory.name)}')}"
        if self.left:
            yield ""
            yield from wrap(
                "Events are delivered only to the database that they were recorded for. If this is the right "
                "database for the events of that spool, add --confirm-project.",
                width,
            )
        if not any(each.quarantined for each in self.surveys):
            return
        if not self.with_quarantined:
            yield ""
            yield f"To see the quarantined events:  {typed('usersync audit spool --quarantined')}"
        elif self.retried is None:
            yield ""
            yield from wrap("After the reason is fixed:", width)
            yield f"  {typed('usersync audit spool --retry-quarantined')}"

    def data(self) -> dict[str, Any]:
        return {
            "directory": str(self.root),
            "waiting": sum(each.waiting for each in self.surveys),
            "quarantined": sum(each.quarantined for each in self.surveys),
            "drained": self.drained,
            "delivered": self.delivered,
            "error": self.error,
            "left": [
                {"file": path, "for": reason.removeprefix("for "), "events": waiting}
                for path, reason, waiting in self.left
            ],
            "unreadable": self.unreadable,
            "retried": self.retried,
            "spools": [_data(each) for each in self.surveys],
        }


def _outcome(retried: RetryResult) -> str:
    taken = retried.stored + retried.duplicates
    tried = taken + retried.rejected + retried.quarantined
    if not tried:
        return "This database's spool has no quarantined events. For another spool, use --project."
    notes = [f"{number(taken)} stored now"]
    notes += [f"{number(retried.rejected)} rejected (usersync audit rejects)"] if retried.rejected else []
    notes += [f"{number(retried.quarantined)} quarantined again"] if retried.quarantined else []
    return f"{count(tried, 'quarantined event')} retried: {', '.join(notes)}"


def _survey_lines(survey: SpoolSurvey, width: int, *, with_quarantined: bool) -> Iterator[str]:
    waiting = count(survey.waiting, "event")
    state = warning(f"{waiting} waiting") if survey.waiting else good("no events waiting")
    yield f"{bold(plain(survey.directory.name))}  {state}"
    if survey.files:
        heads = tuple(map(faint, ("process", "events", "oldest", "size", "")))
        yield from align([heads, *map(_row, survey.files)], indent="  ")
    if survey.problem is not None:
        yield from wrap(f"not read: {plain(survey.problem)}", width, first=f"  {bad('✗')} ")
    for path in survey.damaged:
        yield from wrap(f"damaged, quarantined: {path}", width, first=f"  {bad('✗')} ")
    if with_quarantined:
        for quarantined in (each for file in survey.files for each in file.quarantined):
            yield ""
            yield from _quarantined_lines(quarantined, width)


def _row(file: SpoolFile) -> tuple[str, str, str, str, str]:
    oldest = ago(datetime.now(UTC) - file.oldest_at) if file.oldest_at else ""
    state = good("alive") if file.owned else warning("gone")
    notes = [bad(f"{number(file.quarantined_events)} quarantined")] if file.quarantined_events else []
    notes += [faint(f"{number(file.kept)} delivered and kept")] if file.kept else []
    notes += [faint(f"for {plain(file.target)}")] if file.target and file.waiting and not file.owned else []
    notes += [bad(f"unreadable: {plain(file.problem)}")] if file.problem else []
    process = f"{file.pid or '?'} {state}"
    return process, number(file.waiting).rjust(6), oldest, size(file.size), "  ".join(notes)


def _quarantined_lines(quarantined: QuarantinedEvent, width: int) -> Iterator[str]:
    when = quarantined.recorded_at.strftime("%Y-%m-%d %H:%M:%S")
    action = plain(quarantined.event.get("action", "?"))
    yield f"  {faint(when)}  {action}  {faint(plain(quarantined.event.get('id', '')))}"
    yield from wrap(plain(quarantined.reason), width, first="    ")


def _data(survey: SpoolSurvey) -> dict[str, Any]:
    return {
        "name": survey.directory.name,
        "directory": survey.directory,
        "waiting": survey.waiting,
        "quarantined": survey.quarantined,
        "files": survey.files,
        "damaged": survey.damaged,
        "problem": survey.problem,
    }


@click.command(
    epilog=examples(
        ("usersync audit spool", "all spools of this machine"),
        ("usersync audit spool --drain", "delivers events of dead processes"),
        ("usersync audit spool --quarantined", "shows quarantined events"),
        ("usersync audit spool --retry-quarantined", "retries quarantined events"),
    )
)
@click.option(
    "--drain",
    is_flag=True,
    help="Deliver events of dead processes to this database, from its spool or from that of --project.",
)
@click.option(
    "--confirm-project",
    is_flag=True,
    help="With --drain: deliver the spool's events to this database even if they were recorded for another.",
)
@click.option(
    "--quarantined", "with_quarantined", is_flag=True, help="Show quarantined events with the reason."
)
@click.option("--retry-quarantined", is_flag=True, help="Retry the quarantined events of this database.")
@click.option(
    "--timeout",
    callback=as_period,
    default="60s",
    show_default=True,
    metavar="DURATION",
    help="Time-out of --drain.",
)
@spools_option
@click.option("--project", metavar="NAME", help="Only this spool: the argument 'project' of AuditLog.")
@common_options
def spool(
    call: Call,
    directory: Path | None,
    project: str | None,
    *,
    drain: bool,
    confirm_project: bool,
    with_quarantined: bool,
    retry_quarantined: bool,
    timeout: Period,
) -> View:
    """Show and deliver the spooled events of this machine.

    Each database has a spool, named after its host or the 'project' of AuditLog. Each recording process has a
    file in it. The file of a dead process is delivered by the next process, or by --drain. --drain delivers
    one spool, and files in other spools that were recorded for the same database. It leaves and lists events
    for another database, unless --confirm-project is given. Quarantined events are those that the database
    takes in no form; --retry-quarantined tries them again. Exit code 1 if there are quarantined events or
    damaged files, or if --drain could not deliver everything.
    """
    from usersync.audit.options import default_spool_dir  # noqa: PLC0415 - only if used

    if confirm_project and not drain:
        raise click.UsageError("--confirm-project requires --drain")
    root = directory or default_spool_dir()
    if project:
        _check_project(root, project)
    view = SpoolView(root, (), with_quarantined)
    if drain or retry_quarantined:
        with _log(call, root, project) as log:
            if drain:
                done = log.drain_all(timeout.rest.total_seconds(), confirmed=confirm_project)
                view = replace(view, drained=bool(done), **_outcome_of_drain(log.stats(), done))
            if retry_quarantined:
                view = replace(view, retried=log.retry_quarantined())
    return replace(view, surveys=_look(root, project))


def _outcome_of_drain(stats: AuditStats, done: DrainResult) -> dict[str, Any]:
    delivered = stats.stored + stats.duplicates + stats.rejected
    left = ((path, each.reason, each.waiting) for path, each in sorted(done.left.items()) if each.is_own)
    return {
        "delivered": delivered,
        "error": None if done.is_done else stats.last_error,
        "left": tuple(left),
        "unreadable": done.unreadable,
    }


def _look(root: Path, project: str | None) -> tuple[SpoolSurvey, ...]:
    from usersync.audit.options import directory_name  # noqa: PLC0415 - only if used
    from usersync.audit.spool.listing import survey_spool, survey_spools  # noqa: PLC0415 - only if used

    try:
        if project:
            return (survey_spool(root / directory_name(project)),)
        return tuple(survey_spools(root))
    except OSError as error:
        raise SettingsError(
            f"cannot read {root}: {error.strerror}", hint="Spools are private to the account that records."
        ) from error


def _check_project(root: Path, project: str) -> None:
    from usersync.audit.options import directory_name  # noqa: PLC0415 - only if used

    if not (root / directory_name(project)).is_dir():
        names = (
            ", ".join(sorted(each.name for each in root.iterdir() if each.is_dir())) if root.is_dir() else ""
        )
        raise SettingsError(
            f"--project: the spool {plain(project)} does not exist in {root}",
            hint=f"Spools: {names}." if names else "No process has recorded events in this directory.",
        )


def _log(call: Call, root: Path, project: str | None) -> AuditLog:
    """An audit log that delivers to the database. Raises if the database is unavailable."""
    from usersync.audit import AuditLog  # noqa: PLC0415 - a driver, which --help does not need

    _check_database(call)
    # This command reports an outage itself.
    logging.getLogger("usersync.audit").addHandler(logging.NullHandler())
    call.output.tell(f"Delivering to {call.target}")
    return AuditLog(call.source, spool_dir=root, project=project, keep_delivered=0)


def _check_database(call: Call) -> None:
    """Raise if the database cannot store events, instead of retrying until the time-out."""
    from usersync.transports import steps  # noqa: PLC0415 - only if used

    call.run(steps.call("record_audit_events", returns=steps.anything, events=[]))
