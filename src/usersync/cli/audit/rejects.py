"""``usersync audit rejects``: lists and retries rejected events."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import click

from usersync.cli.audit.event_view import moment, short
from usersync.cli.options import Call, common_options, examples
from usersync.cli.text import bad, bold, clip, count, faint, good, plain, typed, wrap

if TYPE_CHECKING:
    from collections.abc import Iterator

    from usersync.audit.models import RecordResult, RejectedEvent
    from usersync.cli.output import View

_MOST = 10_000


@dataclass(frozen=True)
class RejectsView:
    """Each rejected event with its reason, or the result of a retry."""

    rejects: tuple[RejectedEvent, ...]
    target: str
    more: bool = False
    retried: RecordResult | None = None

    @property
    def exit_code(self) -> int:
        return 1 if self.rejects else 0

    def lines(self, width: int) -> Iterator[str]:
        if self.retried is not None:
            stored = self.retried.stored + self.retried.duplicates
            tried = count(stored + self.retried.rejected, "event")
            yield f"{bold(self.target)}  {tried} retried, {good(count(stored, 'event'))} stored now"
        elif not self.rejects:
            yield f"{bold(self.target)}  {good('nothing was rejected')}"
        if not self.rejects:
            return
        yield f"{bold(self.target)}  {bad(count(len(self.rejects), 'event'))} rejected" + (
            ", and more" if self.more else ""
        )
        for reject in self.rejects:
            yield ""
            yield from _reject_lines(reject, width)
        if self.retried is None:
            yield ""
            yield from wrap("After the reason is fixed:", width)
            yield f"  {typed('usersync audit rejects --retry')}"
            yield from wrap("To delete an event instead, as SQL:", width)
            number = self.rejects[0].reject_id
            yield f"  {typed(f'delete from usersync.audit_rejects where reject_id = {number};')}"

    def data(self) -> dict[str, Any]:
        return {
            "database": self.target,
            "rejects": self.rejects,
            "more": self.more,
            "retried": self.retried,
        }


def _reject_lines(reject: RejectedEvent, width: int) -> Iterator[str]:
    event = reject.event if isinstance(reject.event, dict) else {}
    action = clip(event.get("action") or "?", 40)
    head = f"{faint(moment(reject.rejected_at))}  {action}  {bad(plain(reject.sqlstate))}"
    yield f"{head}  {faint(f'number {reject.reject_id}')}"
    yield from wrap(clip(reject.reason, 500), width, first="  ")
    yield f"  {faint(short(reject.event, width - 2))}"


@click.command(
    epilog=examples(
        ("usersync audit rejects", "each rejected event with the reason"),
        ("usersync audit rejects --retry", "retries all of them"),
    )
)
@click.option(
    "--retry",
    is_flag=True,
    help="Retry all rejected events. Events that are still invalid are rejected again.",
)
@click.option(
    "--limit",
    type=click.IntRange(1, _MOST),
    default=20,
    metavar="N",
    help="Maximum number of events to show, the oldest first (20).",
)
@common_options
def rejects(call: Call, retry: bool, limit: int) -> View:
    """Show and retry rejected events.

    The database rejected these events and keeps them in usersync.audit_rejects, with the reason. They can be
    fixed there. Exit code 1 if there are any.
    """
    from usersync.audit import upkeep  # noqa: PLC0415 - only if used

    retried = call.run(upkeep.retry_rejects()) if retry else None
    if retried is not None and any(asdict(retried).values()):
        call.record_act("usersync.rejects_retried", **asdict(retried))
    found = call.run(upkeep.rejects(limit=limit + 1))
    return RejectsView(tuple(found[:limit]), call.target, len(found) > limit, retried)
