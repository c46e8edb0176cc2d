from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from usersync.config.periods import parse_moment, parse_period

NOW = datetime(2026, 3, 31, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("90s", NOW - timedelta(seconds=90)),
        ("45min", NOW - timedelta(minutes=45)),
        ("2h", NOW - timedelta(hours=2)),
        (" 2 H ", NOW - timedelta(hours=2)),
        ("3d", NOW - timedelta(days=3)),
        ("2w", NOW - timedelta(days=14)),
        ("1mo", NOW.replace(month=2, day=28)),
        ("13mo", NOW.replace(year=2025, month=2, day=28)),
        ("2y", NOW.replace(year=2024)),
        ("2026-03-30", datetime(2026, 3, 30, tzinfo=UTC)),
        ("2026-03", datetime(2026, 3, 1, tzinfo=UTC)),
        ("2026-03-30T18:30", datetime(2026, 3, 30, 18, 30, tzinfo=UTC)),
        ("2026-03-30 18:30:01.5Z", datetime(2026, 3, 30, 18, 30, 1, 500_000, tzinfo=UTC)),
        ("2026-03-30T18:30+02:00", datetime(2026, 3, 30, 16, 30, tzinfo=UTC)),
    ],
)
def test_durations_dates_and_times_are_points_in_time(text, expected):
    assert parse_moment(text, NOW) == expected


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "not a point in time"),
        ("yesterday", "expected a duration before now (2h, 3d) or a date"),
        ("-2h", "not a point in time"),
        ("2026-02-30", "2026-02-30"),
        ("30.03.2026", "not a point in time"),
        ("2026-03-30T25:00", "not a point in time"),
        ("2x", "unknown unit 'x'; units: s, min, h, d, w, mo, y"),
        ("5m", "write 5min or 5mo"),
        ("0d", "must be longer than 0"),
        ("2", "not a point in time"),
        ("2h3m", "not a duration"),
    ],
)
def test_an_invalid_point_in_time_is_refused(text, words):
    with pytest.raises(ValueError) as refused:
        parse_moment(text, NOW)
    assert words in str(refused.value)


def test_a_point_in_time_before_the_year_1_is_refused():
    with pytest.raises(OverflowError):
        parse_period("9999y").before(NOW)
    with pytest.raises(OverflowError):
        parse_period("999999d").before(NOW)
