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
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from usersync.audit.spool.file import files_of, remove_files
from usersync.audit.spool.private import NotPrivateError, check_directory, make_directory

if TYPE_CHECKING:
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
        make_directory(self.root)
        while True:
            path = self.root / f"{os.getpid()}-{secrets.token_hex(6)}{SUFFIX}"
            claim = _locked(path, os.O_CREAT | os.O_EXCL)
            if claim is not None:
                return claim

    def all(self) -> list[Path]:
        """This directory, and then those of other databases beside it."""
        try:
            beside = sorted(each for each in self.root.parent.iterdir() if each != self.root)
        except FileNotFoundError:
            return []
        return [each for each in (self.root, *beside) if each.is_symlink() or each.is_dir()]

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


def files_in(directory: Path) -> list[Path]:
    """The spool files of a directory of this account's. Raises OSError where it is another's."""
    if not directory.is_symlink() and not directory.exists():
        return []
    check_directory(directory)
    return sorted(directory.glob(f"*{SUFFIX}"))


def take_over(path: Path) -> Claim | None:
    """A file whose owner is gone; None if it has one, or is no more. Never waits."""
    claim = _locked(path, os.O_CREAT)
    if claim is None or path.exists():
        return claim
    claim.release()
    return None


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
    for path in files_in(root):
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
        # Another account's lock would be that account's to hold.
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
    """Whether the file is still the one of that name, and not one that its last holder has removed."""
    try:
        return os.path.samestat(os.fstat(fd), path.stat())
    except FileNotFoundError:
        return False


def _is_held(lock: Path) -> bool:
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
