"""The duration of record(): against a stdlib QueueHandler and a bare SQLite insert, in the same run.

::

    python bench/audit_record.py [--events 20000] [--rounds 5] [--json FILE]

The database is down (nothing listens) and up (an embedded PostgreSQL), with the writer at work in both.
The variants take turns, so that other load of the machine affects all of them. The figures are the medians of
the rounds. "paced" leaves half a millisecond between two events, like a busy service. "flat out" leaves no
pause, so that recording competes with its own writer for the interpreter.
"""

from __future__ import annotations

import argparse
import json
import logging
import logging.handlers
import queue
import sqlite3
import statistics
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest import mock

from measuring import LOGGED
from usersync import AuditLog
from usersync.audit.event import diff, event, values
from usersync.embedded import EmbeddedPostgres
from usersync.testing import SupabaseCluster
from usersync.testing.install import install

if TYPE_CHECKING:
    from collections.abc import Callable

NOWHERE = "postgresql://nobody@127.0.0.1:1/nowhere"
ACTOR = "0190b7c4-0000-7000-8000-000000000000"
PAYLOAD = b'{"id":"0190b7c4-0000-7000-8000-000000000000"' + b"," * 300 + b"}"
PAUSE_S = 0.0005


def queue_handler(_: ExitStack, __: Path) -> Callable[[], Any]:
    """A QueueHandler with a structured record, nothing stored."""
    logger = logging.getLogger("bench")
    logger.propagate = False
    logger.setLevel(logging.INFO)
    logger.handlers = [logging.handlers.QueueHandler(queue.SimpleQueue())]
    extra = {"entity": ("product", 42), "actor_id": ACTOR, "request_id": "r-1"}
    return lambda: logger.info("product.created %s", {"name": "Bolt", "price": 3}, extra=extra)


def sqlite_insert(stack: ExitStack, directory: Path) -> Callable[[], Any]:
    """One INSERT of prepared bytes and its commit; WAL, synchronous=OFF."""
    connection = sqlite3.connect(directory / "bare.db", isolation_level=None)
    stack.callback(connection.close)
    connection.execute("pragma journal_mode = wal")
    connection.execute("pragma synchronous = off")
    connection.execute("create table events (number integer primary key, at_ms integer, event blob)")
    return lambda: connection.execute("insert into events (at_ms, event) values (?, ?)", (1, PAYLOAD))


def audit(source: str, **options: Any) -> Callable[[ExitStack, Path], Callable[[], Any]]:
    def make(stack: ExitStack, directory: Path) -> Callable[[], Any]:
        log = AuditLog(source, spool_dir=directory / "spool", **options)
        stack.callback(log.close, timeout=60 if source != NOWHERE else 0)
        stack.enter_context(log.context(actor_id=ACTOR, request_id="r-1", ip="203.0.113.9"))
        return lambda: log.record(
            "product.created", entity=("product", 42), after={"name": "Bolt", "price": 3}
        )

    return make


def without_orjson(make: Callable[[ExitStack, Path], Any]) -> Callable[[ExitStack, Path], Any]:
    def make_without(stack: ExitStack, directory: Path) -> Callable[[], Any]:
        for module in (values, event, diff):
            stack.enter_context(mock.patch.object(module, "encode", values.plain_encode))
        return make(stack, directory)

    return make_without


def measure(call: Callable[[], Any], events: int, pause: float) -> list[int]:
    times = []
    for _ in range(200):
        call()
    for _ in range(events):
        started = time.perf_counter_ns()
        call()
        times.append(time.perf_counter_ns() - started)
        if pause:
            time.sleep(pause)
    return sorted(times)


def one_round(variants: dict[str, Any], events: int, found: dict[tuple[str, str], list[Any]]) -> None:
    for name, make in variants.items():
        for pace, pause in (("paced", PAUSE_S), ("flat out", 0.0)):
            with tempfile.TemporaryDirectory() as directory, ExitStack() as stack:
                times = measure(make(stack, Path(directory)), events if not pause else events // 10, pause)
            p50, p99 = times[len(times) // 2] / 1000, times[len(times) * 99 // 100] / 1000
            found.setdefault((name, pace), []).append((p50, p99))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--events", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    logging.getLogger("usersync.audit").disabled = True
    found: dict[tuple[str, str], list[Any]] = {}
    with EmbeddedPostgres() as server, SupabaseCluster.on(server) as cluster:
        database = cluster.create()
        install(database, LOGGED)
        variants = {
            "QueueHandler": queue_handler,
            "bare SQLite insert": sqlite_insert,
            "record(), spool, database up": audit(database.dsn()),
            "record(), spool, database down": audit(NOWHERE),
            "the same without orjson": without_orjson(audit(NOWHERE)),
            "record(), memory, database up": audit(database.dsn(), durability="memory", memory_events=10**6),
        }
        for _ in range(arguments.rounds):
            one_round(variants, arguments.events, found)
    report(found, arguments.json)


def report(found: dict[tuple[str, str], list[Any]], path: Path | None) -> None:
    rows = []
    print(f"{'':34}{'':10}{'p50 µs':>10}{'p99 µs':>10}{'best p50':>10}{'best p99':>10}")
    for (name, pace), figures in found.items():
        p50s, p99s = zip(*figures, strict=True)
        row = [statistics.median(p50s), statistics.median(p99s), min(p50s), min(p99s)]
        print(f"{name:34}{pace:10}" + "".join(f"{each:10.1f}" for each in row))
        keys = ("p50_us", "p99_us", "best_p50_us", "best_p99_us")
        rows.append({"variant": name, "pace": pace, **dict(zip(keys, row, strict=True))})
    if path is not None:
        path.write_text(json.dumps(rows, indent=2) + "\n")


if __name__ == "__main__":
    main()
