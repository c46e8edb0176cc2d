"""Removes temporary servers whose processes were all killed at once, such as at the end of a container."""

from __future__ import annotations

import contextlib
import os
import stat
import time
from typing import TYPE_CHECKING

from usersync.embedded import descriptors
from usersync.embedded.cluster import remove
from usersync.embedded.home import Home, read_pipe, try_lock

if TYPE_CHECKING:
    from pathlib import Path

PREFIX = "usersync-pg-"

# Seconds. Between making its directory and taking its lock a new server needs some microseconds.
_OLD = 600.0


def sweep(folder: Path) -> None:
    """Remove the directories of unused servers. A directory that cannot be checked or removed stays."""
    for root in folder.glob(f"{PREFIX}*"):
        with contextlib.suppress(OSError):
            if _old_and_ours(root):
                _remove_abandoned(Home(root))


def _old_and_ours(root: Path) -> bool:
    found = root.lstat()
    return (
        stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid() and time.time() - found.st_mtime > _OLD
    )


def _remove_abandoned(home: Home) -> None:
    made = os.O_RDWR | os.O_CREAT
    with descriptors.opened(home.lock, made) as lock, descriptors.opened(home.supervisor_lock, made) as other:
        if try_lock(lock) and try_lock(other) and not _held(home):
            remove(home)


def _held(home: Home) -> bool:
    """Whether a process still holds the pipe, and may start the server again."""
    if not home.control.exists():
        return False
    with descriptors.opened(home.control, os.O_RDONLY | os.O_NONBLOCK) as pipe:
        return read_pipe(pipe) != b""
