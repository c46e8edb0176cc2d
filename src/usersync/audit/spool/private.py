"""Directories and files that only this account can use.

Another account may have created a directory in advance, or a link with the name of a file. Owner and mode are
checked on the opened descriptor, and links are not followed. Otherwise another account's events would be
stored with this account's credentials.
"""

from __future__ import annotations

import os
import sqlite3
import stat
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import quote

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

# Windows has none of them, and no spool either (directory.py).
_OPEN = getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
_OF_OTHERS = 0o022


class NotPrivateError(PermissionError):
    """A directory or a file that another account created, or could have created."""


def make_directory(path: Path) -> None:
    """Create a directory that only this account can enter, and its parents, whatever the umask is.

    Raises OSError; ``NotPrivateError`` if it exists and belongs to another account.
    """
    missing = []
    for each in (path, *path.parents):
        if each.is_symlink() or each.exists():
            break
        missing.append(each)
    for each in reversed(missing):
        each.mkdir(mode=0o700, exist_ok=True)
    check_directory(path)


def check_directory(path: Path) -> None:
    """Remove other accounts' access to a directory; raise ``NotPrivateError`` if another account owns it."""
    with _opened(path, os.O_DIRECTORY) as fd:
        status = os.fstat(fd)
        _check_owner(path, status)
        if stat.S_IMODE(status.st_mode) & 0o077:
            os.fchmod(fd, 0o700)
    for each in path.absolute().parents:
        _check_parent(each)


def _check_parent(path: Path) -> None:
    """A parent that any account could have created must not belong to another: its owner can rename its
    contents.
    """
    status = path.stat()
    if status.st_uid in {0, os.geteuid()} or not stat.S_IMODE(path.parent.stat().st_mode) & 0o002:
        return
    raise NotPrivateError(f"{path} belongs to another account ({status.st_uid})")


def check_file(path: Path) -> os.stat_result:
    """Return the status of a file that only this account can use.

    Raises OSError, including ``NotPrivateError``.
    """
    with _opened(path) as fd:
        status = os.fstat(fd)
    _check_owner(path, status)
    if not stat.S_ISREG(status.st_mode):
        raise NotPrivateError(f"{path} is not a regular file")
    if status.st_nlink != 1:
        raise NotPrivateError(f"{path} has another name elsewhere (a hard link)")
    if stat.S_IMODE(status.st_mode) & _OF_OTHERS:
        raise NotPrivateError(f"{path} can be written by other accounts")
    return status


def _check_owner(path: Path, status: os.stat_result) -> None:
    if status.st_uid != os.geteuid():
        raise NotPrivateError(f"{path} belongs to another account ({status.st_uid})")


@contextmanager
def _opened(path: Path, flags: int = 0) -> Iterator[int]:
    try:
        fd = os.open(path, os.O_RDONLY | _OPEN | flags)
    except OSError as error:
        if path.is_symlink():
            raise NotPrivateError(f"{path} is a symbolic link, which is not followed") from error
        raise
    try:
        yield fd
    finally:
        os.close(fd)


def create_file(path: Path) -> None:
    """Create a private file of this name. If it exists, it must be private already."""
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | _OPEN, 0o600))
    except FileExistsError:
        check_file(path)


class _Cursor(sqlite3.Cursor):
    def execute(self, *arguments: Any) -> Self:
        with _damage():
            return super().execute(*arguments)

    def fetchall(self) -> list[Any]:
        with _damage():
            return super().fetchall()

    def fetchone(self) -> Any:
        with _damage():
            return super().fetchone()


class _Connection(sqlite3.Connection):
    def execute(self, *arguments: Any) -> Any:
        return super().cursor(_Cursor).execute(*arguments)


@contextmanager
def _damage() -> Iterator[None]:
    """SQLite's message may quote a damaged file's content, and Python then fails to decode the message."""
    try:
        yield
    except UnicodeDecodeError:
        problem = sqlite3.DatabaseError("the file is damaged")
        problem.sqlite_errorcode = sqlite3.SQLITE_CORRUPT
    else:
        return
    raise problem


def connect(
    path: Path, timeout: float, *, read_only: bool = False, is_trusted: bool = False
) -> sqlite3.Connection:
    """Open an SQLite file of this account in autocommit mode; no statement in it is trusted.

    Use ``is_trusted`` for short writes: it omits the protections that reading a damaged file needs. Raises
    OSError and ``sqlite3.Error``. Text is returned as bytes, because it may not be UTF-8.
    """
    found = check_file(path)
    for suffix in ("-wal", "-shm"):
        beside = path.with_name(path.name + suffix)
        if beside.is_symlink() or beside.exists():
            check_file(beside)
    connection = sqlite3.connect(
        f"file:{quote(str(path))}?mode={'ro' if read_only else 'rw'}",
        uri=True,
        timeout=timeout,
        isolation_level=None,
        check_same_thread=False,
        factory=sqlite3.Connection if is_trusted else _Connection,
    )
    try:
        connection.text_factory = bytes
        connection.execute("pragma trusted_schema = off")
        # SQLite opens the file only now.
        connection.execute("pragma schema_version").fetchall()
        if not os.path.samestat(found, path.stat(follow_symlinks=False)):
            raise NotPrivateError(f"{path} was replaced while it was opened")
    except BaseException:
        connection.close()
        raise
    return connection


def account_of(path: Path) -> str:
    """The name of the account that owns a path, or its number."""
    import pwd  # noqa: PLC0415 - used only in messages

    uid = path.lstat().st_uid
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)
