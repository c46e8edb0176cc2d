"""Creates, starts and stops one PostgreSQL server. Runs in the supervisor, which is its parent process."""

from __future__ import annotations

import ctypes
import locale
import os
import secrets
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from . import processes
from .home import Home, tail
from .identity import die_with_parent

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from .identity import Identity

HOST = "127.0.0.1"
TIMEOUT_S = 60.0  # seconds for a start with crash recovery, or for a clean shutdown
_TICK = 0.005
_IPC_RMID = 0
_SEGMENTS = Path("/proc/sysvipc/shm")

# Lines of postmaster.pid: a key and an id; starting, ready, stopping, standby.
_SEGMENT_LINE = slice(6, 7)
_STATUS_LINE = slice(7, 8)


class FailedError(Exception):
    """What failed, why, and what to do. The supervisor sends it to the application as text."""

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.hint = hint


class Cluster:
    """One cluster and, while it runs, its postmaster."""

    def __init__(self, home: Home, bin_dir: Path, identity: Identity, settings: Mapping[str, str]) -> None:
        self.port = int(home.state.get("port", 0))  # applications may remember it
        self._home = home
        self._bin_dir = bin_dir
        self._identity = identity
        self._settings = settings
        self._server: subprocess.Popen[bytes] | None = None
        self._environ = _environment()

    @property
    def pid(self) -> int | None:
        """The postmaster's process id while it runs."""
        if self._server is not None and self._server.poll() is not None:
            self._server = None
        return self._server.pid if self._server else None

    def make(self, superuser: str, version: int, *, durable: bool) -> None:
        """Create the cluster if there is none. A rename makes it appear complete."""
        if self._home.pgdata.exists():
            return
        fresh = self._home.root / "pgdata.new"
        password_file = self._home.root / "pwfile"
        shutil.rmtree(fresh, ignore_errors=True)
        fresh.mkdir(mode=0o700)
        self._identity.own(fresh)
        password = secrets.token_urlsafe(24)
        try:
            self._write_private(password_file, password)
            self._initdb(fresh, superuser, password_file, durable=durable)
        finally:
            password_file.unlink(missing_ok=True)
        self._home.write_cluster({"superuser": superuser, "password": password, "version": version})
        fresh.rename(self._home.pgdata)

    def start(self) -> None:
        """Start the server and wait until it accepts connections. Keeps its port if it is still free."""
        if self.pid:
            return
        _end_orphan(self._home.pgdata)
        deadline = time.monotonic() + TIMEOUT_S
        for port in _ports(self.port):
            if self._started(port, deadline):
                self.port = port
                return
        raise FailedError(f"No free TCP port was found on {HOST}.")

    def stop(self) -> None:
        """Shut down cleanly: end sessions, write committed data. After a minute, shut down immediately."""
        for number, timeout in ((signal.SIGINT, TIMEOUT_S), (signal.SIGQUIT, 5.0), (signal.SIGKILL, None)):
            if self._server is None:
                return
            self._server.send_signal(number)
            try:
                self._server.wait(timeout)
            except subprocess.TimeoutExpired:
                continue
            self._server = None

    def kill(self) -> None:
        if self._server:
            self._server.kill()
            self._server.wait()
            self._server = None

    def _write_private(self, path: Path, text: str) -> None:
        path.unlink(missing_ok=True)
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(text)
        self._identity.own(path)

    def _initdb(self, target: Path, superuser: str, password_file: Path, *, durable: bool) -> None:
        options = [
            f"--pgdata={target}",
            f"--username={superuser}",
            f"--pwfile={password_file}",
            f"--locale={self._environ['LC_ALL']}",
            "--encoding=UTF8",
            "--auth=scram-sha-256",
            "--no-instructions",
        ]
        output = self._run([self._bin_dir / "initdb", *options, *([] if durable else ["--no-sync"])])
        if output is not None:
            shutil.rmtree(target, ignore_errors=True)
            raise FailedError(f"initdb could not make a cluster in {self._home.root}:\n{output}")

    def _run(self, command: Sequence[str | Path]) -> str | None:
        """None if the command succeeded, else the end of its output."""
        process = self._popen(command, subprocess.PIPE)
        said, _ = process.communicate()
        lines = said.decode(errors="replace").splitlines()[-15:]
        return None if process.returncode == 0 else "\n".join(lines)

    def _started(self, port: int, deadline: float) -> bool:
        """Whether the server runs on this port; False if the port is in use."""
        while True:
            start_of_log = self._home.log.stat().st_size
            self._spawn(port)
            if self._await_ready(deadline):
                return True
            said = tail(self._home.log, start_of_log)
            if "could not create any TCP/IP sockets" in said:
                return False
            if "pre-existing shared memory block" not in said or time.monotonic() > deadline:
                raise FailedError(f"PostgreSQL did not start on {self._home.pgdata}:\n{said}")
            time.sleep(10 * _TICK)  # backends of a killed server are still on their way out

    def _spawn(self, port: int) -> None:
        # The messages that _started() reads are in English.
        enforced = {
            "listen_addresses": HOST, "port": str(port), "unix_socket_directories": "", "lc_messages": "C"
        }  # fmt: skip
        settings = {**self._settings, **enforced}
        options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        with self._home.log.open("ab") as log:
            self._server = self._popen([self._bin_dir / "postgres", "-D", self._home.pgdata, *options], log)

    def _popen(self, command: Sequence[str | Path], output: IO[bytes] | int) -> subprocess.Popen[bytes]:
        return subprocess.Popen(  # noqa: S603  — binaries found by us
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=self._environ,
            cwd=self._home.root if self._identity.uid == os.geteuid() else "/",
            preexec_fn=_child_setup(self._identity),  # noqa: PLW1509  — the supervisor has one thread
        )

    def _await_ready(self, deadline: float) -> bool:
        """Whether the server became ready; False if it ended instead."""
        while pid := self.pid:
            lines = _pid_file(self._home.pgdata)
            if lines[:1] == [str(pid)] and lines[_STATUS_LINE] == ["ready"]:
                return True
            if time.monotonic() > deadline:
                self.stop()
                raise FailedError(
                    f"PostgreSQL did not become ready in {TIMEOUT_S:.0f} s.\n{tail(self._home.log)}"
                )
            time.sleep(_TICK)
        return False


def remove(home: Home) -> None:
    """Delete the directory of a server, and the shared memory that a killed server left."""
    _end_orphan(home.pgdata)
    deadline = time.monotonic() + 5
    while processes.any_serving(home.pgdata) and time.monotonic() < deadline:
        time.sleep(_TICK)  # the last backends of a killed server
    _free_shared_memory(home.pgdata)
    shutil.rmtree(home.root, ignore_errors=True)


def _child_setup(identity: Identity) -> Callable[[], None]:
    supervisor = os.getpid()

    def setup() -> None:
        identity.assume()
        die_with_parent(supervisor)  # a change of account would clear it, so it comes last

    return setup


def _ports(preferred: int) -> Iterator[int]:
    """Ports to try: the previous one, then free ones. Another process may take any of them first."""
    if preferred:
        yield preferred
    for _ in range(50):
        with socket.socket() as probe:
            probe.bind((HOST, 0))
            port = int(probe.getsockname()[1])
        yield port


def _environment() -> dict[str, str]:
    """The caller's environment without variables that would change the server: PG* and the locale."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PG", "LC_", "LANG"))}
    return {**kept, "LC_ALL": _utf8_locale()}


def _utf8_locale() -> str:
    for name in ("C.UTF-8", "en_US.UTF-8"):
        try:
            locale.setlocale(locale.LC_ALL, name)
        except locale.Error:
            continue
        return name
    return "C"


def _pid_file(pgdata: Path) -> list[str]:
    try:
        text = (pgdata / "postmaster.pid").read_text(errors="replace")
    except OSError:
        return []
    return [line.strip() for line in text.splitlines()]


def _recorded_pid(pgdata: Path) -> int | None:
    lines = _pid_file(pgdata)
    return int(lines[0]) if lines and lines[0].isdigit() else None


def _end_orphan(pgdata: Path) -> None:
    """End a server whose supervisor was killed, and remove a stale pid file."""
    pid = _recorded_pid(pgdata)
    if pid is None:
        return
    if processes.serves(pid, pgdata) and processes.alive(pid):
        _shut_down(pid)
    # PostgreSQL itself decides whether a killed server's pid file is stale. But it mistakes a zombie, or an
    # unrelated process with the same pid, for a running server.
    if _recorded_pid(pgdata) == pid and processes.exists(pid):
        deadline = time.monotonic() + 5
        while processes.any_serving(pgdata) and time.monotonic() < deadline:
            time.sleep(_TICK)
        _free_shared_memory(pgdata)
        (pgdata / "postmaster.pid").unlink(missing_ok=True)


def _shut_down(pid: int) -> None:
    for number, timeout in ((signal.SIGINT, TIMEOUT_S), (signal.SIGKILL, 5.0)):
        deadline = time.monotonic() + timeout
        os.kill(pid, number)
        while processes.alive(pid):
            if time.monotonic() > deadline:
                break
            time.sleep(_TICK)
        else:
            return


def _free_shared_memory(pgdata: Path) -> None:
    """A killed server leaves its pid file and a small System V segment; the file names the segment.

    The account that runs the server wrote that file, so the segment must be unused and that account's own.
    """
    segment = " ".join(_pid_file(pgdata)[_SEGMENT_LINE]).split()[-1:]
    if segment and _segments().get(segment[0]) == ("0", str(pgdata.stat().st_uid)):
        ctypes.CDLL(None).shmctl(int(segment[0]), _IPC_RMID, None)


def _segments() -> dict[str, tuple[str, str]]:
    """The number of processes and the owner, by segment id. Empty if the kernel does not list them."""
    try:
        rows = [line.split() for line in _SEGMENTS.read_text().splitlines()[1:]]
    except OSError:
        return {}
    return {row[1]: (row[6], row[7]) for row in rows}


def described(error: Exception) -> dict[str, Any]:
    """An error in the form that the application reads."""
    return {"message": str(error), "hint": getattr(error, "hint", None)}
