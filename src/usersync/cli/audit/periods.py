"""Parses durations and points in time in options."""

from __future__ import annotations

import re
from datetime import UTC, datetime

import click

from usersync.config.periods import Period, parse_period

_SHAPE = re.compile(r"[0-9]{4}-[0-9]{2}(-[0-9]{2}([T ][0-9:.,]+\s*(Z|[+-][0-9:]+)?)?)?", re.IGNORECASE)


def parse_moment(text: str, now: datetime) -> datetime:
    """Read a duration before now, or ISO 8601 (UTC if it has no zone). Raises ValueError."""
    stripped = text.strip()
    if re.match(r"[0-9]+\s*[A-Za-z]", stripped):
        return parse_period(stripped).before(now)
    if not _SHAPE.fullmatch(stripped):
        raise ValueError(
            f"{text!r} is not a point in time; expected a duration before now (2h, 3d) or a date, "
            "for example 2026-03-31 or 2026-03-31T18:30+02:00"
        )
    if len(stripped) == len("2026-03"):
        stripped += "-01"
    try:
        found = datetime.fromisoformat(stripped)
    except ValueError as error:
        raise ValueError(f"{text!r} is not a point in time: {error}") from None
    return found.astimezone(UTC) if found.tzinfo else found.replace(tzinfo=UTC)


def as_period(_: click.Context, __: click.Parameter, value: str | None) -> Period | None:
    """The callback of an option that takes a duration."""
    try:
        period = parse_period(value) if value is not None else None
        if period is not None:
            period.before(datetime.now(UTC))
    except (ValueError, OverflowError) as error:
        raise click.BadParameter(str(error)) from None
    return period


def as_moment(_: click.Context, __: click.Parameter, value: str | None) -> datetime | None:
    """The callback of an option that takes a point in time."""
    try:
        return parse_moment(value, datetime.now(UTC)) if value is not None else None
    except ValueError as error:
        raise click.BadParameter(str(error)) from None
    except OverflowError:
        raise click.BadParameter(f"{value!r} is before the year 1") from None
