"""Counts rows by day with a bound, for charts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from usersync.transports.steps import query, query_row

if TYPE_CHECKING:
    from datetime import date

    from usersync.config.settings import Settings
    from usersync.transports.steps import Steps


@dataclass(frozen=True)
class DayCount:
    """The number of rows of a day (UTC), or the largest number that is counted."""

    day: date
    number: int
    #: Whether the day has this number of rows or more.
    is_bound: bool


def counts_by_day(
    table: str, time: str, *, days: int, most: int, condition: str = "true"
) -> Steps[tuple[DayCount, ...]]:
    """Count the rows of each of the last days, including today, and at most ``most`` of each.

    ``table`` is a FROM item, ``time`` and ``condition`` are expressions over it. With an index on the time,
    it reads at most ``days * most`` entries.
    """
    rows = yield from query(
        "select day::date as day, (select count(*) from (select "
        f"from {table} where {time} >= (day at time zone 'UTC') "
        f"and {time} < ((day + interval '1 day') at time zone 'UTC') and {condition} "
        "limit %(most)s) as found) as number "
        "from (select date_trunc('day', now() at time zone 'UTC') as today) as this, "
        "generate_series(today - make_interval(days => %(days)s - 1), today, interval '1 day') as day "
        "order by 1",
        days=days,
        most=most,
    )
    return tuple(DayCount(row["day"], row["number"], row["number"] >= most) for row in rows)


def sign_ups_by_day(settings: Settings, *, days: int, most: int) -> Steps[tuple[DayCount, ...] | None]:
    """Count the users of the auth server by the day of their sign-up. None if that needs a scan of the
    table, because there is no index on ``created_at``.
    """
    table = settings.source_table.quoted
    found = yield from query_row(
        "select exists (select from pg_index join pg_attribute on attrelid = indrelid and attnum = indkey[0] "
        "where indrelid = to_regclass(%(table)s) and attname = 'created_at' and indisvalid "
        "and indpred is null) as indexed",
        table=table,
    )
    if not found["indexed"]:
        return None
    named = table.replace("%", "%%")
    return (yield from counts_by_day(named, '"created_at"', days=days, most=most))
