"""NATS servers with JetStream on free ports, in temporary directories."""

from __future__ import annotations

import asyncio
import json
import secrets
import signal
import socket
import subprocess
import sysconfig
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from usersync.transports.jetstream.address import StreamAddress
from usersync.transports.jetstream.connection import Connection, StreamError, connect

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

BINARY = Path(sysconfig.get_path("scripts")) / "nats-server"

_START_S = 30


@dataclass
class NatsServer:
    """One server. ``options`` are further lines of its configuration file; ``prefix`` begins its command."""

    directory: Path
    options: str = ""
    prefix: list[str] = field(default_factory=list)
    port: int = 0
    process: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    @property
    def url(self) -> str:
        return f"nats://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start the server. A restart uses the same port and files."""
        self.directory.mkdir(parents=True, exist_ok=True)
        if self.port:
            self._start()
            return
        for _ in range(5):
            self.port = free_port()
            try:
                self._start()
            except RuntimeError as error:
                if "address already in use" not in str(error):
                    raise
            else:
                return
        raise RuntimeError("other programs took the ports first")

    def _start(self) -> None:
        config = self.directory / "nats.conf"
        config.write_text(
            f'listen: "127.0.0.1:{self.port}"\njetstream {{ store_dir: "{self.directory}/js" }}\n'
            f"{self.options}\n"
        )
        log = (self.directory / "log").open("ab")
        with log:
            self.process = subprocess.Popen([*self.prefix, BINARY, "-c", config], stdout=log, stderr=log)
        deadline = time.monotonic() + _START_S
        while not self.is_listening():
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError((self.directory / "log").read_text()[-2000:])
            time.sleep(0.01)

    def is_listening(self) -> bool:
        with suppress(OSError), socket.create_connection(("127.0.0.1", self.port), timeout=1):
            return True
        return False

    def kill(self) -> None:
        """Kill the server with SIGKILL, so that it does not close its connections."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        self._end(signal.SIGTERM)

    def _end(self, how: signal.Signals) -> None:
        process, self.process = self.process, None
        if process is not None:
            process.send_signal(how)
            process.wait()

    def run(self, work: Callable[[Connection], Awaitable[Any]]) -> Any:
        """Run a coroutine with a connection to this server."""
        return run_with(self.url, work)

    def ask(self, api_subject: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        """Send a request to JetStream's API, for example ``STREAM.INFO.name``."""
        return self.run(lambda connection: connection.request(api_subject, body))

    def delete_streams(self) -> None:
        for name in self.ask("STREAM.NAMES").get("streams") or ():
            self.ask(f"STREAM.DELETE.{name}")

    def messages(self, stream: str) -> list[tuple[str, dict[str, str], bytes]]:
        """Subject, headers and body of every message."""

        async def read(connection: Connection) -> list[tuple[str, dict[str, str], bytes]]:
            state = (await connection.request(f"STREAM.INFO.{stream}"))["state"]
            found = []
            for number in range(state["first_seq"], state["last_seq"] + 1):
                message = await connection.streams.get_msg(stream, number)
                found.append((message.subject, message.headers or {}, message.data))
            return found

        return self.run(read)


def run_with(url: str, work: Callable[[Connection], Awaitable[Any]]) -> Any:
    async def connected() -> Any:
        connection = await connect(StreamAddress.parse(url), "test")
        try:
            return await work(connection)
        finally:
            await connection.close()

    return asyncio.run(connected())


def free_port() -> int:
    """A free port below the range of ephemeral ports, so that no outgoing connection takes it meanwhile."""
    while True:
        port = 12_000 + secrets.randbelow(18_000)
        with socket.socket() as found, suppress(OSError):
            found.bind(("127.0.0.1", port))
            return port


@contextmanager
def nats_server(directory: Path, options: str = "", prefix: list[str] | None = None) -> Iterator[NatsServer]:
    server = NatsServer(directory, options, prefix or [])
    try:
        server.start()
        yield server
    finally:
        server.kill()


@dataclass
class NatsCluster:
    """Three servers that keep three copies of each stream."""

    servers: list[NatsServer]

    @property
    def url(self) -> str:
        return f"nats://{','.join(f'127.0.0.1:{each.port}' for each in self.servers)}"

    @property
    def running_server(self) -> NatsServer:
        return next(each for each in self.servers if each.process is not None)

    def leader(self, stream: str) -> NatsServer:
        """The server that leads a stream."""
        name = self.running_server.ask(f"STREAM.INFO.{stream}")["cluster"]["leader"]
        return self.servers[int(name.removeprefix("n"))]

    def wait_ready(self) -> None:
        """Wait until the cluster has a leader that can create streams."""
        deadline = time.monotonic() + _START_S
        while True:
            with suppress(StreamError):
                info = self.running_server.ask("INFO")
                if "error" not in info:
                    return
            if time.monotonic() > deadline:
                raise RuntimeError("the cluster has no leader")
            time.sleep(0.05)


@contextmanager
def nats_cluster(directory: Path) -> Iterator[NatsCluster]:
    routes = [free_port() for _ in range(3)]
    told = ", ".join(f'"nats://127.0.0.1:{each}"' for each in routes)
    servers = [
        NatsServer(
            directory / f"n{number}",
            f'server_name: n{number}\ncluster {{ name: c, listen: "127.0.0.1:{route}", routes: [{told}] }}',
        )
        for number, route in enumerate(routes)
    ]
    try:
        for each in servers:
            each.start()
        cluster = NatsCluster(servers)
        cluster.wait_ready()
        yield cluster
    finally:
        for each in servers:
            each.kill()


def ids_of(messages: list[tuple[str, dict[str, str], bytes]]) -> list[str]:
    """The ids of messages."""
    return [headers["Nats-Msg-Id"] for _, headers, _ in messages]


def as_json(body: bytes) -> Any:
    return json.loads(body)
