"""Counts the events of a search by time, for a chart. The counts and the time are limited."""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from usersync.audit.reading import conditions_of, reading_of_log
from usersync.core.paging import QUERY_CANCELED
from usersync.errors import DatabaseError
from usersync.transports.steps import in_transaction, query

if TYPE_CHECKING:
    from collections.abc import Iterator

    from usersync.audit.models import EventFilter
    from usersync.transports.steps import Steps

#: The largest number of bars, and how many of them a statement counts.
MOST_BARS = 60
_AT_A_TIME = 15
#: The widths of a bar.
_WIDTHS_S = (
    *(1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1_800),
    *(3_600 * hours for hours in (1, 2, 3, 6, 12, 24, 48, 168, 720, 2_160, 8_760)),
)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Bar:
    """The number of events in a period: ``since`` is inclusive, ``until`` exclusive."""

    since: datetime
    until: datetime
    number: int
    #: Whether counting stopped at ``number``, so there may be more events.
    is_bound: bool


@dataclass(frozen=True)
class Histogram:
    """The bars between two times, the oldest first."""

    since: datetime
    until: datetime
    bars: tuple[Bar, ...]
    #: Whether the time limit ended before all bars were counted. Then the oldest bars are missing.
    is_cut: bool

    @property
    def highest(self) -> int:
        """The number of events of the highest bar."""
        return max((bar.number for bar in self.bars), default=0)


def histogram(
    wanted: EventFilter, *, since: datetime, until: datetime, most: int, limit_s: float
) -> Steps[Histogram]:
    """Count the events that match a filter between two times: at most ``most`` for each bar, by index.

    It counts from the newest bar to the oldest, in a transaction of its own, for at most ``limit_s`` seconds.
    """
    return (yield from in_transaction(_count(wanted, since, until, most, limit_s)))


def _count(
    wanted: EventFilter, since: datetime, until: datetime, most: int, limit_s: float
) -> Steps[Histogram]:
    # If a bar has most rows of a month, the planner would estimate a scan of the month as cheaper.
    yield from query("set transaction read only; set local enable_seqscan = off")
    reading = yield from reading_of_log()
    conditions = yield from conditions_of(wanted)
    statement = (
        "select (select count(*) from (select "
        f"from {reading.table} as stored where {reading.time} >= bar.since "
        f"and {reading.time} < bar.until and {conditions} limit %(most)s) as found) as number "
        "from unnest(%(since)s::timestamptz[], %(until)s::timestamptz[]) with ordinality "
        "as bar (since, until, place) order by place"
    )
    parts = list(_parts(since, until))[::-1]
    found: list[Bar] = []
    ends = time.monotonic() + limit_s
    for start in range(0, len(parts), _AT_A_TIME):
        rest_ms = round((ends - time.monotonic()) * 1_000)
        if rest_ms <= 0:
            break
        some = parts[start : start + _AT_A_TIME]
        try:
            yield from query(f"set local statement_timeout = {rest_ms}")
            rows = yield from query(
                statement, most=most, since=[each[0] for each in some], until=[each[1] for each in some]
            )
        except DatabaseError as error:
            if error.sqlstate != QUERY_CANCELED:
                raise
            break
        numbers = [row["number"] for row in rows]
        found += [Bar(*each, number, number >= most) for each, number in zip(some, numbers, strict=True)]
    return Histogram(since, until, tuple(reversed(found)), is_cut=len(found) < len(parts))


def _parts(since: datetime, until: datetime) -> Iterator[tuple[datetime, datetime]]:
    """The times of the bars. All but the first and the last begin and end at round times."""
    seconds = (until - since).total_seconds()
    width = next((each for each in _WIDTHS_S if each * (MOST_BARS - 1) >= seconds), None)
    step = timedelta(seconds=width or seconds // (MOST_BARS - 1) + 1)
    start = since
    # A number of steps and not a time, because a datetime has no year before 1 or after 9999.
    number = (since - _EPOCH) // step + 1
    while start < until:
        rest = until - start
        to_next = _EPOCH - start + number * step
        end = until if to_next >= rest else start + to_next
        yield start, end
        start, number = end, number + 1
