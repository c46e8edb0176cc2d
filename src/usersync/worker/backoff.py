"""When a failed event is tried again."""

from __future__ import annotations

import random
from collections.abc import Callable

#: From the number of failed attempts to the seconds until the next one.
Backoff = Callable[[int], float]

FIRST_S, FACTOR, LONGEST_S = 5.0, 3.0, 6 * 3600.0


def backoff(attempts: int) -> float:
    """5 s, 15 s, 45 s, 2 min, 7 min, 20 min, 1 h, 3 h, then every 6 h, each up to a quarter more or less."""
    usual = min(FIRST_S * FACTOR ** min(attempts - 1, 20), LONGEST_S)
    return usual * random.uniform(0.75, 1.25)  # noqa: S311 - spreads attempts, nothing secret
