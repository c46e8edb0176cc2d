"""What a forked process must not take over: its parent's connections, and locks that other threads hold."""

from __future__ import annotations

import contextlib
import ctypes
import os
import threading
import weakref
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterable


class Inherited(Protocol):
    """Something that a forked process starts afresh."""

    def forget(self) -> None:
        """Called in the forked process: leave alone what is the parent's."""


_inherited: weakref.WeakSet[Any] = weakref.WeakSet()


def renew_in_child(each: Inherited) -> None:
    """Have ``forget`` called in every process that is forked from now on."""
    _inherited.add(each)


def leave_alone(inherited: object, descriptors: Iterable[int]) -> None:
    """Never free what a child has inherited: that would end the parent's connections.

    ``descriptors`` are closed; sockets and locks in them would outlive the parent otherwise.
    """
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(inherited))
    for fd in descriptors:
        with contextlib.suppress(OSError):
            os.close(fd)


class ForkSafeLock:
    """A reentrant lock that a forked process finds free, even if another thread held it in the parent."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        renew_in_child(self)

    def forget(self) -> None:
        """See ``Inherited``."""
        self._lock = threading.RLock()

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(self, *_: object) -> None:
        self._lock.release()


def _after_in_child() -> None:
    for each in list(_inherited):
        each.forget()


os.register_at_fork(after_in_child=_after_in_child)
