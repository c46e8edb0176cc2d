"""The state of processes that are not children of this one."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

_PROC = Path("/proc")


def exists(pid: int) -> bool:
    """Whether a process has this id; a zombie counts."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def alive(pid: int) -> bool:
    """Whether the process runs. A zombie does not count: if process 1 does not reap, it stays for ever."""
    return exists(pid) and _status(pid)[:1] not in {"Z", "X", ""}


def _status(pid: int) -> str:
    try:
        stat = (_PROC / str(pid) / "stat").read_text()
    except OSError:
        # No such process, or no /proc, as on macOS.
        return "" if (_PROC / "self" / "stat").exists() else _ps(pid, "state=")
    return stat.rpartition(")")[2].strip()


def serves(pid: int, pgdata: Path) -> bool:
    """Whether the process is a server of this cluster: each runs inside its directory."""
    if (_PROC / "self" / "cwd").exists():
        try:
            return (_PROC / str(pid) / "cwd").readlink() == pgdata
        except OSError:
            return False
    return str(pgdata) in _ps(pid, "command=")


def any_serving(pgdata: Path) -> bool:
    """Whether any server process of this cluster is left; where there is no /proc, assumes not."""
    pids = (int(entry.name) for entry in _PROC.glob("[0-9]*"))
    return any(serves(pid, pgdata) and alive(pid) for pid in pids)


def _ps(pid: int, column: str) -> str:
    done = subprocess.run(  # noqa: S603  — a constant and a number
        ["/bin/ps", "-ww", "-o", column, "-p", str(pid)], capture_output=True, text=True, check=False
    )
    return done.stdout.strip()
