"""``usersync audit prune``: deletes old events."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import click

from usersync.cli.audit.periods import as_period
from usersync.cli.options import Call, common_options, examples
from usersync.cli.text import align, bad, bold, count, faint, good, number, plain, size, warning
from usersync.core.clocks import compare_clocks
from usersync.errors import ConflictError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

    from usersync.audit.models import PrunedPart, PruneResult
    from usersync.cli.output import View
    from usersync.config.periods import Period


#: From this difference on, the command prints both clocks; from the second one on, it deletes nothing.
_CLOCKS_AGREE, _CLOCKS_DISAGREE = timedelta(minutes=1), timedelta(days=1)


@dataclass(frozen=True)
class PruneView:
    """The events that would be deleted or were deleted."""

    result: PruneResult
    target: str
    #: Whether the settings say how long each action is kept.
    by_action: bool = False
    exit_code: int = 0

    def lines(self, width: int) -> Iterator[str]:  # noqa: ARG002 - no long lines
        result = self.result
        age = self.age
        if not result.rows:
            yield f"{bold(self.target)}  {good(f'nothing {age}')}"
        elif not result.dry_run:
            yield f"{good('Done:')} {self._what()} dropped."
        else:
            yield f"{bold(self.target)}  what {age}"
            yield ""
            yield from align(self._rows(), indent="  ")
            yield ""
            yield f"Together {self._what()}."
        if result.held:
            yield f"{warning('kept:')} {count(result.held, 'older event')} under a legal hold:"
            for hold in result.holds:
                yield f"  {hold.hold_id}  {plain(hold.subject)}  {plain(hold.reason)}"

    @property
    def age(self) -> str:
        if self.by_action:
            return "is older than [audit.retention] allows"
        return f"is older than {self.result.before:%Y-%m-%d}"

    def _rows(self) -> Iterator[tuple[str, str, str]]:
        yield faint("partition"), faint("      events"), faint("    size")
        for part in self.result.parts:
            if not part.rows and not part.dropped:
                continue
            room = size(part.bytes).rjust(8) if part.dropped else faint("rows only")
            yield plain(part.name), number(part.rows).rjust(12), room

    def _what(self) -> str:
        result = self.result
        room = sum(part.bytes for part in result.parts)
        return f"{count(result.rows, 'event')}{f', {size(room)}' if room else ''}"

    def data(self) -> dict[str, Any]:
        result = self.result
        return {
            "database": self.target,
            "before": result.before,
            "dry_run": result.dry_run,
            "events": result.rows,
            "parts": result.parts,
            "held": result.held,
            "holds": result.holds,
        }


@click.command(
    epilog=examples(
        ("usersync audit prune --dry-run", "as [audit.retention] says"),
        ("usersync audit prune --keep 13mo", "asks, then deletes"),
        ("usersync audit prune --keep 400d --yes", "for a scheduled job"),
    )
)
@click.option(
    "--keep",
    callback=as_period,
    metavar="DURATION",
    help="Keep events of this duration: 13mo, 400d, 2y. Default: [audit.retention] of the settings.",
)
@click.option("--dry-run", is_flag=True, help="Show what would be deleted, and delete nothing.")
@click.option("--yes", is_flag=True, help="Do not ask. Required without a terminal.")
@common_options
def prune(call: Call, keep: Period | None, dry_run: bool, yes: bool) -> View:
    """Delete audit events and rejected events that are older than the retention.

    The retention is --keep or, by action, [audit.retention] of the settings. Events under a legal hold stay
    ('usersync audit hold'). The age is measured by the database server's clock, from the time of recording if
    that is later than the event. A monthly partition is dropped when all its events are older; from other
    partitions, events are deleted in batches. Each partition is one transaction.
    """
    from usersync.audit import upkeep  # noqa: PLC0415 - only if used

    now = _server_time(call)
    rules = keep.before(now) if keep else call.run(upkeep.retention())
    if rules is None:
        raise click.UsageError(
            "there is no retention: add --keep, or set [audit.retention] and run usersync apply"
        )
    view = PruneView(call.run(upkeep.prune(rules, dry_run=True)), call.target, by_action=keep is None)
    if dry_run:
        return view
    if not view.result.rows:
        return replace(view, result=replace(view.result, dry_run=False))
    call.require_consent(yes=yes)
    call.output.say(*view.lines(call.output.width), "")
    if not yes:
        call.ask(f"Delete {bad('permanently')} what {view.age}?")
    operation = upkeep.prune(rules, on_part=lambda part: _tell(call, part))
    pruned = call.run(operation)
    call.record_act("usersync.log_pruned", **pruned.describe())
    return PruneView(pruned, call.target, by_action=keep is None)


def _server_time(call: Call) -> datetime:
    """The database server's time. Raises ``ConflictError`` if this machine's clock differs by a day."""
    clocks = call.run(compare_clocks())
    if clocks.apart < _CLOCKS_AGREE:
        return clocks.server
    shown = (f"{each:%Y-%m-%d %H:%M %Z}" for each in (clocks.server, clocks.after))
    clock_text = "the database server's clock says {}, this machine's {}".format(*shown)
    if clocks.apart < _CLOCKS_DISAGREE:
        call.output.warn(f"{clock_text}. The server's clock decides which events are old.")
        return clocks.server
    raise ConflictError(
        f"nothing was deleted: {clock_text}",
        hint="Correct the clock that is wrong, then run this command again.",
    )


def _tell(call: Call, part: PrunedPart) -> None:
    if not part.rows and not part.dropped:
        return
    done = "dropped" if part.dropped else f"{count(part.rows, 'event')} deleted from"
    call.output.tell(f"{faint(done)} {plain(part.name)}")
