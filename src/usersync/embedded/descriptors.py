"""File descriptors that a forked child must not keep.

``close-on-exec`` closes them when a program is started. A fork alone keeps every descriptor open. A child
that holds the pipe open would keep the server running after its parent has ended.
"""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_private: set[int] = set()


def open_private(path: Path, flags: int) -> int:
    """Open a file that a forked child closes. A new file is accessible to this user only."""
    fd = os.open(path, flags, 0o600)
    _private.add(fd)
    return fd


def close(fd: int) -> None:
    """Close what open_private opened; in a forked child it is closed already."""
    if fd in _private:
        _private.discard(fd)
        os.close(fd)


@contextlib.contextmanager
def opened(path: Path, flags: int) -> Iterator[int]:
    """Open a private file for the length of a block."""
    fd = open_private(path, flags)
    try:
        yield fd
    finally:
        close(fd)


def _close_all() -> None:
    for fd in tuple(_private):
        with contextlib.suppress(OSError):
            close(fd)


os.register_at_fork(after_in_child=_close_all)
