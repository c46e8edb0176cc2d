"""The process that owns a server: the parent of ``postgres``, and the reader of the pipe.

The processes that use the server hold the pipe open and write commands into it. The supervisor runs in its
own session, without a terminal. It runs the commands, and ends the server when no process holds the pipe
open.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import pwd
import select
import shutil
import signal
import sys
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import identity as identities
from .cluster import Cluster, FailedError, described, remove
from .home import Home, read_pipe, try_lock

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .identity import Identity

# The pipe's end is an event; looking now and then as well costs nothing and trusts no kernel.
_LOOK = 1.0


def main() -> None:
    """Serve the request on standard input until no process uses the server."""
    request = json.loads(sys.stdin.readline())
    os.set_inheritable(request["lock_fd"], False)
    os.umask(0o077)
    os.chdir("/")
    home = Home(Path(request["root"]))
    Supervisor(home, request).run()


class Supervisor:
    """State of the supervisor: the cluster once it could be prepared, and what it told its users."""

    def __init__(self, home: Home, request: dict[str, Any]) -> None:
        self._home = home
        self._request = request
        self._cluster: Cluster | None = None
        self._terminated = False
        self._wake, wake_in = os.pipe2(os.O_NONBLOCK) if hasattr(os, "pipe2") else _nonblocking_pipe()
        self._listen(wake_in)
        self._pipe = os.open(home.control, os.O_RDONLY | os.O_NONBLOCK)

    def run(self) -> None:
        self._answer(self._request["id"], "start")
        while not self._terminated and not self._abandoned():
            select.select([self._pipe, self._wake], [], [], _LOOK)
            read_pipe(self._wake)
        self._finish()

    def _listen(self, wake_in: int) -> None:
        """Survive what a terminal sends; let the end of a child and a request to end interrupt the wait."""
        signal.set_wakeup_fd(wake_in, warn_on_full_buffer=False)
        for number in (signal.SIGINT, signal.SIGHUP, signal.SIGCHLD):
            signal.signal(number, lambda *_: None)
        signal.signal(signal.SIGTERM, self._terminate)
        signal.pthread_sigmask(signal.SIG_SETMASK, [])

    def _terminate(self, *_: object) -> None:
        self._terminated = True

    def _abandoned(self) -> bool:
        """Run the commands in the pipe. Returns whether its last user has ended; then no process can join."""
        said = read_pipe(self._pipe)
        if said:
            for line in said.decode().splitlines():
                self._answer(*line.split(" ", 1))
        elif self._cluster:
            _ = self._cluster.pid  # reaps a server that ended
        if said != b"":
            return False
        lock = os.open(self._home.lock, os.O_RDWR | os.O_CREAT, 0o600)
        if try_lock(lock) and read_pipe(self._pipe) == b"":
            return True  # with the lock held until this process ends
        os.close(lock)
        return False

    def _answer(self, command: str, verb: str) -> None:
        error = None
        try:
            self._carry_out(verb)
        except FailedError as failure:
            error = described(failure)
        except Exception as failure:  # noqa: BLE001  — whatever it is, the application has to hear of it
            traceback.print_exc()
            error = described(failure)
        self._report(command, error)

    def _carry_out(self, verb: str) -> None:
        if self._cluster is None:
            self._cluster = prepare(self._home, self._request)
        if verb in {"stop", "restart"}:
            self._cluster.stop()
        if verb == "kill":
            self._cluster.kill()
        if verb in {"start", "restart"}:
            self._cluster.start()

    def _report(self, command: str, error: dict[str, Any] | None) -> None:
        cluster = self._cluster
        self._home.write_state(
            {
                "answered": command,
                "error": error,
                "pid": cluster.pid if cluster else None,
                "port": cluster.port if cluster else 0,
                "supervisor": os.getpid(),
                "bin_dir": self._request["bin_dir"],
                "settings": self._request["settings"],
            }
        )

    def _finish(self) -> None:
        if self._cluster:
            self._cluster.stop()
        if self._request["temporary"]:
            remove(self._home)


def prepare(home: Home, request: dict[str, Any]) -> Cluster:
    """Decide who runs the server and from where, and make the cluster where there is none."""
    bin_dir = Path(request["bin_dir"])
    identity = _identity(home, request["ways"])
    if not identity.can_run([bin_dir / "postgres", "--version"]):
        bin_dir = _copied(bin_dir, home.root / "pgsql")
        if not identity.can_run([bin_dir / "postgres", "--version"]):
            raise FailedError(
                f"{identity.name} cannot run the PostgreSQL in {request['bin_dir']}, nor a copy of it.",
                "install PostgreSQL 15 or newer system-wide, or run as an ordinary user",
            )
    cluster = Cluster(home, bin_dir, identity, request["settings"])
    cluster.make(request["superuser"], request["version"], durable=not request["temporary"])
    return cluster


def _identity(home: Home, ways: list[str]) -> Identity:
    if os.geteuid() != 0:
        return identities.current_user()
    owner = home.pgdata.stat().st_uid if home.pgdata.exists() else 0
    if owner == 0 and "namespace" in ways:
        identity = identities.namespace()
        if identity.may("-w", home.root):
            return identity
    identity = _account(owner)
    _let_in(home, identity)
    if owner == 0 and home.pgdata.exists():
        identity.own_all(home.pgdata)
    return identity


def _account(owner: int) -> Identity:
    """The account that owns the cluster already, else one that root may lend."""
    if owner:
        with contextlib.suppress(KeyError):
            return identities.account(pwd.getpwuid(owner))
        raise FailedError(f"The cluster belongs to the user id {owner}, which this machine does not know.")
    for identity in identities.accounts():
        if identity.can_run(["/bin/sh", "-c", ":"]):
            return identity
    raise FailedError(
        "PostgreSQL refuses to run as root, a user namespace is forbidden here, and neither the account "
        "postgres nor nobody can be used.",
        "run as an ordinary user",
    )


def _let_in(home: Home, identity: Identity) -> None:
    """Let the account enter usersync's directory. The parent directories are not changed."""
    if identity.may("-x", home.root):
        return
    mode = home.root.stat().st_mode & 0o7777
    home.root.chmod(mode | 0o011)
    if not identity.may("-x", home.root):
        home.root.chmod(mode)
        raise FailedError(
            f"As root, PostgreSQL has to run as {identity.name}, which cannot reach {home.root}.",
            "choose a data directory (or a TMPDIR) whose parents others may pass through, "
            "such as one below /var/lib, or run as an ordinary user",
        )


def _copied(bin_dir: Path, target: Path) -> Path:
    """A copy of a relocatable installation, with the `*.libs` folder of its wheel: bin/../../../x.libs."""
    prefix = bin_dir.parent
    package = prefix.parent
    libraries = package.with_name(f"{package.name}.libs")
    copy = target / package.name / prefix.name
    if not (prefix / "share").is_dir():
        return bin_dir
    shutil.rmtree(target, ignore_errors=True)
    ignored = shutil.ignore_patterns("include", "*.a", "doc", "man", "locale", "__pycache__")
    shutil.copytree(prefix, copy, ignore=ignored)
    if libraries.is_dir():
        shutil.copytree(libraries, target / libraries.name)
    for path in _tree(target):
        path.chmod(0o755 if path.is_dir() or path.stat().st_mode & 0o100 else 0o644)
    return copy / "bin"


def _tree(top: Path) -> Iterator[Path]:
    yield top
    yield from (path for path in top.rglob("*") if not path.is_symlink())


def _nonblocking_pipe() -> tuple[int, int]:
    ends = os.pipe()
    for end in ends:
        fcntl.fcntl(end, fcntl.F_SETFL, os.O_NONBLOCK)
    return ends
