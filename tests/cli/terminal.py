"""Runs the command on a pseudo terminal."""

from __future__ import annotations

import contextlib
import os
import pty
import re
import select
import subprocess
import sys
import time
from typing import Any, Self

_ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


class Terminal:
    """The command on a pseudo terminal with 80 columns. Its output is in ``seen``."""

    def __init__(self, *arguments: object, **env: str) -> None:
        self._screen, inside = pty.openpty()
        environment = {**os.environ, "TERM": "xterm", "COLUMNS": "80", "LINES": "24", **env}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "usersync", *map(str, arguments)],
            stdin=inside, stdout=inside, stderr=inside, env=environment, start_new_session=True,
        )  # fmt: skip
        os.close(inside)
        self.seen = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self._screen)

    @property
    def text(self) -> str:
        """The output, without colours."""
        return _ESCAPES.sub("", self.seen).replace("\r\n", "\n")

    def wait_for(self, words: str, *, seconds: float = 90) -> None:
        """Read until ``words`` appear in the output."""
        deadline = time.monotonic() + seconds
        while words not in self.text:
            if not self._read(deadline):
                raise AssertionError(f"{words!r} was not shown; this was: {self.text}")

    def type(self, text: str) -> None:
        os.write(self._screen, text.encode())

    def interrupt(self, *, seconds: float = 90) -> int:
        """Press Ctrl-C until the command ends, and return its exit code. An early Ctrl-C has no effect."""
        deadline = time.monotonic() + seconds
        while self.process.poll() is None and time.monotonic() < deadline:
            self.process.send_signal(2)
            # A second Ctrl-C during the clean-up would give another exit code.
            next_attempt = time.monotonic() + 5
            while self._read(next_attempt):
                pass
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(max(next_attempt - time.monotonic(), 0.1))
        return self.end()

    def end(self, *, seconds: float = 90) -> int:
        """Read to the end, and return the exit code."""
        deadline = time.monotonic() + seconds
        while self._read(deadline):
            pass
        return self.process.wait(max(deadline - time.monotonic(), 0.1))

    def _read(self, deadline: float) -> bool:
        ready, _, _ = select.select([self._screen], [], [], max(deadline - time.monotonic(), 0))
        read: Any = b""
        if ready:
            with contextlib.suppress(OSError):  # EIO: the other side is closed
                read = os.read(self._screen, 65_536)
        self.seen += read.decode(errors="replace")
        return bool(read)
