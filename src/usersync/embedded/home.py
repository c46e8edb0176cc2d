"""The directory of one server: its files, and the processes that use it.

::

    pgdata/          the cluster; appears whole, by a rename, or not at all
    cluster.json     what the cluster was made with: superuser, password, version
    control          named pipe: every using process holds it open for writing, the supervisor reads it
    state.json       what the supervisor says: port, pid, the last command it answered, an error
    lock             held (flock) by a process while it starts or ends its use of the server
    supervisor.lock  held (flock) by the supervisor as long as it lives
    server.log       what postgres and the supervisor write
    pgsql/           a copy of the binaries, where the account that runs the server cannot reach them
"""

from __future__ import annotations

import fcntl
import json
import os
import select
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True)
class Home:
    """Paths below ``root``, and the files through which application and supervisor communicate."""

    root: Path

    @property
    def pgdata(self) -> Path:
        return self.root / "pgdata"

    @property
    def control(self) -> Path:
        return self.root / "control"

    @property
    def log(self) -> Path:
        return self.root / "server.log"

    @property
    def lock(self) -> Path:
        return self.root / "lock"

    @property
    def supervisor_lock(self) -> Path:
        return self.root / "supervisor.lock"

    @property
    def state(self) -> dict[str, Any]:
        return _read(self.root / "state.json")

    @property
    def cluster(self) -> dict[str, Any]:
        return _read(self.root / "cluster.json")

    def write_state(self, state: dict[str, Any]) -> None:
        _write(self.root / "state.json", state)

    def write_cluster(self, cluster: dict[str, Any]) -> None:
        _write(self.root / "cluster.json", cluster)


def try_lock(fd: int) -> bool:
    """Whether the exclusive lock was acquired. Does not block."""
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def read_pipe(fd: int) -> bytes | None:
    """The content of a non-blocking pipe; ``b""`` if its other end is closed, None if it is empty."""
    try:
        return os.read(fd, select.PIPE_BUF)
    except BlockingIOError:
        return None


def tail(log: Path, start: int = 0, lines: int = 15) -> str:
    """The last lines of a log, from the byte ``start`` on."""
    try:
        with log.open("rb") as file:
            file.seek(start)
            text = file.read()
    except OSError:
        return ""
    return "\n".join(text.decode(errors="replace").splitlines()[-lines:])


def _read(path: Path) -> dict[str, Any]:
    try:
        content: dict[str, Any] = json.loads(path.read_bytes())
    except (FileNotFoundError, ValueError):
        return {}
    return content


def _write(path: Path, content: dict[str, Any]) -> None:
    """Replace a file atomically. It contains a password, so only this user can read it at any time."""
    fresh = path.with_suffix(".new")
    fresh.unlink(missing_ok=True)
    fd = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(fd, "w") as file:
        json.dump(content, file)
    fresh.replace(path)
