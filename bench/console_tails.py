"""Fifty pages that follow new events: the memory of the process that serves them. Prints a line a period.

::

    python bench/console_tails.py [--tails 50] [--events 60000] [--a-second 1000]

The server is a process of its own. Each page takes the events that it gets, as a browser does.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import httpx

from measuring import LOGGED
from usersync.embedded import EmbeddedPostgres
from usersync.testing import SupabaseCluster
from usersync.testing.install import install

SERVER = """
import sys, uvicorn
from usersync import console
app = console.app(sys.argv[1], authorize=lambda _: True)
config = uvicorn.Config(app, log_level="error", lifespan="off", port=0)
server = uvicorn.Server(config)
listening = config.bind_socket()
print(listening.getsockname()[1], flush=True)
server.run(sockets=[listening])
"""
RECORD = """
    insert into public.audit_logs (id, occurred_at, action, outcome, actor_type, source, changes)
    select gen_random_uuid(), now(), 'tail.seen', 'succeeded', 'user', 'app',
        jsonb_build_object('text', jsonb_build_array(null, repeat('x', 500)))
    from generate_series(1, %s)
"""
_PERIODS = 12


def main() -> None:
    """Start a server, follow it, record events, and print the memory."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--tails", type=int, default=50)
    parser.add_argument("--events", type=int, default=60_000)
    parser.add_argument("--a-second", type=int, default=1_000)
    options = parser.parse_args()
    with EmbeddedPostgres() as postgres, SupabaseCluster.on(postgres) as cluster:
        database = cluster.create()
        install(database, LOGGED)
        command = [sys.executable, "-c", SERVER, database.dsn()]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
            assert server.stdout is not None
            port = int(server.stdout.readline())
            try:
                asyncio.run(follow(f"http://127.0.0.1:{port}/events/stream", server.pid, database, options))
            finally:
                server.terminate()
        cluster.drop(database)


async def follow(url, pid, database, options) -> None:
    """Open the streams, and record events at a steady rate."""
    got, begun = [0] * options.tails, asyncio.Event()

    async def tail(client: httpx.AsyncClient, number: int) -> None:
        async with client.stream("GET", url) as stream:
            async for line in stream.aiter_lines():
                if line == "event: begin":
                    begun.set()
                got[number] += line.startswith("data: <tr>")

    limits = httpx.Limits(max_connections=options.tails)
    async with httpx.AsyncClient(timeout=60, limits=limits) as client:
        tails = [asyncio.create_task(tail(client, number)) for number in range(options.tails)]
        await begun.wait()
        await asyncio.sleep(3)
        print(f"{'events':>8} {'MiB':>7} {'connections':>11}  events of the slowest page")
        with database.connect() as owner:
            started = time.monotonic()
            for done in range(0, options.events + 1, options.events // _PERIODS):
                await asyncio.sleep(max(started + done / options.a_second - time.monotonic(), 0))
                (open_ones,) = owner.execute(
                    "select count(*) from pg_stat_activity where datname = current_database()"
                ).fetchone()
                print(f"{done:8,} {resident(pid):7.1f} {open_ones - 1:11} {min(got):10,}", flush=True)
                if done < options.events:
                    await record(owner, options)
        for each in tails:
            each.cancel()
        await asyncio.gather(*tails, return_exceptions=True)


async def record(owner, options) -> None:
    """Record the events of a period, a tenth of a second at a time."""
    each = max(options.a_second // 10, 1)
    for _ in range(options.events // _PERIODS // each):
        await asyncio.to_thread(owner.execute, RECORD, [each])
        await asyncio.sleep(0.1)


def resident(pid: int) -> float:
    """The memory of a process in MiB."""
    (pages,) = re.findall(r"^\d+ (\d+)", Path(f"/proc/{pid}/statm").read_text())
    return int(pages) * os.sysconf("SC_PAGE_SIZE") / (1 << 20)


if __name__ == "__main__":
    main()
