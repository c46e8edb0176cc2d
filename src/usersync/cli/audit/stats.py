"""``usersync audit stats``: counts events by day and action."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Any

import click

from usersync.cli.audit.charts import bar, sparkline
from usersync.cli.options import Call, common_options, examples
from usersync.cli.output import on_terminal
from usersync.cli.text import align, bad, bold, clip, count, faint, number

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from usersync.audit.models import DailyCount
    from usersync.cli.output import View

_LONGEST = 3_660
_MOST_ACTIONS = 20


@dataclass(frozen=True)
class StatsView:
    """A bar for each day and a sparkline for each action. Without a terminal, a plain table."""

    counts: tuple[DailyCount, ...]
    days: tuple[date, ...]
    target: str
    drawn: bool
    exit_code: int = 0

    def lines(self, width: int) -> Iterator[str]:
        if not self.drawn:
            yield from align(self._table(width))
            return
        total = sum(each.events for each in self.counts)
        yield f"{bold(self.target)}  {count(total, 'event')} in {count(len(self.days), 'day')}"
        if total:
            yield ""
            yield from self._day_lines(width)
            yield ""
            yield from align(self._action_rows(width), indent="  ")

    def _table(self, width: int) -> Iterator[tuple[str, ...]]:
        room = max(width - len("2026-03-31  ") - len("  1,234,567  unsuccessful"), 12)
        yield ("day", "action", "events", "unsuccessful")
        for each in self.counts:
            yield (
                each.day.isoformat(),
                clip(each.action or "?", room),
                str(each.events),
                str(each.unsuccessful),
            )

    def _day_lines(self, width: int) -> Iterator[str]:
        by_day = self._by_day(self.counts)
        most = max(by_day)
        room = max(width - 26, 10)
        for day, events in zip(self.days, by_day, strict=True):
            yield f"  {day.isoformat()}  {number(events).rjust(9)}  {bar(events / most, room)}".rstrip()

    def _by_day(self, counts: Iterable[DailyCount]) -> list[int]:
        found = Counter[date]()
        for each in counts:
            found[each.day] += each.events
        return [found[day] for day in self.days]

    def _action_rows(self, width: int) -> Iterator[tuple[str, ...]]:
        totals = Counter[str | None]()
        for each in self.counts:
            totals[each.action] += each.events
        shown = totals.most_common(_MOST_ACTIONS)
        for action, total in shown:
            own = [each for each in self.counts if each.action == action]
            chart = sparkline(self._by_day(own), max(width - 66, 12))
            yield clip(action or "?", 28), number(total).rjust(9), chart, _unsuccessful(own)
        if len(totals) > len(shown):
            rest = sum(totals.values()) - sum(total for _, total in shown)
            yield faint(f"{len(totals) - len(shown)} more"), number(rest).rjust(9), "", ""

    def data(self) -> dict[str, Any]:
        counts = [asdict(each) | {"day": each.day.isoformat()} for each in self.counts]
        return {"database": self.target, "since": self.days[0].isoformat(), "counts": counts}


def _unsuccessful(counts: Iterable[DailyCount]) -> str:
    found = sum(each.unsuccessful for each in counts)
    return bad(f"{number(found)} unsuccessful") if found else ""


@click.command(
    epilog=examples(
        ("usersync audit stats", "the last 14 days"),
        ("usersync audit stats --days 90", "the last 90 days"),
    )
)
@click.option(
    "--days",
    type=click.IntRange(1, _LONGEST),
    default=14,
    metavar="N",
    help="Number of days up to today, in UTC (14).",
)
@common_options
def stats(call: Call, days: int) -> View:
    """Count events by day and action.

    Draws bars on a terminal. Otherwise prints a table with a line for each day and action.
    """
    from usersync.audit import reading  # noqa: PLC0415 - only if used

    today = datetime.now(UTC).date()
    shown = tuple(today - timedelta(days=each) for each in reversed(range(days)))
    found = call.run(reading.stats(days))
    # An event from a clock that is ahead may have a later day, which is not shown.
    return StatsView(
        tuple(each for each in found if each.day in set(shown)), shown, call.target, on_terminal()
    )
