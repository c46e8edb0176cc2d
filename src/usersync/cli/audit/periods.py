"""Parses durations and points in time in options."""

from __future__ import annotations

from datetime import UTC, datetime

import click

from usersync.config.periods import Period, parse_moment, parse_period


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
