"""Draws the figures of growth.json as SVG: one panel for each figure, with usersync and its limit."""

from __future__ import annotations

import math
from collections import defaultdict
from html import escape
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

WIDTH, HEIGHT, COLUMNS = 270, 190, 3
LEFT, RIGHT, TOP, BOTTOM = 46, 12, 40, 30
OURS, LIMIT = "#0b6e4f", "#9a9a9a"

Point = tuple[int, float]


def chart(document: Mapping[str, Any]) -> str:
    """The complete picture. Panels with a limit show it in grey."""
    panels = _panels(document["points"])
    rows = math.ceil(len(panels) / COLUMNS)
    width, height = COLUMNS * WIDTH, rows * HEIGHT + 24
    body = "\n".join(
        f'<g transform="translate({place % COLUMNS * WIDTH} {place // COLUMNS * HEIGHT + 24})">\n'
        + "\n".join(_panel(name, unit, lines))
        + "\n</g>"
        for place, (name, (unit, lines)) in enumerate(panels.items())
    )
    key = (
        f'<circle cx="16" cy="14" r="4" fill="{OURS}"/><text x="26" y="18">usersync</text>'
        f'<circle cx="106" cy="14" r="4" fill="{LIMIT}"/><text x="116" y="18">'
        "the limit: one bare statement; of a sign-up, the hand-written trigger</text>"
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" '
        f'height="{height}" font-family="sans-serif" font-size="11" fill="#333" role="img" '
        'aria-label="Time for each user or event, and memory, by the number of users">\n'
        f'<rect width="{width}" height="{height}" fill="#fff"/>\n{key}\n{body}\n</svg>\n'
    )


def _panels(points: Sequence[Mapping[str, Any]]) -> dict[str, tuple[str, dict[str, list[Point]]]]:
    """For each series its unit, and the points of usersync and of the limit."""
    panels: dict[str, tuple[str, dict[str, list[Point]]]] = {}
    for point in points:
        name, _, other = point["series"].partition(": the limit")
        is_limit = ": the limit" in point["series"]
        _, lines = panels.setdefault(name + other, (point["unit"], defaultdict(list)))
        lines[LIMIT if is_limit else OURS].append((point["size"], point["value"]))
    return panels


def _panel(name: str, unit: str, lines: Mapping[str, list[Point]]) -> Iterator[str]:
    sizes = sorted({size for points in lines.values() for size, _ in points})
    top = _round_up(max(value for points in lines.values() for _, value in points))
    right, bottom = WIDTH - RIGHT, HEIGHT - BOTTOM
    span = math.log10(sizes[-1] / sizes[0]) or 1.0

    def x(size: int) -> float:
        return LEFT + (right - LEFT) * math.log10(size / sizes[0]) / span

    def y(value: float) -> float:
        return bottom - (bottom - TOP) * value / top

    yield f'<text x="{LEFT}" y="18" font-weight="bold">{escape(name)}</text>'
    yield f'<text x="{LEFT}" y="32" fill="#666">{escape(unit)}</text>'
    for value in (0.0, top / 2, top):
        yield (
            f'<path d="M{LEFT} {y(value):.1f}H{right}" stroke="#e4e4e4"/>'
            f'<text x="{LEFT - 6}" y="{y(value) + 4:.1f}" text-anchor="end">{value:g}</text>'
        )
    for size in sizes:
        yield f'<text x="{x(size):.1f}" y="{bottom + 18}" text-anchor="middle">{_size(size)}</text>'
    for colour in (LIMIT, OURS):
        points = sorted(lines.get(colour, []))
        if not points:
            continue
        path = " L".join(f"{x(size):.1f} {y(value):.1f}" for size, value in points)
        yield f'<path d="M{path}" fill="none" stroke="{colour}" stroke-width="2"/>'
        for size, value in points:
            yield (
                f'<circle cx="{x(size):.1f}" cy="{y(value):.1f}" r="3" fill="{colour}">'
                f"<title>{size:,}: {value:g} {escape(unit)}</title></circle>"
            )


def _round_up(value: float) -> float:
    """The next of 1, 2, 5, 10, 20 … that is not smaller."""
    power = 10 ** math.floor(math.log10(value)) if value > 0 else 1
    return next(step * power for step in (1, 2, 5, 10) if step * power >= value)


def _size(size: int) -> str:
    for unit, letter in ((1_000_000, " M"), (1_000, " k")):
        if size >= unit:
            return f"{size / unit:g}{letter}"
    return str(size)
