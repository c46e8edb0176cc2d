"""Appends to a file of JSON Lines that an earlier export wrote, even if that was interrupted."""

from __future__ import annotations

import json
import os
from contextlib import contextmanager
from typing import TYPE_CHECKING, BinaryIO
from uuid import UUID

from usersync.errors import ConflictError, SettingsError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_BLOCK = 64 << 10


@contextmanager
def open_for_append(path: Path) -> Iterator[tuple[BinaryIO, UUID | None]]:
    """Yield the file, open at the end of its last complete line, and the id of the event in that line.

    An incomplete last line is removed. A new file is readable by its owner only. Raises ``ConflictError`` if
    the last line is not an event, ``SettingsError`` if the file is not writable.
    """
    try:
        with os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT, 0o600), "r+b") as file:
            end = _after_last_newline(file, file.seek(0, os.SEEK_END))
            last = _event_id(path, _line_before(file, end)) if end else None
            file.truncate(end)
            file.seek(end)
            yield file, last
    except OSError as error:
        raise SettingsError(f"cannot write {path}: {error.strerror}") from error


def _after_last_newline(file: BinaryIO, end: int) -> int:
    """Where the last line break before ``end`` ends; 0 if there is none."""
    while end > 0:
        start = max(0, end - _BLOCK)
        file.seek(start)
        found = file.read(end - start).rfind(b"\n")
        if found >= 0:
            return start + found + 1
        end = start
    return 0


def _line_before(file: BinaryIO, end: int) -> bytes:
    start = _after_last_newline(file, end - 1)
    file.seek(start)
    return file.read(end - start)


def _event_id(path: Path, line: bytes) -> UUID:
    try:
        return UUID(json.loads(line)["id"])
    except (ValueError, LookupError, TypeError, AttributeError):
        raise ConflictError(
            f"the last line of {path} is not an event",
            hint="--resume requires a file of JSON Lines that this command wrote.",
        ) from None
