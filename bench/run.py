"""Runs the benchmarks on one server and writes their table. Run with: make bench, or make bench-quick

::

    python bench/run.py [--quick] [--only sign_up,reconcile] [--rounds 9] [--users 10000000] [--out DIRECTORY]

Writes results.json and results.md into the directory, and prints the table. With ``--only``, the saved
results of the other benchmarks stay. ``--quick`` takes a minute or two, for a check after a change: its
figures are of small tables and few rounds, and are saved only if ``--out`` is given.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import time
from contextlib import ExitStack
from dataclasses import asdict
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Any

from measuring import SETTINGS, Lab, production_lab, shown
from usersync.embedded import installed_versions

RESULTS = Path(__file__).parent / "results"

BENCHMARKS = (
    "sign_up",
    "reconcile",
    "record",
    "audit_throughput",
    "tracking",
    "feed",
    "adopted_feed",
    "search",
    "worker",
    "webhooks",
    "user_delete",
    "streams",
)

#: Each size with its default, and its value with --quick.
SIZES = {
    "rounds": (9, 2, "how many times each side runs"),
    "statements": (5_000, 1_000, "sign-ups, sign-ins and single-row changes in one transaction"),
    "commits": (500, 100, "the same, each with its commit"),
    "imported": (100_000, 20_000, "users imported in one statement"),
    "users": (1_000_000, 50_000, "users that are reconciled"),
    "events": (50_000, 5_000, "events that are stored"),
    "bulk": (50_000, 10_000, "rows of a bulk change of a tracked table"),
    "feed_events": (1_000_000, 50_000, "events among which the feed reads"),
    "search_events": (1_000_000, 50_000, "events among which a search finds its page"),
    "handled_events": (20_000, 2_000, "events that workers handle"),
    "looks": (27, 6, "events that an idle worker handles, at each interval"),
    "jobs": (300, 50, "jobs of a task queue, and events that do the same"),
    "webhooks": (2_000, 500, "requests that are sent"),
    "deleted": (1_000_000, 20_000, "events of the user who is deleted"),
    "record_events": (20_000, 1_000, "events that are recorded"),
    "record_rounds": (5, 1, "rounds in which they are recorded"),
}


def main() -> None:
    """Run the selected benchmarks, print the table and save it."""
    options = arguments()
    with production_lab(options) as lab:
        found = {name: measured(name, lab) for name in options.only}
        document = {
            "machine": machine(lab),
            "options": {name: getattr(options, name) for name in SIZES},
            "took": {name: each["took"] for name, each in found.items()},
            "rows": [row for each in found.values() for row in each["rows"]],
            "profiles": {name: each["profile"] for name, each in found.items() if each["profile"]},
        }
    kept = options.out / "results.json" if options.out is not None else None
    if kept is not None and kept.exists():
        document = beside(json.loads(kept.read_text()), document)
    document["seconds"] = sum(document["took"].values())
    text = page(document)
    sys.stdout.write(text)
    if kept is not None:
        kept.write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n")
        kept.with_suffix(".md").write_text(text)


def beside(kept: dict[str, Any], new: dict[str, Any]) -> dict[str, Any]:
    """The new results, and the saved results of the benchmarks that were not run now."""
    rows = [row for row in kept["rows"] if row["benchmark"] not in new["took"]] + new["rows"]
    return new | {
        "took": kept["took"] | new["took"],
        "rows": sorted(rows, key=lambda row: BENCHMARKS.index(row["benchmark"])),
        "profiles": kept["profiles"] | new["profiles"],
    }


def arguments() -> argparse.Namespace:
    """What to run, how much of it, and where to write it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="small sizes, few rounds: about a minute")
    parser.add_argument("--only", help=f"some of {','.join(BENCHMARKS)}")
    parser.add_argument("--pg", type=int, help="PostgreSQL version (default the newest found)")
    parser.add_argument("--out", type=Path, help=f"default {RESULTS}, with --quick nowhere")
    for name, (default, quick, what) in SIZES.items():
        flag = "--" + name.replace("_", "-")
        parser.add_argument(flag, type=int, help=f"{what} (default {default:,}, quick {quick:,})")
    options = parser.parse_args()
    options.only = tuple((options.only or ",".join(BENCHMARKS)).split(","))
    if unknown := set(options.only) - set(BENCHMARKS):
        parser.error(f"no such benchmark: {', '.join(sorted(unknown))}; there are {', '.join(BENCHMARKS)}")
    for name, (default, quick, _) in SIZES.items():
        if getattr(options, name) is None:
            setattr(options, name, quick if options.quick else default)
        # A tenth of them is recorded flat out.
        fewest = 10 if name == "record_events" else 1
        if getattr(options, name) < fewest:
            parser.error(f"--{name.replace('_', '-')}: expected {fewest} or more")
    if options.pg is not None and options.pg not in (found := installed_versions()):
        parser.error(f"--pg: this machine has {', '.join(map(str, sorted(found))) or 'none'}")
    if options.out is None and not options.quick:
        options.out = RESULTS
    if options.out is not None:
        # Checked now, and not after an hour.
        try:
            options.out.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            parser.error(f"--out: {error}")
    return options


def measured(name: str, lab: Lab) -> dict[str, Any]:
    """Run one benchmark, and print how long it took."""
    sys.stderr.write(f"{name} … ")
    sys.stderr.flush()
    started = time.perf_counter()
    with ExitStack() as stack:
        rows, profile = import_module(name).measure(lab, stack)
    took = round(time.perf_counter() - started)
    sys.stderr.write(f"{took} s\n")
    return {
        "rows": [asdict(row) | {"benchmark": name, "aim": row.aim, "met": row.met} for row in rows],
        "profile": profile,
        "took": took,
    }


def machine(lab: Lab) -> dict[str, Any]:
    """The machine and versions of the measurement."""
    packages = ("psycopg", "django-pghistory", "postgresql-audit", "procrastinate", "aiohttp")
    return {
        "system": f"{platform.system()} {platform.release()}",
        "processor": processor(),
        "cpus": os.cpu_count(),
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9),
        "python": platform.python_version(),
        "postgresql": server_version(lab),
        "settings": SETTINGS,
        "packages": {name: version(name) for name in packages},
    }


def server_version(lab: Lab) -> str:
    return str(lab.cluster.maintenance.info.parameter_status("server_version"))


def processor() -> str:
    """The processor's name, if the system reports it."""
    info = Path("/proc/cpuinfo")
    names = (
        [
            line.partition(":")[2].strip()
            for line in info.read_text().splitlines()
            if line.startswith("model name")
        ]
        if info.exists()
        else []
    )
    return names[0] if names else platform.processor()


def page(document: dict[str, Any]) -> str:
    """All results as Markdown."""
    return f"{about(document)}\n\n{table(document['rows'])}\n"


def about(document: dict[str, Any]) -> str:
    """The machine, versions and settings, in a sentence."""
    here = document["machine"]
    settings = ", ".join(f"{name} = {value}" for name, value in here["settings"].items())
    packages = ", ".join(f"{name} {number}" for name, number in here["packages"].items())
    return (
        f"PostgreSQL {here['postgresql']} on {here['system']}, {here['cpus']} CPUs ({here['processor']}), "
        f"{here['memory_gb']} GB; Python {here['python']}; {packages}. {settings}. "
        f"{document['options']['rounds']} rounds, {document['seconds']} s in all."
    )


def table(rows: list[dict[str, Any]]) -> str:
    """Rows as a Markdown table: the median, and the range of the middle half."""
    lines = [
        "| what | against | aim | measured | spread | usersync | alternative |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        value, low, high = (shown(row[each], row["unit"]) for each in ("value", "low", "high"))
        spread = "" if row["low"] == row["high"] else f"{low} to {high}"
        met = {True: "", False: " (not met)", None: ""}[row["met"]]
        cells = (row["name"], row["against"], row["aim"], f"{value}{met}", spread, row["ours"], row["theirs"])
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
