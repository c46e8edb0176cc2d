"""The spool files of one database: each belongs to the process that holds its lock.

::

    4711-9f2c….spool         SQLite, with its -wal and -shm
    4711-9f2c….lock          held (flock) by the process that writes the file, or has taken it over
    4711-9f2c….damaged-…     damaged: renamed and kept for inspection

The operating system releases a lock when its holder ends for any reason. A process that can acquire the lock
of a file takes the file over.
"""

from __future__ import annotations

import errno
import os
import secrets
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from usersync.audit.spool.file import files_of, remove_files
from usersync.audit.spool.private import NotPrivateError, check_directory, make_directory

if TYPE_CHECKING:
    from pathlib import Path

try:
    import fcntl
except ModuleNotFoundError:  # Windows
    HAS_LOCKS = False
else:
    HAS_LOCKS = True

SUFFIX = ".spool"
_LOCK = ".lock"


@dataclass(frozen=True)
class Claim:
    """A spool file that only this process uses, for as long as ``fd`` is open."""

    path: Path
    fd: int

    def is_held(self) -> bool:
        """Whether this process still holds the file. If the lock file was removed, another process may have
        the file.
        """
        return _is_current(self.fd, _lock_of(self.path))

    def touch(self) -> None:
        """Update the modification times, so that a clean-up by age does not remove the files."""
        for path in (_lock_of(self.path), *files_of(self.path)):
            with suppress(FileNotFoundError):
                os.utime(path)

    def release(self) -> None:
        """Release the file. Removes the lock file too, if the spool file was removed."""
        if not self.path.exists() and self.is_held():
            # Before the release: no process waits for the lock of a file that does not exist.
            with suppress(OSError):
                _lock_of(self.path).unlink()
        os.close(self.fd)


class SpoolDirectory:
    """Hands out spool files. Methods may raise OSError."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def claim(self) -> Claim:
        """Return a claim on a new file name for this process. The file is not created yet."""
        _require_locks()
        make_directory(self.root)
        while True:
            path = self.root / f"{os.getpid()}-{secrets.token_hex(6)}{SUFFIX}"
            claim = _locked(path, os.O_CREAT | os.O_EXCL)
            if claim is not None:
                return claim

    def all(self) -> list[Path]:
        """This directory, then the directories of other databases beside it."""
        try:
            beside = sorted(each for each in self.root.parent.iterdir() if each != self.root)
        except FileNotFoundError:
            return []
        return [each for each in (self.root, *beside) if each.is_symlink() or each.is_dir()]

    def sweep(self) -> None:
        """Remove files of processes that were killed while they created or removed a spool file."""
        for lock in self.root.glob(f"*{_LOCK}"):
            path = lock.with_suffix(SUFFIX)
            claim = _locked(path, os.O_CREAT) if not path.exists() else None
            if claim is None:
                continue
            # The WAL of a damaged file may not have been renamed yet.
            if not path.exists() and not any(self.root.glob(f"{path.stem}.damaged-*")):
                remove_files(path)
            claim.release()


def files_in(directory: Path) -> list[Path]:
    """The spool files of a directory. Raises OSError if another account owns the directory."""
    if not directory.is_symlink() and not directory.exists():
        return []
    check_directory(directory)
    return sorted(directory.glob(f"*{SUFFIX}"))


def take_over(path: Path) -> Claim | None:
    """Take over a file whose owner has ended. None if it has an owner or was removed. Never waits."""
    claim = _locked(path, os.O_CREAT)
    if claim is None or path.exists():
        return claim
    claim.release()
    return None


@dataclass(frozen=True)
class SpoolFileState:
    """The state of a spool file, read without taking it over."""

    path: Path
    #: Whether a living process holds it.
    owned: bool
    #: Size in bytes of the file and its WAL.
    size: int


def survey(root: Path) -> list[SpoolFileState]:
    """The spool files in a directory, for reports. Takes nothing over."""
    found = []
    for path in files_in(root):
        size = sum(each.stat().st_size for each in files_of(path)[:2] if each.exists())
        found.append(SpoolFileState(path, _is_held(_lock_of(path)), size))
    return found


def _lock_of(path: Path) -> Path:
    return path.with_suffix(_LOCK)


def _require_locks() -> None:
    """Raise OSError on a system without ``fcntl``: events are kept in memory there."""
    if not HAS_LOCKS:
        raise OSError(errno.ENOTSUP, "this system has no fcntl, so spool files cannot be locked")


def _locked(path: Path, flags: int) -> Claim | None:
    _require_locks()
    try:
        fd = os.open(_lock_of(path), os.O_RDWR | flags | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except FileExistsError:
        return None
    try:
        # Another account owns the lock file and would keep the lock.
        if os.fstat(fd).st_uid != os.geteuid():
            raise NotPrivateError(f"{_lock_of(path)} belongs to another account")
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
    """Whether the name still leads to the open lock file. The last holder may have removed it."""
    try:
        return os.path.samestat(os.fstat(fd), path.stat())
    except FileNotFoundError:
        return False


def _is_held(lock: Path) -> bool:
    if not HAS_LOCKS:
        return False
    try:
        fd = os.open(lock, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(fd)
    return False
