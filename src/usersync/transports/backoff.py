"""How long to wait before another attempt."""

from __future__ import annotations

import random


def wait_before(attempt: int, first_s: float, longest_s: float) -> float:
    """The seconds before the attempts 1, 2, 3 and so on: twice as long each time, up to ``longest_s``.

    A random part of up to a half is missing, so that clients do not retry together.
    """
    longest = min(longest_s, first_s * 2.0 ** min(attempt - 1, 20))
    return longest * random.uniform(0.5, 1)  # noqa: S311 - not for security
