"""Forks, the end of the interpreter, and the order of the locks.

Whoever holds a lock may take only those that come after it in ``ORDER``; whoever forks takes them all, in
this order. Those of the tally, the memory queue and the writer are taken last and for a moment, with nothing
taken inside.
"""

from __future__ import annotations

import atexit
import os
import time
import weakref
from typing import Any, Protocol

from usersync.transports.gate import gate

_DEADLINE_S = 5.0

#: ``usersync.transports.gate.gate``; a log's own lock; its intake's; its spool file's.
ORDER = ("gate", "log", "intake", "spool")


class Lived(Protocol):
    """Something with a thread, locks and files that end with the process, and are not a fork's to use."""

    exit_timeout: float

    def hold(self) -> None:
        """Called before a fork: take the locks that a child must find free."""

    def let_go(self) -> None:
        """Called in the parent after a fork: release them."""

    def forget(self) -> None:
        """Called in a forked child: start afresh, and leave alone what is the parent's."""

    def end(self, timeout: float) -> None:
        """Called at the end of the interpreter: send what can be sent in time."""


_living: weakref.WeakSet[Any] = weakref.WeakSet()

#: What has a thread of its own lives until it is closed, or nobody would tell it of a fork or of the end.
_busy: set[Any] = set()


def watch(lived: Lived) -> None:
    """Have ``lived`` told of forks and of the end."""
    _living.add(lived)


def keep(lived: Lived) -> None:
    """Let ``lived`` stay, though nobody may hold it any more, until it is released."""
    _busy.add(lived)


def release(lived: Lived) -> None:
    """It has ended by itself."""
    _busy.discard(lived)


_held: list[Any] = []


def _before_fork() -> None:
    gate.acquire()
    _held[:] = list(_living)
    for lived in _held:
        lived.hold()


def _after_in_parent() -> None:
    for lived in _held:
        lived.let_go()
    _held.clear()
    gate.release()


def _after_in_child() -> None:
    for lived in _held:
        lived.forget()
    _held.clear()
    gate.release()


def _at_exit() -> None:
    deadline = time.monotonic() + _DEADLINE_S
    for lived in list(_living):
        lived.end(max(0.0, min(lived.exit_timeout, deadline - time.monotonic())))


os.register_at_fork(before=_before_fork, after_in_parent=_after_in_parent, after_in_child=_after_in_child)
atexit.register(_at_exit)
