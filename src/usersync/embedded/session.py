"""One process's use of a server: joins or starts the supervisor, sends it commands, and leaves."""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import secrets
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from usersync.embedded import descriptors
from usersync.embedded.cluster import remove
from usersync.embedded.home import Home, read_pipe, tail, try_lock
from usersync.errors import EmbeddedPostgresError

if TYPE_CHECKING:
    from collections.abc import Iterator

# Longer than the supervisor's own timeout, so that its error message arrives first.
_TIMEOUT_S = 90.0
_TICK = 0.004

# The supervisor's modules without the packages around them: it starts in 0.03 s, needs nothing from
# site-packages, and no file of the application's working directory can take a module's place.
_BOOTSTRAP = """
import sys, types
package = types.ModuleType("usersync_embedded")
package.__path__ = [sys.argv[1]]
sys.modules[package.__name__] = package
from usersync_embedded.supervisor import main
main()
"""


_open: set[Session] = set()


class Session:
    """Open from construction until ``close``; belongs to the process that made it."""

    def __init__(self, home: Home, request: dict[str, Any]) -> None:
        self.home = home
        self._request = request
        self._supervisor: subprocess.Popen[bytes] | None = None
        self._pipe: int | None = None

    @property
    def mine(self) -> bool:
        """Whether this process holds the server: a fork of one that does has a copy that must do nothing."""
        return self._pipe is not None

    def join(self) -> dict[str, Any]:
        """Hold the server, started if need be; its state. Blocks while it starts."""
        with self._locked():
            self._hold()
            return self._command("start")

    def command(self, verb: str) -> dict[str, Any]:
        """Have the supervisor carry out stop, start, restart or kill; the state after it."""
        with self._locked():
            return self._command(verb)

    def close(self) -> None:
        """Leave the server. The last process waits until the server has ended."""
        if not self.mine:
            return
        last = False
        try:
            with contextlib.suppress(FileNotFoundError), self._locked():
                self._release()
                last = not self._others()
        finally:
            self._release()
        if last:
            self._await_end()
        self._part()

    def abandon(self) -> None:
        """Leave the server without waiting."""
        self._release()
        self._part()

    def forget(self) -> None:
        """In a forked child: the pipe and the supervisor belong to the parent."""
        self._pipe = None
        if self._supervisor:
            self._supervisor.returncode = 0  # else Popen warns that its child still runs
            self._supervisor = None

    def _hold(self) -> None:
        """Open the pipe for writing; opening it for reading first keeps that from blocking."""
        with contextlib.suppress(FileExistsError):
            os.mkfifo(self.home.control, 0o600)
        with descriptors.opened(self.home.control, os.O_RDONLY | os.O_NONBLOCK):
            self._pipe = descriptors.open_private(self.home.control, os.O_WRONLY)
        _open.add(self)

    def _release(self) -> None:
        _open.discard(self)
        if self._pipe is not None:
            descriptors.close(self._pipe)
            self._pipe = None

    def _others(self) -> bool:
        """Whether another process holds the pipe. Call it under the lock, so that no command is in the
        pipe.
        """
        with descriptors.opened(self.home.control, os.O_RDONLY | os.O_NONBLOCK) as pipe:
            return read_pipe(pipe) is None

    def _command(self, verb: str) -> dict[str, Any]:
        number = secrets.token_hex(8)
        if self._supervised():
            os.write(self._writable(), f"{number} {verb}\n".encode())
        elif verb in {"start", "restart"}:
            self._supervise(number)
        else:
            return {}  # the supervisor was killed, and the server ended with it
        return self._answer(number)

    def _writable(self) -> int:
        if self._pipe is None:
            raise EmbeddedPostgresError("The server was closed.", hint="call start() first")
        return self._pipe

    def _supervised(self) -> bool:
        """Whether a supervisor runs. Call it under the lock, so that none is just starting."""
        with descriptors.opened(self.home.supervisor_lock, os.O_RDWR | os.O_CREAT) as lock:
            return not try_lock(lock)

    def _supervise(self, number: str) -> None:
        """Start a supervisor, which inherits the lock that says that there is one."""
        self._part()
        with (
            descriptors.opened(self.home.supervisor_lock, os.O_RDWR | os.O_CREAT) as lock,
            descriptors.opened(self.home.log, os.O_WRONLY | os.O_APPEND | os.O_CREAT) as log,
        ):
            try_lock(lock)
            self._supervisor = subprocess.Popen(  # noqa: S603  — this interpreter, our own code
                [sys.executable, "-I", "-S", "-c", _BOOTSTRAP, str(Path(__file__).parent)],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                pass_fds=[lock],
                start_new_session=True,  # Ctrl-C is for the application
            )
            with contextlib.suppress(BrokenPipeError):
                self._send(self._supervisor, {**self._request, "id": number, "lock_fd": lock})

    @staticmethod
    def _send(supervisor: subprocess.Popen[bytes], request: dict[str, Any]) -> None:
        if supervisor.stdin:
            with supervisor.stdin as stdin:
                stdin.write(f"{json.dumps(request)}\n".encode())

    def _answer(self, number: str) -> dict[str, Any]:
        deadline = time.monotonic() + _TIMEOUT_S
        while (state := self.home.state).get("answered") != number:
            if time.monotonic() > deadline or not self._supervised():
                raise EmbeddedPostgresError(
                    f"The supervisor of {self.home.root} did not answer.\n{tail(self.home.log)}",
                    hint="try again; if it stays, remove that directory",
                )
            time.sleep(_TICK)
        if state["error"]:
            raise EmbeddedPostgresError(state["error"]["message"], hint=state["error"]["hint"])
        return {**self.home.cluster, **state}

    def _await_end(self) -> None:
        deadline = time.monotonic() + _TIMEOUT_S
        with contextlib.suppress(FileNotFoundError):
            while self._supervised_quietly() and time.monotonic() < deadline:
                time.sleep(_TICK)
        if self._supervisor:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._supervisor.wait(_TIMEOUT_S)
        if self._request["temporary"]:
            # The supervisor has removed it, unless it was killed.
            remove(self.home)

    def _supervised_quietly(self) -> bool:
        """As _supervised, without making the file again after the directory went."""
        with descriptors.opened(self.home.supervisor_lock, os.O_RDWR) as lock:
            return not try_lock(lock)

    def _part(self) -> None:
        """Let a thread reap the supervisor, whenever it ends: others may go on using the server."""
        supervisor, self._supervisor = self._supervisor, None
        if supervisor is None or supervisor.poll() is not None:
            return
        try:
            threading.Thread(target=supervisor.wait, name="usersync-reap", daemon=True).start()
        except RuntimeError:  # the interpreter is ending, and process 1 will reap it
            supervisor.returncode = 0

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        deadline = time.monotonic() + _TIMEOUT_S
        with descriptors.opened(self.home.lock, os.O_RDWR | os.O_CREAT) as lock:
            while not try_lock(lock):
                if time.monotonic() > deadline:
                    raise EmbeddedPostgresError(f"{self.home.lock} stays locked by another process.")
                time.sleep(_TICK)
            yield


def _close_all() -> None:
    """At exit, wait for the servers: in a container, whatever outlives process 1 is killed."""
    for session in tuple(_open):
        session.close()


def _forget_all() -> None:
    while _open:
        _open.pop().forget()


atexit.register(_close_all)
os.register_at_fork(after_in_child=_forget_all)
