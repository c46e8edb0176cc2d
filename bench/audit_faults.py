"""Fault tests of the audit log: kill -9 at random moments, malformed events, long outages.

::

    python bench/audit_faults.py [--only kills malformed …] [--kills 1000] [--minutes 2] [--json FILE]

Kills: recording processes, several on one spool directory, are killed while the server stops and starts. Then
the spool is drained, and every id that ``record()`` returned must be in the table once.

Malformed: one in ten of 100,000 events is malformed. These must be rejected, and the others stored.

Outages: a process records at a steady rate before and during each outage. The durations of ``record()`` and
the use of memory are compared, and afterwards every event must be in the table once.

Exits with 1 if an event is missing or stored twice. Needs Linux. The outage "full disk" needs the privilege
to mount a disk.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import subprocess
import sys
import tempfile
import threading
import time
from array import array
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg

from measuring import LOGGED
from usersync import AuditLog
from usersync.audit.spool.file_format import look_into
from usersync.audit.spool.private import connect
from usersync.embedded import EmbeddedPostgres
from usersync.testing import SupabaseCluster
from usersync.testing.install import install

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from usersync.testing import SupabaseDatabase

TESTS = Path(__file__).parent.parent / "tests"
sys.path[:0] = [str(TESTS), str(TESTS / "audit")]

from killing import kill_recorders  # noqa: E402 - likewise

import tiny_disk  # noqa: E402 - shared with the test suite

AT_ONCE = 4
SMALL = {"shared_buffers": "32MB", "max_connections": "20", "max_wal_size": "64MB", "min_wal_size": "32MB"}
BEFORE_S = 20.0


def counts(database: SupabaseDatabase, promised: Path) -> dict[str, int]:
    """Compare the table with a file of ids, one per line."""
    with database.connect() as owner:
        owner.execute("set statement_timeout = 0; set work_mem = '256MB'")
        owner.execute("create temporary table promised (id uuid)")
        with owner.cursor().copy("copy promised from stdin") as copy:
            copy.write(promised.read_bytes())
        names = ("promised", "stored", "missing", "doubled")
        found = owner.execute(
            """select (select count(*) from promised), count(*),
                (select count(*) from promised left join public.audit_logs using (id) where action is null),
                count(*) - count(distinct id) from public.audit_logs"""
        ).fetchone()
    return dict(zip(names, found or (), strict=True))


# Kills


@contextmanager
def disturbed(server: EmbeddedPostgres) -> Iterator[list[str]]:
    """Stop or kill the server at random times until the generator is closed.

    Yields the disturbances so far.
    """
    over, done = threading.Event(), []

    def disturb() -> None:
        while not over.wait(random.uniform(4, 10)):  # noqa: S311 - not for security
            how = random.choice(["stop", "kill"])  # noqa: S311 - likewise
            getattr(server, how)()
            done.append(how)
            over.wait(random.uniform(0.5, 3))  # noqa: S311 - likewise
            server.start()

    thread = threading.Thread(target=disturb)
    thread.start()
    try:
        yield done
    finally:
        over.set()
        thread.join()


def has_waiting_events(path: Path) -> bool:
    """Whether a spool file has events that are not delivered."""
    if path.suffix != ".spool":
        return not path.name.endswith((".lock", "-wal", "-shm"))
    with closing(connect(path, 1.0)) as connection:
        contents = look_into(connection)
    return bool(contents.waiting or contents.quarantined)


def attack_by_kills(kills: int) -> dict[str, Any]:
    with ExitStack() as stack:
        server = stack.enter_context(EmbeddedPostgres(settings=SMALL | {"max_connections": "100"}))
        cluster = stack.enter_context(SupabaseCluster.on(server))
        database = cluster.create()
        install(database, LOGGED)
        # Its session would not survive the first stop.
        cluster.maintenance.close()
        place = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        promised, started = place / "promised", time.monotonic()
        with promised.open("w") as file, disturbed(server) as disturbances:
            for number, ids in enumerate(kill_recorders(database.dsn(), place, kills, AT_ONCE), 1):
                file.writelines(f"{each}\n" for each in ids)
                if number % 50 == 0 or number == kills:
                    print(
                        f"{number:6} kills, {len(disturbances):3} times the server went,"
                        f" {time.monotonic() - started:5.0f} s",
                        flush=True,
                    )
        with AuditLog(database.dsn(), spool_dir=place, project="test") as log:
            drained = log.drain(600)
        result = counts(database, promised)
        left = [each.name for each in (place / "test").iterdir() if has_waiting_events(each)]
    bad = not drained or result["missing"] or result["doubled"] or left
    return {
        "kills": kills,
        "processes_at_once": AT_ONCE,
        "server_stopped": disturbances.count("stop"),
        "server_killed": disturbances.count("kill"),
        **result,
        "drained": drained,
        "files_left": len(left),
        "seconds": round(time.monotonic() - started),
        "held": not bad,
    }


# Malformed events


def attack_by_malformed(events: int = 100_000) -> dict[str, Any]:
    """One event in ten is malformed, each in one of several ways."""
    ways: list[dict[str, Any]] = [
        {"outcome": "maybe"},
        {"action": ""},
        {"user_id": "nobody"},
        {"occurred_at": "0001-01-01T00:00:00+14:00"},
    ]
    with ExitStack() as stack:
        server = stack.enter_context(EmbeddedPostgres(settings=SMALL))
        cluster = stack.enter_context(SupabaseCluster.on(server))
        database = cluster.create()
        install(database, LOGGED)
        place = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        log = stack.enter_context(AuditLog(database.dsn(), spool_dir=place))
        started = time.monotonic()
        for n in range(events):
            log.record(
                **({"action": "a.b", "metadata": {"n": n}} | (ways[n // 10 % 4] if n % 10 == 0 else {}))
            )
        arrived = log.flush(600)
        stats = log.stats()
        with database.connect() as owner:
            (stored,) = owner.execute("select count(*) from public.audit_logs").fetchone() or (0,)
            (rejects,) = owner.execute("select count(*) from usersync.audit_rejects").fetchone() or (0,)
    return {
        "events": events,
        "accepted": stats.accepted,
        "stored": stored,
        "rejected": rejects,
        "quarantined": stats.quarantined,
        "seconds": round(time.monotonic() - started),
        "held": arrived and stats.accepted == events == stored + rejects and not stats.quarantined,
    }


# Outages: each is a context in which the database does not accept events.


@contextmanager
def stopped(server: EmbeddedPostgres, _: SupabaseDatabase) -> Iterator[None]:
    server.stop()
    yield
    server.start()


@contextmanager
def out_of_connections(server: EmbeddedPostgres, _: SupabaseDatabase) -> Iterator[None]:
    with ExitStack() as sessions:
        first = sessions.enter_context(psycopg.connect(server.dsn(), autocommit=True))
        while True:
            try:
                sessions.enter_context(psycopg.connect(server.dsn()))
            except psycopg.OperationalError:
                found = end_writer(first)
                if not found:
                    break
        yield


@contextmanager
def read_only(_: EmbeddedPostgres, database: SupabaseDatabase) -> Iterator[None]:
    with database.connect() as owner:
        owner.execute(f'alter database "{database.name}" set default_transaction_read_only = on')
        end_writer(owner)
        yield
        owner.execute(f'alter database "{database.name}" reset default_transaction_read_only')


@contextmanager
def full_disk(server: EmbeddedPostgres, _: SupabaseDatabase) -> Iterator[None]:
    """The server's disk is small: see main()."""
    filler = server.log_path.parent.parent / "filler"
    with filler.open("wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(bytes(4096))
    yield
    filler.unlink()


@contextmanager
def locked(_: EmbeddedPostgres, database: SupabaseDatabase) -> Iterator[None]:
    with database.connect() as owner, owner.transaction():
        owner.execute("lock table public.audit_logs in access exclusive mode")
        yield


@contextmanager
def missing(_: EmbeddedPostgres, database: SupabaseDatabase) -> Iterator[None]:
    with database.connect() as owner:
        owner.execute("alter table public.audit_logs rename to elsewhere")
        yield
        owner.execute("alter table public.elsewhere rename to audit_logs")


def end_writer(connection: psycopg.Connection[Any]) -> bool:
    """End the session that sends events. Returns whether there was one."""
    ended = connection.execute(
        "select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'usersync-audit'"
    ).fetchall()
    return bool(ended)


class BlackHole:
    """A proxy that stops forwarding. It runs in another process, so that its work is not measured."""

    def __init__(self, stack: ExitStack, host: str, port: int) -> None:
        command = [sys.executable, str(TESTS / "proxy.py"), host, str(port)]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self._process = stack.enter_context(process)
        assert process.stdout is not None
        self.port = int(process.stdout.readline())

    @contextmanager
    def __call__(self, *_: object) -> Iterator[None]:
        self._switch()
        yield
        self._switch()

    def _switch(self) -> None:
        assert self._process.stdin is not None
        print(file=self._process.stdin, flush=True)


OUTAGES: dict[str, Callable[..., Any]] = {
    "stopped": stopped,
    "black-holed": BlackHole,
    "out of connections": out_of_connections,
    "read-only": read_only,
    "full disk": full_disk,
    "table locked": locked,
    "table missing": missing,
}


class Recording:
    """Records at a steady rate. Stores the duration of each call, and writes the ids to a file."""

    def __init__(self, log: AuditLog, promised: Path, rate: float) -> None:
        self._log = log
        self._file = promised.open("w")
        self._pause = 1 / rate
        self._rate = rate
        self.quarantined = 0

    def run(self, seconds: float) -> dict[str, float]:
        # Allocated and touched in advance: the log's memory is measured, not this object's.
        times = array("Q", [1] * int(seconds * self._rate))
        start, middle, due = resident(), 0, time.perf_counter()
        for n in range(len(times)):
            if n == len(times) // 2:
                middle = resident()
            started = time.perf_counter_ns()
            event_id = self._log.record(
                "product.created", entity=("product", n), after={"name": "Bolt", "price": 3}
            )
            times[n] = time.perf_counter_ns() - started
            self.quarantined += event_id is None
            self._file.write(f"{event_id}\n")
            due += self._pause
            time.sleep(max(0.0, due - time.perf_counter()))
        end = resident()
        self._file.flush()
        ordered = sorted(times)
        return {
            "events": len(times),
            "p50_us": round(ordered[len(ordered) // 2] / 1000, 1),
            "p99_us": round(ordered[len(ordered) * 99 // 100] / 1000, 1),
            "max_ms": round(ordered[-1] / 1e6, 1),
            "kib_grown": (end - start) >> 10,
            # Only the second half counts, because caches of a fixed size fill up in the first.
            "kib_per_100k": round((end - middle) / 1024 / len(times) * 2 * 100_000),
        }


def resident() -> int:
    """This process's memory in bytes."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def measure_outage(kind: str, minutes: float, rate: float, disk: Path | None) -> dict[str, Any]:
    with ExitStack() as stack:
        place = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        server = stack.enter_context(EmbeddedPostgres(disk / "server" if disk else None, settings=SMALL))
        cluster = stack.enter_context(SupabaseCluster.on(server))
        database = cluster.create()
        install(database, LOGGED)
        cluster.maintenance.close()
        outage, dsn = OUTAGES[kind], database.dsn()
        if outage is BlackHole:
            outage = BlackHole(stack, server.host, server.port)
            dsn = dsn.replace(f":{server.port}/", f":{outage.port}/")
        log = stack.enter_context(AuditLog(dsn, spool_dir=place / "spool", send_timeout=5))
        recording = Recording(log, place / "promised", rate)
        recording.run(3)
        before = recording.run(min(BEFORE_S, minutes * 60))
        assert log.flush(60)
        with outage(server, database):
            during = recording.run(minutes * 60)
            kept_out = log.stats()
        started = time.monotonic()
        arrived = log.flush(300)
        settled = time.monotonic() - started
        stats = log.stats()
        result = counts(database, place / "promised")
    lost = stats.dropped + stats.quarantined + stats.rejected + recording.quarantined
    bad = not arrived or lost or result["missing"] or result["doubled"]
    # Otherwise there was no outage.
    bad = bad or kept_out.waiting < during["events"]
    return {
        "outage": kind,
        "minutes": minutes,
        "events_a_second": rate,
        "before": before,
        "during": during,
        "waiting_at_the_end": kept_out.waiting,
        "last_error": kept_out.last_error,
        "seconds_to_arrive": round(settled, 1),
        **result,
        "held": not bad,
    }


def in_a_process_of_its_own(kind: str, arguments: argparse.Namespace) -> dict[str, Any]:
    """Measure one outage, with fresh memory and, for one of them, a disk."""
    command = [sys.executable, __file__, "--outage", kind]
    command += ["--minutes", str(arguments.minutes), "--rate", str(arguments.rate)]
    with tempfile.TemporaryDirectory() as place:
        if kind == "full disk":
            if reason := tiny_disk.why_not():
                return {"outage": kind, "skipped": f"no disk can be mounted here: {reason}"}
            Path(place).chmod(0o711)
            command = tiny_disk.on_disk(Path(place), "400m", [*command, "--disk", place])
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def show_outage(row: dict[str, Any]) -> None:
    if "skipped" in row:
        print(f"{row['outage']:19} {row['skipped']}", flush=True)
        return
    before, during = row["before"], row["during"]
    print(
        f"{row['outage']:19}{before['p50_us']:8.1f}{before['p99_us']:8.1f}{during['p50_us']:8.1f}"
        f"{during['p99_us']:8.1f}{during['max_ms']:8.1f}{during['kib_per_100k']:11,.0f}"
        f"{row['waiting_at_the_end']:9,}{row['seconds_to_arrive']:8.1f}{row['missing']:8}{row['doubled']:8}",
        flush=True,
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=1000, help="number of killed processes, default 1000")
    parser.add_argument("--minutes", type=float, default=2.0, help="duration of each outage, default 2")
    parser.add_argument("--rate", type=float, default=1000.0, help="events a second, default 1000")
    parser.add_argument(
        "--only", nargs="+", choices=["kills", "malformed", *OUTAGES], help="default all of them"
    )
    parser.add_argument("--json", type=Path, help="file for the figures")
    parser.add_argument("--outage", choices=OUTAGES, help=argparse.SUPPRESS)
    parser.add_argument("--disk", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.outage:
        found = measure_outage(arguments.outage, arguments.minutes, arguments.rate, arguments.disk)
        print(json.dumps(found))
        return 0
    wanted = arguments.only or ["kills", "malformed", *OUTAGES]
    result: dict[str, Any] = {"python": platform.python_version(), "cpus": os.cpu_count()}
    rows = []
    attacks = {"kills": lambda: attack_by_kills(arguments.kills), "malformed": attack_by_malformed}
    for name in [each for each in attacks if each in wanted]:
        result[name] = attacks[name]()
        rows.append(result[name])
        print(name, json.dumps(result[name], indent=2), flush=True)
    outages = [kind for kind in OUTAGES if kind in wanted]
    if outages:
        print(f"{'':19}{'before it, µs':>16}{'during it, µs':>16}{'':8}{'KiB grown':>11}{'':9}{'s to':>8}")
        print(
            f"{'':19}{'p50':>8}{'p99':>8}{'p50':>8}{'p99':>8}{'max ms':>8}{'per 100 k':>11}"
            f"{'waiting':>9}{'arrive':>8}{'missing':>8}{'doubled':>8}"
        )
        result["outages"] = []
        for kind in outages:
            row = in_a_process_of_its_own(kind, arguments)
            show_outage(row)
            result["outages"].append(row)
        rows += result["outages"]
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(result, indent=2) + "\n")
    return 0 if all(row.get("held", True) for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
