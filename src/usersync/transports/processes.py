"""Resets connections and locks in a forked process, which must not use those of its parent."""

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
    """An object with state that a forked process must reset."""

    def forget(self) -> None:
        """Called in the forked process: drop the parent's state."""


_inherited: weakref.WeakSet[Any] = weakref.WeakSet()


def renew_in_child(each: Inherited) -> None:
    """Call ``forget`` in every process that is forked from now on."""
    _inherited.add(each)


def leave_alone(inherited: object, descriptors: Iterable[int]) -> None:
    """Keep an inherited object for ever: freeing it would end the parent's connections.

    Closes ``descriptors``, so that their sockets and file locks do not outlive the parent.
    """
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(inherited))
    for fd in descriptors:
        with contextlib.suppress(OSError):
            os.close(fd)


class ForkSafeLock:
    """A reentrant lock that is free in a forked process, even if another thread of the parent held it."""

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


if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(after_in_child=_after_in_child)
