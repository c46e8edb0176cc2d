"""Which account the server runs as.

PostgreSQL refuses to run as root. An ordinary user just runs it. Root has two ways:

- a user namespace in which root is ``nobody``: root's files stay reachable and nothing changes owner.
  Containers often forbid it, so it is tried before it is relied on.
- an unprivileged account of the machine, to which the cluster's directory then belongs.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import pwd
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_CLONE_NEWUSER = 0x10000000
_PR_SET_PDEATHSIG = 1
_NOBODY = 65534


@dataclass(frozen=True)
class Identity:
    """How a child process of the supervisor becomes the account that runs the server."""

    name: str
    uid: int
    gid: int
    assume: Callable[[], None]

    def own(self, path: Path) -> None:
        """Make the account the owner of a path of usersync. Does not follow links."""
        if self.uid != os.geteuid():
            os.chown(path, self.uid, self.gid, follow_symlinks=False)

    def own_all(self, top: Path) -> None:
        self.own(top)
        for folder, folders, files in os.walk(top):
            for name in (*folders, *files):
                self.own(Path(folder, name))

    def may(self, test: str, path: Path) -> bool:
        """Whether the account passes a test of the shell on a path, such as ``-w``."""
        return self.can_run(["/bin/sh", "-c", f'test {test} "$0"', path])

    def can_run(self, command: Sequence[str | Path]) -> bool:
        """Whether the account may run the command: it is run, and must succeed."""
        try:
            done = subprocess.run(  # noqa: S603  — commands of our own
                command,
                preexec_fn=self.assume,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                cwd="/",
                check=False,
            )
        except (OSError, subprocess.SubprocessError):
            return False
        return done.returncode == 0


def current_user() -> Identity:
    return Identity("the current user", os.geteuid(), os.getegid(), _nothing)


def namespace() -> Identity:
    return Identity("a user namespace", os.geteuid(), os.getegid(), _enter_namespace)


def account(entry: pwd.struct_passwd) -> Identity:
    return Identity(
        f"the account {entry.pw_name}",
        entry.pw_uid,
        entry.pw_gid,
        lambda: _become(entry.pw_uid, entry.pw_gid),
    )


def accounts() -> list[Identity]:
    """The unprivileged accounts of this machine that root may lend, the better first."""
    found = []
    for name in ("postgres", "nobody"):
        with contextlib.suppress(KeyError):
            found.append(account(pwd.getpwnam(name)))
    return [identity for identity in found if identity.uid != 0]


def die_with_parent(parent: int) -> None:
    """Ask the kernel to shut this process down when its parent is killed. Linux only; elsewhere nothing."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(signal.SIGINT), 0, 0, 0)
        if os.getppid() != parent:
            os._exit(1)


def _nothing() -> None:
    pass


def _enter_namespace() -> None:
    uid, gid = os.geteuid(), os.getegid()
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(_CLONE_NEWUSER) != 0:
        raise OSError(ctypes.get_errno(), "unshare")
    Path("/proc/self/setgroups").write_text("deny")
    Path("/proc/self/uid_map").write_text(f"{_NOBODY} {uid} 1")
    Path("/proc/self/gid_map").write_text(f"{_NOBODY} {gid} 1")


def _become(uid: int, gid: int) -> None:
    os.setgroups([gid])
    os.setgid(gid)
    os.setuid(uid)
