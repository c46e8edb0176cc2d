"""Draws bars and sparklines with block characters."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

_EIGHTHS = " ▏▎▍▌▋▊▉█"
_HEIGHTS = "▁▂▃▄▅▆▇█"


def bar(share: float, width: int) -> str:
    """A bar that fills a share of the width, to an eighth of a character. A share above 0 is visible."""
    eighths = max(round(share * width * 8), 1 if share > 0 else 0)
    whole, rest = divmod(eighths, 8)
    return "█" * whole + (_EIGHTHS[rest] if rest else "")


def sparkline(values: Sequence[int], width: int) -> str:
    """The values as a row of bars. 0 is blank. Neighbours are summed if the row is too short."""
    if len(values) > width:
        edges = [round(each * len(values) / width) for each in range(width + 1)]
        values = [sum(values[first:last]) for first, last in pairwise(edges)]
    most = max(values, default=0)
    return "".join(_height(value / most) if value else " " for value in values)


def _height(share: float) -> str:
    return _HEIGHTS[min(int(share * len(_HEIGHTS)), len(_HEIGHTS) - 1)]
