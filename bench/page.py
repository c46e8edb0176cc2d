"""Inserts the saved results of the benchmarks into docs/performance.head.md. Called by docs/generate.py.

In the page, ``{{about}}`` is the machine, ``{{rows sign_up}}`` the rows of a benchmark,
``{{profile sign_up}}`` the time of each way, ``{{growth}}`` the figures by size, ``{{console}}`` the
time of each page, ``{{kills}}``, ``{{malformed}}`` and ``{{outages}}`` the results of the fault tests, and
``{{sign_up | sign-up | the hand-written trigger}}`` one figure: that benchmark's row of that name and peer.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from typing import TYPE_CHECKING, Any

from chart import chart
from measuring import shown
from run import RESULTS, about, table

if TYPE_CHECKING:
    from collections.abc import Mapping

_PLACE = re.compile(r"\{\{([^{}]+)\}\}")


def performance_page(head: str) -> str:
    """The page with every figure from the saved results. Raises LookupError for a missing one."""
    results, growth, faults, console = (_kept(name) for name in ("results", "growth", "faults", "console"))

    whole = {
        "about": lambda: about(results),
        "growth about": lambda: about(growth),
        "growth": lambda: _by_size(growth),
        "console": lambda: _by_page(console),
        "console about": lambda: _about_console(console),
        "kills": lambda: _kills(faults["kills"]),
        "malformed": lambda: _malformed(faults["malformed"]),
        "outages": lambda: _outages(faults["outages"]),
    }

    def filled(match: re.Match[str]) -> str:
        if match[1] in whole:
            return whole[match[1]]()
        what, _, which = match[1].partition(" ")
        if what == "rows":
            return table([row for row in results["rows"] if row["benchmark"] == which])
        if what == "profile":
            return _profile(results["profiles"][which])
        return _figure(results, match[1])

    return _PLACE.sub(filled, head)


def growth_chart() -> str:
    """The picture of how all figures grow."""
    return chart(_kept("growth"))


def _kept(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((RESULTS / f"{name}.json").read_text())
    return found


def _figure(results: Mapping[str, Any], which: str) -> str:
    benchmark, name, against = (part.strip() for part in (which + " |").split("|")[:3])
    for row in results["rows"]:
        if (row["benchmark"], row["name"], row["against"]) == (benchmark, name, against):
            return shown(row["value"], row["unit"])
    raise LookupError(f"no row {name!r} against {against!r} in {benchmark}")


def _profile(profile: Mapping[str, Any]) -> str:
    """The time of each way: one column for each kind of work."""
    works = {name: figures for name, figures in profile.items() if isinstance(figures, dict)}
    flat = {name: figures for name, figures in works.items() if not _is_nested(figures)}
    ways = list(dict.fromkeys(way for figures in flat.values() for way in figures))
    lines = [f"| {profile['unit']} | {' | '.join(flat)} |", "|---|" + "---|" * len(flat)]
    lines += [
        f"| {way} | {' | '.join(f'{flat[work][way]:,.1f}' if way in flat[work] else '' for work in flat)} |"
        for way in ways
    ]
    for name, figures in works.items():
        if _is_nested(figures):
            kinds = list(next(iter(figures.values())))
            lines += ["", f"| {name} | {' | '.join(kinds)} |", "|---|" + "---|" * len(kinds)]
            lines += [
                f"| {way} | {' | '.join(f'{each[kind]:,.0f}' for kind in kinds)} |"
                for way, each in figures.items()
            ]
    return "\n".join(lines)


def _kills(kills: Mapping[str, Any]) -> str:
    return (
        f"{kills['kills']:,} processes, {kills['processes_at_once']} at once, were killed, while the server "
        f"was stopped {kills['server_stopped']} and killed {kills['server_killed']} times. Of "
        f"{kills['promised']:,} events whose id `record()` had returned, {kills['missing']:,} were missing "
        f"and {kills['doubled']:,} were stored twice after the spool had been drained."
    )


def _malformed(found: Mapping[str, Any]) -> str:
    return f"{found['stored']:,} were stored, and {found['rejected']:,} were rejected with the reason"


def _outages(outages: list[dict[str, Any]]) -> str:
    names = ("the database", "p50 before", "during", "p99 before", "during", "memory", "waited", "arrived in")
    lines = [f"| {' | '.join((*names, 'missing', 'twice'))} |", "|---|" + "---|" * (len(names) + 1)]
    for each in outages:
        before, during = each["before"], each["during"]
        cells = (
            f"{each['outage']}, {each['minutes']:g} min",
            *(f"{moment[which]:.0f} µs" for which in ("p50_us", "p99_us") for moment in (before, during)),
            f"{during['kib_per_100k']:+,.0f} KiB",
            f"{each['waiting_at_the_end']:,}",
            f"{each['seconds_to_arrive']:.1f} s",
            str(each["missing"]),
            str(each["doubled"]),
        )
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _is_nested(figures: Mapping[str, Any]) -> bool:
    return any(isinstance(each, dict) for each in figures.values())


def _by_size(growth: Mapping[str, Any]) -> str:
    sizes = sorted({point["size"] for point in growth["points"]})
    series: dict[tuple[str, str], dict[int, float]] = defaultdict(dict)
    for point in growth["points"]:
        series[point["series"], point["unit"]][point["size"]] = point["value"]
    lines = [f"| | | {' | '.join(f'{size:,}' for size in sizes)} |", "|---|---|" + "---|" * len(sizes)]
    for (name, unit), values in series.items():
        cells = (f"{values[size]:,.1f}" if size in values else "" for size in sizes)
        lines.append(f"| {name} | {unit} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _by_page(console: Mapping[str, Any]) -> str:
    lines = ["| page | processor time | p50 | p95 |", "|---|---|---|---|"]
    lines += [
        f"| {each['page']} | {console['cpu_ms'][each['page']]:.0f} ms "
        f"| {each['p50_ms']:.0f} ms | {each['p95_ms']:.0f} ms |"
        for each in console["pages"]
    ]
    return "\n".join(lines)


def _about_console(console: Mapping[str, Any]) -> str:
    here, options = console["machine"], console["options"]
    return (
        f"PostgreSQL {here['postgresql']}, {here['cpus']} CPUs ({here['processor']}), "
        f"{here['memory_gb']} GB; {options['events']:,} events, {options['users']:,} users, "
        f"{options['requests']} requests of each page."
    )
