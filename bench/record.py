"""The duration of record(), as bench/audit_record.py measures it."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from measuring import Row, plain

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import ExitStack

    from measuring import Lab

SCRIPT = Path(__file__).with_name("audit_record.py")

PEERS = ("QueueHandler", "bare SQLite insert")

#: p50 and p99, in microseconds.
AIMS = {"p50_us": 20.0, "p99_us": 100.0}


def measure(lab: Lab, _: ExitStack) -> tuple[list[Row], dict[str, Any]]:
    """The rows of the table, and the figures of every variant. It starts its own server."""
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "record.json"
        rounds, events = str(lab.options.record_rounds), str(lab.options.record_events)
        subprocess.run(
            [sys.executable, SCRIPT, "--rounds", rounds, "--events", events, "--json", path],
            check=True,
            stdout=subprocess.DEVNULL,
        )
        found = json.loads(path.read_text())
    by_name = {(each["variant"], each["pace"]): each for each in found}
    return [row for pair in by_name for row in _rows(by_name, *pair)], {}


def _rows(found: dict[tuple[str, str], dict[str, float]], variant: str, pace: str) -> Iterator[Row]:
    """p50 and p99 of one variant; for the default variant, against both peers at the same pace."""
    ours = variant.startswith("record(), spool")
    for figure, aim in AIMS.items():
        theirs = ", ".join(f"{peer}: {found[peer, pace][figure]:.1f} µs" for peer in PEERS)
        yield plain(
            f"{variant}, {pace}, {figure.removesuffix('_us')}",
            " and a ".join(PEERS) if ours else "",
            [found[variant, pace][figure]],
            "µs",
            limit=aim if ours else None,
            theirs=theirs if ours else "",
        )
