"""A spool of events through NATS JetStream into the table, with one worker, against the spool without it."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from audit_throughput import Log, record_all
from measuring import Row, faster, medians, plain, take_turns
from usersync import AuditLog
from usersync.audit.feed import number_events
from usersync.transports.run import run

# The tests' helpers start the NATS servers.
sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
from nats_server import NatsServer, nats_cluster, nats_server

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import ExitStack

    from measuring import Lab

PROJECT = "bench"
DEADLINE_S = 300


class StreamedLog(Log):
    """One database, its audit log, and ways to deliver a spool to it."""

    def __init__(self, lab: Lab, stack: ExitStack, events: int) -> None:
        super().__init__(lab, stack, events)
        self.dsn = self._dsn

    def send(self, source: str, count: int) -> float:
        """Seconds an event until a spool of so many events is in the table."""
        self.empty()
        took = self._fill(source, count, self.stored)
        self.check(count)
        return took / count

    def _fill(self, source: str, count: int, arrived: Callable[[], int] | None = None) -> float:
        """Seconds until a spool of so many events is sent, and has arrived."""
        with tempfile.TemporaryDirectory() as directory:
            with AuditLog.recording_only(spool_dir=directory, project=PROJECT) as log:
                record_all(log, self.events[:count])
            began = time.perf_counter()
            with AuditLog(source, spool_dir=directory, project=PROJECT) as log:
                assert log.drain(DEADLINE_S)
                while arrived is not None and arrived() < count:
                    assert time.perf_counter() - began < DEADLINE_S
                    time.sleep(0.02)
                return time.perf_counter() - began

    def bytes_in_table(self, count: int) -> float:
        """Bytes an event of the table with its indexes."""
        return self._partitions("pg_total_relation_size") / count

    def bytes_in_indexes(self, count: int) -> float:
        """Bytes an event of the indexes alone."""
        return self._partitions("pg_indexes_size") / count

    def _partitions(self, function: str) -> float:
        return self._ask(f"select sum({function}(relid)) from pg_partition_tree('public.audit_logs')")

    def bytes_in_feed(self) -> float:
        """Bytes an event of the numbers of the feed. Events of emptied logs have them, too."""
        while run(number_events(), self.owner):
            pass
        self.superuser.execute("vacuum full usersync.event_numbers")
        size = self._ask("select pg_total_relation_size('usersync.event_numbers')")
        return size / self._ask("select count(*) from usersync.event_numbers")

    def bytes_in_stream(self, server: NatsServer, count: int) -> float:
        """Bytes an event of the stream, in one replica."""
        server.ask("STREAM.CREATE.size", {"name": "size", "subjects": ["size.>"], "storage": "file"})
        self._fill(f"{server.url}?stream=size", count)
        return float(server.ask("STREAM.INFO.size")["state"]["bytes"]) / count

    def _ask(self, statement: str) -> float:
        row = self.superuser.execute(statement).fetchone()
        return float(row[0]) if row else 0.0

    def stored(self) -> int:
        row = self.superuser.execute("select count(*) from public.audit_logs").fetchone()
        return int(row[0]) if row else 0


@contextmanager
def worker(dsn: str, url: str) -> Iterator[None]:
    """A worker in a process of its own that stores the events of a stream."""
    environment = {**os.environ, "SUPABASE_DB_URL": dsn, "USERSYNC_INGEST": url}
    command = [sys.executable, "-m", "usersync", "worker"]
    with subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL) as process:
        try:
            yield
        finally:
            process.terminate()


def measure(lab: Lab, stack: ExitStack) -> tuple[list[Row], dict[str, Any]]:
    """The rows of the table, and the time of each way."""
    count = lab.options.events
    log = StreamedLog(lab, stack, count)
    directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
    server = stack.enter_context(nats_server(directory / "single"))
    streams = {"one node": server.url}
    if not lab.options.quick:
        streams["three nodes"] = stack.enter_context(nats_cluster(directory / "cluster")).url
    for url in streams.values():
        stack.enter_context(worker(log.dsn, url))
    sides = {"the spool": log.dsn, **streams}
    times = take_turns(
        {name: lambda source=source: log.send(source, count) for name, source in sides.items()}, lab.rounds
    )
    rows = [
        faster(
            f"a spool through JetStream into the table, one worker, {nodes}",
            "the same spool without JetStream",
            times,
            nodes,
            "the spool",
            limit=0.75,
        )
        for nodes in streams
    ]
    rows += [
        plain(f"an event in {where}", "", [size], "bytes")
        for where, size in (
            ("the table, with indexes", log.bytes_in_table(count)),
            ("the indexes of the table", log.bytes_in_indexes(count)),
            ("the numbers of the feed", log.bytes_in_feed()),
            ("the stream, in each replica", log.bytes_in_stream(server, count)),
        )
    ]
    return rows, {"unit": "µs an event", "ways": medians(times)}
