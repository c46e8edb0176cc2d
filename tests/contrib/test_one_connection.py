"""Requests on one connection do not share their contexts.

A proxy keeps connections open and sends requests of all clients over them. uvicorn starts a request inside
the context of the previous one if requests are pipelined, or after an upload for which it stopped reading.
"""

from __future__ import annotations

import http.client
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack, closing, contextmanager
from functools import cache, partial
from pathlib import Path
from textwrap import dedent
from typing import TYPE_CHECKING, Any

import pytest

from hooks_skips import skip_without

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PYTHON = (sys.executable, "-m")
UVICORN = (*PYTHON, "uvicorn", "echoing:asgi", "--fd", "{fd}", "--no-access-log", "--lifespan", "off")
GUNICORN = (*PYTHON, "gunicorn", "echoing:wsgi", "--bind", "fd://{fd}")
SERVERS = {
    "uvicorn-h11-asyncio": (*UVICORN, "--http", "h11", "--loop", "asyncio"),
    "uvicorn-h11-uvloop": (*UVICORN, "--http", "h11", "--loop", "uvloop"),
    "uvicorn-httptools-asyncio": (*UVICORN, "--http", "httptools", "--loop", "asyncio"),
    "uvicorn-httptools-uvloop": (*UVICORN, "--http", "httptools", "--loop", "uvloop"),
    "hypercorn": (*PYTHON, "hypercorn", "echoing:asgi", "--bind", "fd://{fd}"),
    "daphne": (*PYTHON, "daphne", "echoing:asgi", "--fd", "{fd}"),
    "gunicorn-threads": (*GUNICORN, "--worker-class", "gthread", "--threads", "2"),
    "gunicorn-gevent": (*GUNICORN, "--worker-class", "gevent"),
}
UPLOAD = b"x" * 400_000


@contextmanager
def served(command: tuple[str, ...], home: Path) -> Iterator[tuple[str, int]]:
    """The host and port of a server. The test owns the listening socket."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        fd = listener.fileno()
        environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(home),
            "PYTHONPATH": str(Path(__file__).parent),
        }
        process = subprocess.Popen(
            [part.format(fd=fd) for part in command], env=environment, cwd=home, pass_fds=[fd]
        )
        try:
            yield listener.getsockname()
        finally:
            process.terminate()
            process.wait(60)


@pytest.fixture(scope="module")
def _started(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], tuple[str, int]]]:
    """The address of a server. Each is started once."""
    with ExitStack() as stack:

        @cache
        def start(name: str) -> tuple[str, int]:
            return stack.enter_context(served(SERVERS[name], tmp_path_factory.mktemp("server")))

        yield start


@pytest.fixture(params=SERVERS)
def address(request: pytest.FixtureRequest, _started: Callable[[str], tuple[str, int]]) -> tuple[str, int]:
    return _started(request.param)


@pytest.fixture
def connection(address: tuple[str, int]) -> Iterator[socket.socket]:
    with closing(socket.create_connection(address, timeout=60)) as connection:
        yield connection


def request(actor: str | None = None, body: bytes = b"") -> bytes:
    named = f"X-Actor: {actor}\r\n" if actor else ""
    return f"POST / HTTP/1.1\r\nHost: test\r\n{named}Content-Length: {len(body)}\r\n\r\n".encode() + body


def answers(connection: socket.socket, count: int) -> list[dict[str, Any]]:
    """The next answers on a connection; one file object, so that no buffered data is lost."""
    found = []
    with connection.makefile("rb") as stream:
        for _ in range(count):
            assert stream.readline().split()[1] == b"200"
            headers = http.client.parse_headers(stream)
            found.append(json.loads(stream.read(int(headers["Content-Length"]))))
    return found


def assert_anonymous(context: dict[str, Any]) -> None:
    assert context["actor_type"] == "anonymous"
    assert not {"actor_id", "metadata"} & context.keys(), context


NGINX = """
    daemon off;
    worker_processes 1;
    pid "{home}/pid";
    error_log "{home}/errors";
    events {{}}
    http {{
        access_log off;
        client_body_temp_path "{home}/body";
        proxy_temp_path "{home}/proxy";
        fastcgi_temp_path "{home}/fastcgi";
        uwsgi_temp_path "{home}/uwsgi";
        scgi_temp_path "{home}/scgi";
        client_max_body_size 10m;
        upstream application {{ server {host}:{port}; keepalive 1; }}
        server {{
            listen "unix:{home}/socket";
            location / {{
                proxy_pass http://application;
                proxy_http_version 1.1;
                proxy_set_header Connection "";
            }}
        }}
    }}
"""


@contextmanager
def behind_nginx(address: tuple[str, int], home: Path) -> Iterator[Path]:
    """The socket of a real nginx that sends all requests over one connection."""
    binary = shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin") or skip_without("nginx")
    configuration = home / "nginx.conf"
    configuration.write_text(dedent(NGINX).format(home=home, host=address[0], port=address[1]))
    if os.geteuid() == 0:
        configuration.write_text("user root;\n" + configuration.read_text())
    with subprocess.Popen([binary, "-c", configuration, "-e", home / "errors"]) as process:
        try:
            wait_until(partial(is_served, home / "socket"), process, home / "errors")
            yield home / "socket"
        finally:
            process.terminate()


def is_served(path: Path) -> bool:
    """Whether a server listens: the socket's file exists a moment earlier."""
    with socket.socket(socket.AF_UNIX) as client:
        return client.connect_ex(str(path)) == 0


def wait_until(ready: Callable[[], bool], process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 90
    while not ready():
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.01)


def test_clients_of_a_proxy_have_their_own_contexts(address):
    with (
        # Not tmp_path: the path of a socket has at most about a hundred characters.
        tempfile.TemporaryDirectory(prefix="usersync-") as home,
        behind_nginx(address, Path(home)) as proxy,
    ):
        found = [through(proxy, request("ada", UPLOAD)), *(through(proxy, request()) for _ in range(3))]
    assert found[0]["actor_id"] == "ada"
    for context in found[1:]:
        assert_anonymous(context)


def through(proxy: Path, sent: bytes) -> dict[str, Any]:
    """The answer to a client's only request."""
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(60)
        client.connect(str(proxy))
        client.sendall(sent)
        (context,) = answers(client, 1)
    return context


def test_a_request_after_an_upload_is_anonymous(connection):
    connection.sendall(request("ada", UPLOAD))
    (first,) = answers(connection, 1)
    assert first["actor_id"] == "ada"
    seen = {first["request_id"]}
    for _ in range(3):
        connection.sendall(request())
        (context,) = answers(connection, 1)
        assert_anonymous(context)
        seen.add(context["request_id"])
    connection.sendall(request("bob"))
    (last,) = answers(connection, 1)
    assert (last["actor_id"], last["metadata"]) == ("bob", {"tenant": "bob"})
    assert len(seen) == 4


def test_pipelined_requests_have_their_own_contexts(connection):
    connection.sendall(request("ada") + request() + request("bob") + request())
    found = answers(connection, 4)
    assert [context.get("actor_id") for context in found] == ["ada", None, "bob", None]
    assert_anonymous(found[1])
    assert_anonymous(found[3])
    assert len({context["request_id"] for context in found}) == 4
