"""The memory of the console's process while fifty pages follow new events. Prints a line a period.

::

    python bench/console_tails.py [--tails 50] [--events 60000] [--a-second 1000]
    python bench/console_tails.py --minutes 60 [--a-second 5]

The server is a process of its own. Each page takes the events that it gets, and connects again after the
end of a stream, as a browser does. With ``--minutes``, a line is of five minutes.
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
_PERIODS, _PERIOD_S = 12, 300
#: As a browser does, after the time that the server asks for.
_RETRY_S = 3


def main() -> None:
    """Start a server, follow it, record events, and print the memory."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--tails", type=int, default=50)
    parser.add_argument("--events", type=int, default=60_000)
    parser.add_argument("--a-second", type=int, default=None, help="1000, with --minutes 5")
    parser.add_argument("--minutes", type=int, help="how long, instead of --events")
    options = parser.parse_args()
    options.a_second = options.a_second or (5 if options.minutes else 1_000)
    options.periods = max(options.minutes * 60 // _PERIOD_S, 1) if options.minutes else _PERIODS
    if options.minutes:
        options.events = options.minutes * 60 * options.a_second
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


class Tails:
    """The pages, and what they have got."""

    def __init__(self, url: str, tails: int) -> None:
        self.url = url
        self.got, self.begun, self.streams = [0] * tails, asyncio.Event(), 0

    async def follow(self, client: httpx.AsyncClient, number: int) -> None:
        """Follow as one page: after the end of a stream, connect again with the last position."""
        position: dict[str, str] = {}
        while True:
            self.streams += 1
            async with client.stream("GET", self.url, headers=position) as stream:
                async for line in stream.aiter_lines():
                    if line == "event: begin":
                        self.begun.set()
                    if line.startswith("id: "):
                        position["Last-Event-ID"] = line.removeprefix("id: ")
                    self.got[number] += line.startswith("data: <tr>")
            await asyncio.sleep(_RETRY_S)


async def follow(url, pid, database, options) -> None:
    """Open the streams, and record events at a steady rate."""
    pages = Tails(url, options.tails)
    limits = httpx.Limits(max_connections=options.tails)
    async with httpx.AsyncClient(timeout=60, limits=limits) as client:
        tails = [asyncio.create_task(pages.follow(client, number)) for number in range(options.tails)]
        await pages.begun.wait()
        await asyncio.sleep(3)
        print(f"{'minutes':>7} {'events':>8} {'MiB':>7} {'connections':>11} {'streams':>7}  least of a page")
        with database.connect() as owner:
            started = time.monotonic()
            for period in range(options.periods + 1):
                done = options.events * period // options.periods
                await asyncio.sleep(max(started + done / options.a_second - time.monotonic(), 0))
                minutes = (time.monotonic() - started) / 60
                (open_ones,) = owner.execute(
                    "select count(*) from pg_stat_activity where datname = current_database()"
                ).fetchone()
                print(f"{minutes:7.1f} {done:8,} {resident(pid):7.1f} {open_ones - 1:11}", end=" ")
                print(f"{pages.streams:7,} {min(pages.got):10,}", flush=True)
                if period < options.periods:
                    await record(owner, options)
        for each in tails:
            each.cancel()
        for failed in await asyncio.gather(*tails, return_exceptions=True):
            if not isinstance(failed, asyncio.CancelledError):
                print(f"a page ended early: {failed!r}")


async def record(owner, options) -> None:
    """Record the events of a period, those of a tenth of a second at a time, or one event."""
    each = max(options.a_second // 10, 1)
    started = time.monotonic()
    for done in range(0, options.events // options.periods, each):
        await asyncio.sleep(max(started + done / options.a_second - time.monotonic(), 0))
        await asyncio.to_thread(owner.execute, RECORD, [each])


def resident(pid: int) -> float:
    """The memory of a process in MiB."""
    (pages,) = re.findall(r"^\d+ (\d+)", Path(f"/proc/{pid}/statm").read_text())
    return int(pages) * os.sysconf("SC_PAGE_SIZE") / (1 << 20)


if __name__ == "__main__":
    main()
