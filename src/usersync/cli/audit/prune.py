"""``usersync audit prune``: deletes old events."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import click

from usersync.cli.audit.periods import as_period
from usersync.cli.options import Call, common_options, examples
from usersync.cli.text import align, bad, bold, count, faint, good, number, plain, size
from usersync.core.clocks import compare_clocks
from usersync.errors import ConflictError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

    from usersync.audit.models import PrunedPart, PruneResult
    from usersync.cli.audit.periods import Period
    from usersync.cli.output import View


#: From this difference on, the command prints both clocks; from the second one on, it deletes nothing.
_CLOCKS_AGREE, _CLOCKS_DISAGREE = timedelta(minutes=1), timedelta(days=1)


@dataclass(frozen=True)
class PruneView:
    """The events that would be deleted or were deleted."""

    result: PruneResult
    target: str
    exit_code: int = 0

    def lines(self, width: int) -> Iterator[str]:  # noqa: ARG002 - no long lines
        result = self.result
        before = f"{result.before:%Y-%m-%d}"
        if not result.parts:
            yield f"{bold(self.target)}  {good(f'nothing is older than {before}')}"
        elif not result.dry_run:
            yield f"{good('Done:')} {self._what()} dropped."
        else:
            yield f"{bold(self.target)}  what is older than {before}"
            yield ""
            yield from align(self._rows(), indent="  ")
            yield ""
            yield f"Together {self._what()}."

    def _rows(self) -> Iterator[tuple[str, str, str]]:
        yield faint("partition"), faint("      events"), faint("    size")
        for part in self.result.parts:
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
        }


@click.command(
    epilog=examples(
        ("usersync audit prune --keep 13mo --dry-run", "shows what would be deleted"),
        ("usersync audit prune --keep 13mo", "asks, then deletes"),
        ("usersync audit prune --keep 400d --yes", "for a scheduled job"),
    )
)
@click.option(
    "--keep",
    callback=as_period,
    required=True,
    metavar="DURATION",
    help="Keep events of this duration: 13mo, 400d, 2y.",
)
@click.option("--dry-run", is_flag=True, help="Show what would be deleted, and delete nothing.")
@click.option("--yes", is_flag=True, help="Do not ask. Required without a terminal.")
@common_options
def prune(call: Call, keep: Period, dry_run: bool, yes: bool) -> View:
    """Delete audit events and rejected events that are older than --keep.

    The age is measured by the database server's clock, from the time of recording if that is later than the
    event. A monthly partition is dropped when all its events are older; events in the default partition are
    deleted one by one. Each partition is one transaction.
    """
    from usersync.audit import upkeep  # noqa: PLC0415 - only if used

    before = keep.before(_server_time(call))
    view = PruneView(call.run(upkeep.prune(before, dry_run=True)), call.target)
    if dry_run:
        return view
    if not view.result.parts:
        return replace(view, result=replace(view.result, dry_run=False))
    call.require_consent(yes=yes)
    call.output.say(*view.lines(call.output.width), "")
    if not yes:
        call.ask(f"Delete {bad('permanently')} what is older than {view.result.before:%Y-%m-%d}?")
    operation = upkeep.prune(view.result.before, on_part=lambda part: _tell(call, part))
    pruned = PruneView(call.run(operation), call.target)
    parts = pruned.result.parts
    call.record_act(
        "usersync.log_pruned",
        before=view.result.before.isoformat(),
        events=sum(part.rows for part in parts),
        partitions=[part.name for part in parts if part.dropped],
    )
    return pruned


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
    done = "dropped" if part.dropped else f"{count(part.rows, 'event')} deleted from"
    call.output.tell(f"{faint(done)} {plain(part.name)}")
