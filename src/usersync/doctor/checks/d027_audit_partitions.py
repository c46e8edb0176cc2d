"""Whether this month and the next have a partition, and the default partition is small."""

from __future__ import annotations

from typing import TYPE_CHECKING

from usersync.doctor.context import Context, Definition, Verdict, lines, number
from usersync.models import Finding
from usersync.transports.steps import query, query_row

if TYPE_CHECKING:
    from collections.abc import Iterator

    from usersync.transports.steps import Row, Steps

#: Creating a partition reads the default partition, while recording waits.
_MANY = 100_000

#: As many events are moved from the default partition to a new one automatically.
_FEW = 10_000

_PAUSE = "-- Run it at a quiet hour: recording and writes of users wait while the partition is created."

_MONTHS = """
    select
        to_char(month, 'YYYY-MM') as month,
        month::date::text as day,
        made.name is not null as exists,
        format(
            'alter table %%s attach partition %%s for values from (%%L) to (%%L);',
            to_regclass(%(table)s), made.name,
            month at time zone 'UTC', (month + interval '1 month') at time zone 'UTC'
        ) as attach
    from generate_series(
        date_trunc('month', now() at time zone 'UTC'), now() at time zone 'UTC' + interval '1 month',
        interval '1 month'
    ) as month
    cross join to_regclass('usersync.audit_logs_' || to_char(month, 'YYYY_MM')) as made (name)
    where not exists (
        select from pg_inherits where inhrelid = made.name and inhparent = to_regclass(%(table)s)
    )
    order by month
"""

_SIZE = "select count(*) as rows from (select from usersync.audit_logs_default limit %(limit)s) as few"

_FULL_MONTHS = """
    select date_trunc('month', occurred_at at time zone 'UTC')::date::text as day, count(*) as rows
    from usersync.audit_logs_default
    group by 1 having count(*) > %(few)s order by count(*) desc limit 12
"""


_NO_DEFAULT = Finding(
    "D027",
    "table usersync.audit_logs_default",
    "the default partition is missing: events of a month without a partition wait in the spool",
    "usersync apply",
    safe=True,
)


def look(context: Context) -> Steps[Verdict]:
    table = context.own_audit_table().quoted
    if not context.inspection.catalog["audit_table_has_default"]:
        return Verdict("", (*context.found("D027"), _NO_DEFAULT))
    months = yield from query(_MONTHS, table=table)
    rows = (yield from query_row(_SIZE, limit=_MANY + 1))["rows"]
    full = (yield from query(_FULL_MONTHS, few=_FEW)) if rows > _FEW else []
    return Verdict(
        f"this month and the next have one, {number(rows, 'event')} in the default partition",
        (*_missing(months, full), *_filling(rows, full)),
    )


def _missing(months: list[Row], full: list[Row]) -> Iterator[Finding]:
    for row in months:
        if row["exists"]:
            yield Finding(
                "D027",
                f"partition {row['month']}",
                f"the partition of {row['month']} is not attached: its events are not in the log",
                row["attach"],
            )
        else:
            is_large = any(each["day"] == row["day"] for each in full)
            yield Finding(
                "D027",
                f"partition {row['month']}",
                f"{row['month']} has no partition: its events go to the default partition, where prune "
                "deletes them row by row",
                lines([_PAUSE, _move(row["day"])])
                if is_large
                else "select usersync.make_audit_partitions();",
                "warning",
                safe=not is_large,
            )


def _filling(rows: int, full: list[Row]) -> Iterator[Finding]:
    if rows > _MANY:
        yield Finding(
            "D027",
            "table usersync.audit_logs_default",
            f"more than {_MANY:,} events are in the default partition: creating another one reads them all, "
            "while recording waits",
            lines(
                [
                    "-- To delete old events: usersync audit prune --keep 13mo",
                    _PAUSE,
                    *(_move(each["day"]) for each in full),
                ]
            ),
            "warning",
        )


def _move(day: str) -> str:
    return f"select usersync.make_audit_partition('{day}', most => null);"


CHECK = Definition("D027", "Partitions of the audit log", look)
