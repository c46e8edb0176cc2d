"""What the benchmarks share: a server with production settings, pairs that take turns, one table of results.

A figure is a ratio to a named peer or limit that ran in the same round, so that noise tells on both sides.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
import time
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from usersync.embedded import EmbeddedPostgres
from usersync.testing import SupabaseCluster

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

RESULTS = Path(__file__).parent / "results"

# Durability as in production; memory and checkpoints such that one round is not measured against another's
# checkpoint; no autovacuum, which would come in the middle of one side only.
SETTINGS = {
    "shared_buffers": "1GB",
    "max_wal_size": "16GB",
    "checkpoint_timeout": "1h",
    "autovacuum": "off",
    "fsync": "on",
}


@dataclass(frozen=True)
class Result:
    """One row of the table: our side against the other's, over all rounds."""

    name: str
    against: str
    aim: str
    ratio: float
    spread: str
    ours: str
    theirs: str


def arguments(description: str, **sizes: int) -> argparse.Namespace:
    """The options that every benchmark has, and its sizes."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--rounds", type=int, default=3, help="how often each side runs (default 3)")
    parser.add_argument("--pg", type=int, default=None, help="PostgreSQL version (default the newest found)")
    for name, default in sizes.items():
        parser.add_argument(f"--{name}", type=int, default=default, help=f"default {default:,}")
    return parser.parse_args()


@contextmanager
def production_cluster(version: int | None) -> Iterator[tuple[EmbeddedPostgres, SupabaseCluster]]:
    """A server of its own, shaped like Supabase, with fsync on."""
    with (
        EmbeddedPostgres(version=version, settings=SETTINGS) as server,
        SupabaseCluster.on(server) as cluster,
    ):
        yield server, cluster


def timed(work: Callable[[], object]) -> float:
    """How many seconds ``work`` takes."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def paired(
    name: str,
    against: str,
    aim: str,
    *,
    ours: Sequence[float],
    theirs: Sequence[float],
    unit: Callable[[float], str],
) -> Result:
    """Compare what both sides took in the same rounds: the median of the ratios, and their spread."""
    ratios = sorted(mine / other for mine, other in zip(ours, theirs, strict=True))
    return Result(
        name,
        against,
        aim,
        statistics.median(ratios),
        f"{ratios[0]:.2f} to {ratios[-1]:.2f}",
        unit(statistics.median(ours)),
        unit(statistics.median(theirs)),
    )


def per_row(count: int) -> Callable[[float], str]:
    """Show seconds as microseconds for each of so many rows."""
    return lambda seconds: f"{seconds / count * 1e6:.2f} us/row"


def report(benchmark: str, server: EmbeddedPostgres, results: Sequence[Result]) -> None:
    """Print the table, and keep it as JSON."""
    machine = {
        "python": platform.python_version(),
        "postgresql": server.version,
        "cpus": os.cpu_count(),
        "system": platform.system(),
        "settings": SETTINGS,
    }
    RESULTS.mkdir(exist_ok=True)
    document = {"benchmark": benchmark, "machine": machine, "results": [asdict(each) for each in results]}
    (RESULTS / f"{benchmark}.json").write_text(json.dumps(document, indent=2) + "\n")
    lines = [
        "| what | against | aim | ratio | spread | ours | theirs |",
        "|---|---|---|---|---|---|---|",
        *(
            f"| {each.name} | {each.against} | {each.aim} | {each.ratio:.2f} | {each.spread} "
            f"| {each.ours} | {each.theirs} |"
            for each in results
        ),
    ]
    sys.stdout.write(
        f"PostgreSQL {server.version}, {os.cpu_count()} CPUs, Python {platform.python_version()}\n\n"
        + "\n".join(lines)
        + "\n"
    )
