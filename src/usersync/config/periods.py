"""Durations, as in ``13mo`` and ``90d``, and points in time."""

from __future__ import annotations

import calendar
import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

_UNITS = {
    "s": timedelta(seconds=1),
    "min": timedelta(minutes=1),
    "h": timedelta(hours=1),
    "d": timedelta(days=1),
    "w": timedelta(weeks=1),
}
_MONTHS = {"mo": 1, "y": 12}
_MONTHS_A_YEAR = 12

_PERIOD = re.compile(r"(?P<number>[0-9]{1,12})\s*(?P<unit>[a-z]+)", re.IGNORECASE)
_KNOWN = ", ".join([*_UNITS, *_MONTHS])


@dataclass(frozen=True)
class Period:
    """A duration. Months are calendar months. ``text`` is the user's input."""

    text: str
    months: int = 0
    rest: timedelta = timedelta()

    def before(self, moment: datetime) -> datetime:
        """The point in time this long before ``moment``. Raises OverflowError before the year 1."""
        index = moment.year * _MONTHS_A_YEAR + moment.month - 1 - self.months
        year, month = divmod(index, _MONTHS_A_YEAR)
        if year < 1:
            raise OverflowError(f"{self.text} before {moment.year} is before the year 1")
        day = min(moment.day, calendar.monthrange(year, month + 1)[1])
        return moment.replace(year=year, month=month + 1, day=day) - self.rest


def parse_period(text: str) -> Period:
    """Read ``90min``, ``2h``, ``3d``, ``13mo``. Raises ValueError with the expected format."""
    match = _PERIOD.fullmatch(text.strip())
    if match is None:
        raise ValueError(
            f"{text!r} is not a duration; expected a number and one of {_KNOWN}, for example 2h or 13mo"
        )
    number, unit = int(match["number"]), match["unit"].lower()
    if unit == "m":
        raise ValueError(f"{text!r} is ambiguous; write {number}min or {number}mo")
    if number == 0:
        raise ValueError(f"{text!r} is not allowed; the duration must be longer than 0")
    if unit in _UNITS:
        try:
            return Period(text, rest=_UNITS[unit] * number)
        except OverflowError:
            raise ValueError(f"{text!r} is too long") from None
    if unit in _MONTHS:
        return Period(text, months=_MONTHS[unit] * number)
    raise ValueError(f"{text!r}: unknown unit {unit!r}; units: {_KNOWN}")


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


def iso(moment: datetime) -> str:
    """A time in UTC as ``parse_moment`` reads it: to the second, or to the microsecond if it has any."""
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")
