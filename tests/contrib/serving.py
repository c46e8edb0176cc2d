"""A web application in a separate process, behind a socket that outlives it."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any, Self

import httpx2

EXAMPLES = Path(__file__).parents[2] / "examples"


class Served:
    """``module:app`` of a directory, served by uvicorn; can be started repeatedly.

    The test owns the listening socket: a client that connects while no worker runs waits for the next one, as
    behind a supervisor. ``python`` is the interpreter with the application's packages.
    """

    def __init__(
        self,
        directory: Path,
        app: str,
        environment: dict[str, str],
        *options: str,
        python: str | Path = sys.executable,
    ) -> None:
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}"
        self._command = [
            str(python), "-m", "uvicorn", "--app-dir", str(directory), app,
            "--fd", str(self._socket.fileno()), "--no-access-log", *options,
        ]  # fmt: skip
        self._environment = {"PATH": os.environ["PATH"], **environment}
        self._directory = environment["HOME"]
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self.process = subprocess.Popen(
            self._command, env=self._environment, cwd=self._directory, pass_fds=[self._socket.fileno()]
        )

    def end(self, by: signal.Signals = signal.SIGTERM) -> int:
        """Send a signal and wait; returns the exit code."""
        assert self.process is not None
        with contextlib.suppress(ProcessLookupError):
            self.process.send_signal(by)
        return self.process.wait(60)

    def client(self, **options: Any) -> httpx2.Client:
        return httpx2.Client(base_url=self.url, timeout=60, **options)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.end(signal.SIGKILL)
        self._socket.close()


def environment(backend: Any, home: Path) -> dict[str, str]:
    """The environment of the application."""
    return {
        "HOME": str(home),
        "SUPABASE_URL": backend.tokens.url,
        "SUPABASE_DB_URL": backend.dsn,
        "USERSYNC_SPOOL_DIR": str(home / "spool"),
        "PYTHONWARNINGS": "error",
    }
