# ruff: noqa: SLF001 - these methods of AuditLog are not for applications.
"""Forks, the interpreter's exit, and the order of the locks.

A thread that holds a lock may acquire only locks that come later in ``ORDER``. A fork acquires all of them,
in this order. The locks of the counters, the memory queue and the writer come last and are held briefly,
with no other lock acquired inside.
"""

from __future__ import annotations

import atexit
import os
import time
import weakref
from typing import Any, Protocol

from usersync.transports.fork_gate import gate

_DEADLINE_S = 5.0

#: In order: ``usersync.transports.fork_gate.gate``; a log's lock; its intake's lock; its spool file's lock.
ORDER = ("gate", "log", "intake", "spool")


class ForkAware(Protocol):
    """An object with a thread, locks and files that must not be used by a forked child."""

    _exit_timeout: float

    def _lock_for_fork(self) -> None:
        """Called before a fork: acquire the locks that must be free in the child."""

    def _unlock_after_fork(self) -> None:
        """Called in the parent after a fork: release the locks."""

    def _forget(self) -> None:
        """Called in a forked child: start anew, without closing anything of the parent."""

    def _end(self, timeout: float) -> None:
        """Called at the interpreter's exit: send what can be sent in time."""


_living: weakref.WeakSet[Any] = weakref.WeakSet()

#: Objects with a running thread stay referenced until they are closed, to be called at a fork and at exit.
_busy: set[Any] = set()


def watch(lived: ForkAware) -> None:
    """Call ``lived`` at forks and at exit."""
    _living.add(lived)


def keep(lived: ForkAware) -> None:
    """Keep a reference to ``lived`` until it is released."""
    _busy.add(lived)


def release(lived: ForkAware) -> None:
    """Drop the reference, because its thread has ended."""
    _busy.discard(lived)


_held: list[Any] = []


def _before_fork() -> None:
    gate.acquire()
    _held[:] = list(_living)
    for lived in _held:
        lived._lock_for_fork()


def _after_in_parent() -> None:
    for lived in _held:
        lived._unlock_after_fork()
    _held.clear()
    gate.release()


def _after_in_child() -> None:
    for lived in _held:
        lived._forget()
    _held.clear()
    gate.release()


def _at_exit() -> None:
    deadline = time.monotonic() + _DEADLINE_S
    for lived in list(_living):
        lived._end(max(0.0, min(lived._exit_timeout, deadline - time.monotonic())))


if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(before=_before_fork, after_in_parent=_after_in_parent, after_in_child=_after_in_child)
atexit.register(_at_exit)
