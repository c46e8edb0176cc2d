"""Three JetStream nodes, four applications, two workers. A node and a worker are killed, and nothing is lost.

Run with: make demo-scale

::

    python bench/scale_demo.py [--events 5000] [--rate 1000]

Everything runs on free ports in a temporary directory, and is stopped and removed at the end. The exit code
is 1 if an event is lost or doubled.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from measuring import LOGGED
from usersync import AuditLog
from usersync.embedded import EmbeddedPostgres
from usersync.testing import SupabaseCluster
from usersync.testing.install import install

# The tests' helpers start the NATS servers.
sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
from nats_server import NatsCluster, nats_cluster

if TYPE_CHECKING:
    import psycopg

APPLICATIONS = ("web", "billing", "jobs", "mobile")
STREAM = "usersync-in"
DEADLINE_S = 120.0

#: How often each event is in the table, by application and number.
Stored = dict[str, dict[int, int]]


def main() -> int:
    """Run the demo, or one of its applications. Returns the exit code."""
    options = arguments()
    if options.application:
        print(json.dumps(application(options)))
        return 0
    with ExitStack() as stack:
        return show(*demo(options, stack))


def arguments() -> argparse.Namespace:
    """How many events, and how fast."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--events", type=int, default=5_000, help="events of each application (default 5,000)"
    )
    parser.add_argument("--rate", type=int, default=1_000, help="events a second of each (default 1,000)")
    parser.add_argument("--application", help=argparse.SUPPRESS)
    parser.add_argument("--url", help=argparse.SUPPRESS)
    parser.add_argument("--spool", help=argparse.SUPPRESS)
    return parser.parse_args()


def demo(
    options: argparse.Namespace, stack: ExitStack
) -> tuple[list[dict[str, Any]], dict[str, dict[int, int]]]:
    """Run the demo. Returns the reports of the applications, and how often each event is in the table."""
    directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="usersync-scale-")))
    say("starting PostgreSQL and three NATS servers")
    server = stack.enter_context(EmbeddedPostgres())
    database = stack.enter_context(SupabaseCluster.on(server)).create()
    install(database, LOGGED)
    owner = stack.enter_context(database.connect("postgres"))
    nodes = stack.enter_context(nats_cluster(directory / "nats"))
    say("starting two workers: usersync worker --ingest")
    workers = [worker(stack, database.dsn(), nodes.url) for _ in range(2)]
    wait(lambda: has_stream(nodes), "the workers to create the stream")
    say(f"starting four applications: {options.events:,} events each, {options.rate:,} a second")
    running = [start(stack, name, nodes.url, directory / name, options) for name in APPLICATIONS]
    some = options.events * len(running) // 4
    wait(lambda: count(owner) > some, "some events in the table")
    leader = nodes.leader(STREAM)
    name = leader.directory.name
    say(f"killing the leader of the stream ({name}) and a worker, after {count(owner):,} events")
    leader.kill()
    workers[0].kill()
    worker(stack, database.dsn(), nodes.url)
    wait(lambda: has_stream(nodes), "a new leader")
    say("starting the node again")
    leader.start()
    told = [json.loads(each.communicate(timeout=DEADLINE_S)[0]) for each in running]
    recorded = sum(each["recorded"] for each in told)
    wait(lambda: count(owner) >= recorded, "all events in the table")
    return told, in_table(owner)


def show(told: list[dict[str, Any]], stored: Stored) -> int:
    """Print the table. Returns the exit code."""
    print()
    heads = ("application", "recorded", "in the stream", "in the table", "lost", "doubled", "longest stall")
    print("  ".join(heads))
    wrong = 0
    for each in told:
        found = stored.get(each["name"], {})
        lost = each["recorded"] - len(found)
        doubled = sum(times - 1 for times in found.values())
        wrong += lost + doubled
        stall = f"{each['stall']:.1f} s"
        cells = (f"{each['recorded']:,}", f"{each['delivered']:,}", f"{len(found):,}", lost, doubled, stall)
        row = (str(cell).rjust(len(head)) for cell, head in zip(cells, heads[1:], strict=True))
        print("  ".join([each["name"].ljust(len(heads[0])), *row]))
    print()
    print("nothing is lost, and nothing is doubled" if not wrong else f"{wrong} events are lost or doubled")
    return 1 if wrong else 0


def application(options: argparse.Namespace) -> dict[str, Any]:
    """Record events, and wait until the stream has them."""
    log = AuditLog(options.url, spool_dir=options.spool)
    watch = Watch(log)
    watch.start()
    began = time.perf_counter()
    for number in range(options.events):
        log.record(f"{options.application}.done", entity=("order", number), metadata={"n": number})
        ahead = (number + 1) / options.rate - (time.perf_counter() - began)
        if ahead > 0.01:
            time.sleep(ahead)
    assert log.flush(DEADLINE_S)
    stats = log.stats()
    log.close()
    return {
        "name": options.application,
        "recorded": stats.accepted,
        "delivered": stats.stored,
        "stall": watch.longest,
    }


class Watch(threading.Thread):
    """Measures the longest time in which events waited and none was delivered."""

    def __init__(self, log: AuditLog) -> None:
        super().__init__(daemon=True)
        self._log = log
        self.longest = 0.0

    def run(self) -> None:
        delivered, since = 0, time.perf_counter()
        while True:
            stats = self._log.stats()
            if stats.stored != delivered or not stats.waiting:
                delivered, since = stats.stored, time.perf_counter()
            self.longest = max(self.longest, time.perf_counter() - since)
            time.sleep(0.02)


def worker(stack: ExitStack, dsn: str, url: str) -> subprocess.Popen[bytes]:
    """Start a worker, which ends with the demo."""
    environment = {**os.environ, "SUPABASE_DB_URL": dsn, "USERSYNC_INGEST": url}
    command = [sys.executable, "-m", "usersync", "worker"]
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    stack.callback(process.wait)
    stack.callback(process.kill)
    return process


def start(
    stack: ExitStack, name: str, url: str, spool: Path, options: argparse.Namespace
) -> subprocess.Popen[bytes]:
    """Start an application, which ends with the demo."""
    rest = ["--url", url, "--spool", str(spool), "--events", str(options.events), "--rate", str(options.rate)]
    process = subprocess.Popen(
        [sys.executable, __file__, "--application", name, *rest],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    stack.callback(process.wait)
    stack.callback(process.kill)
    return process


def has_stream(nodes: NatsCluster) -> bool:
    """Whether the stream exists and has a leader."""
    try:
        return bool(nodes.running_server.ask(f"STREAM.INFO.{STREAM}")["cluster"]["leader"])
    except Exception:  # noqa: BLE001 - asked again
        return False


def count(owner: psycopg.Connection[Any]) -> int:
    """How many events are in the table."""
    row = owner.execute("select count(*) from public.audit_logs where action like '%.done'").fetchone()
    return int(row[0]) if row else 0


def in_table(owner: psycopg.Connection[Any]) -> Stored:
    """How often each event of each application is in the table."""
    rows = owner.execute(
        "select split_part(action, '.', 1), (metadata ->> 'n')::int, count(*) from public.audit_logs "
        "where action like '%.done' group by 1, 2"
    ).fetchall()
    found: Stored = {}
    for name, number, times in rows:
        found.setdefault(name, {})[number] = times
    return found


def wait(condition: Any, what: str) -> None:
    """Wait until a condition is true."""
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"waited too long for {what}")
        time.sleep(0.05)


def say(text: str) -> None:
    """Print a step at once."""
    print(text, flush=True)


if __name__ == "__main__":
    sys.exit(main())
