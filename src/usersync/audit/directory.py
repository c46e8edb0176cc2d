"""The spool files of one database: each belongs to the process that holds its lock.

::

    4711-9f2c….spool         SQLite, with its -wal and -shm
    4711-9f2c….lock          held (flock) by the process that writes the file, or has taken it over
    4711-9f2c….damaged-…     set aside, for a human to look at

The system releases a lock when its holder is gone, in whatever way. A file whose lock can be had is
nobody's, then, and whoever gets the lock takes the file over.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import stat
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from usersync.audit.spool import files_of, remove_files

if TYPE_CHECKING:
    from collections.abc import Container
    from pathlib import Path

SUFFIX = ".spool"
_LOCK = ".lock"


@dataclass(frozen=True)
class Claim:
    """A spool file that is this process's alone, for as long as ``fd`` is open."""

    path: Path
    fd: int

    def is_held(self) -> bool:
        """Whether that is still so: who removes the lock lets others have the file."""
        return _is_current(self.fd, _lock_of(self.path))

    def touch(self) -> None:
        """Show those who clean up by age that the files are in use."""
        for path in (_lock_of(self.path), *files_of(self.path)):
            with suppress(FileNotFoundError):
                os.utime(path)

    def release(self) -> None:
        """Let others have the file. Removes the lock too, if the file is gone."""
        if not self.path.exists() and self.is_held():
            # While it is held: nobody can be waiting for a file that does not exist.
            with suppress(OSError):
                _lock_of(self.path).unlink()
        os.close(self.fd)


class SpoolDirectory:
    """Gives out spool files. Methods may raise OSError."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def claim(self) -> Claim:
        """A file of a new name, not made yet, for this process."""
        self._make()
        while True:
            path = self.root / f"{os.getpid()}-{secrets.token_hex(6)}{SUFFIX}"
            claim = _locked(path, os.O_CREAT | os.O_EXCL)
            if claim is not None:
                return claim

    def adopt(self, besides: Container[Path] = ()) -> Claim | None:
        """A file whose owner is gone, ``besides`` these; None if there is none. Never waits."""
        if not self.root.is_dir():
            return None
        for path in sorted(self.root.glob(f"*{SUFFIX}")):
            claim = _locked(path, os.O_CREAT) if path not in besides else None
            if claim is None:
                continue
            if path.exists():
                return claim
            claim.release()
        return None

    def sweep(self) -> None:
        """Remove what was left by processes that were killed while they made or removed a file."""
        for lock in self.root.glob(f"*{_LOCK}"):
            path = lock.with_suffix(SUFFIX)
            claim = _locked(path, os.O_CREAT) if not path.exists() else None
            if claim is None:
                continue
            # What was set aside may not have its WAL with it yet.
            if not path.exists() and not any(self.root.glob(f"{path.stem}.damaged-*")):
                remove_files(path)
            claim.release()

    def _make(self) -> None:
        self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
        status = self.root.lstat()
        if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid():
            raise PermissionError(f"{self.root} is not a directory of this account")
        if stat.S_IMODE(status.st_mode) & 0o077:
            self.root.chmod(0o700)


@dataclass(frozen=True)
class Waiting:
    """A spool file as somebody else sees it."""

    path: Path
    #: Whether a living process has it.
    owned: bool
    #: Of the file and its WAL.
    size: int


def survey(root: Path) -> list[Waiting]:
    """The spool files in a directory; for people who look. Takes nothing over."""
    found = []
    for path in sorted(root.glob(f"*{SUFFIX}")):
        size = sum(each.stat().st_size for each in files_of(path)[:2] if each.exists())
        found.append(Waiting(path, _is_held(_lock_of(path)), size))
    return found


def _lock_of(path: Path) -> Path:
    return path.with_suffix(_LOCK)


def _locked(path: Path, flags: int) -> Claim | None:
    try:
        fd = os.open(_lock_of(path), os.O_RDWR | flags | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except FileExistsError:
        return None
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if _is_current(fd, _lock_of(path)):
            return Claim(path, fd)
    except BlockingIOError:
        pass
    except OSError:
        os.close(fd)
        raise
    os.close(fd)
    return None


def _is_current(fd: int, path: Path) -> bool:
    """Whether the file is still the one of that name, and not one that its last holder has removed."""
    try:
        return os.path.samestat(os.fstat(fd), path.stat())
    except FileNotFoundError:
        return False


def _is_held(lock: Path) -> bool:
    try:
        fd = os.open(lock, os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(fd)
    return False
