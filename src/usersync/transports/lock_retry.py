"""Changing tables that others are busy with: one installer at a time, and nobody waits in line behind it.

A statement that waits for a lock makes everybody wait who comes after it. So none waits for longer than a
tenth of a second; it gives up, lets the others through, and tries again.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, TypeVar

from usersync.errors import BusyError
from usersync.transports.steps import PINNED_SESSION, Pause, Plan, query

if TYPE_CHECKING:
    from collections.abc import Callable

#: "usersync", as a key for pg_advisory_xact_lock. All installers take it, in each of their transactions.
LOCK_KEY = 0x7573_6572_7379_6E63

T = TypeVar("T")

BUSY_LOCK_TIMEOUT = "100ms"
_ATTEMPTS = 60
_MAX_PAUSE_S = 1.0


def take_lock(lock_timeout: str) -> Plan[None]:
    """Be the only installer until the transaction ends, and wait for other locks no longer than this."""
    yield from query(f"{PINNED_SESSION}; set local lock_timeout = '120s'")
    yield from query("select pg_advisory_xact_lock(%(key)s)", key=LOCK_KEY)
    yield from query("select set_config('lock_timeout', %(timeout)s, true)", timeout=lock_timeout)


def patiently(attempt: Callable[[], Plan[T]], table: str) -> Plan[T]:
    """Try until ``table``, and whatever else the attempt locks, is to be had; raises :class:`BusyError`."""
    attempts = 1
    while True:
        try:
            return (yield from attempt())
        except BusyError as error:
            if attempts == _ATTEMPTS:
                raise BusyError(
                    f"{table} was locked by others at each of {_ATTEMPTS} attempts",
                    hint="Look for long transactions on it (select * from pg_stat_activity where "
                    "state <> 'idle' order by xact_start), then run this again; it goes on where it was.",
                    sqlstate=error.sqlstate,
                ) from error
        # Jittered, so that several installers, or we and a regular job, do not meet again and again.
        yield Pause(random.uniform(0.05, min(_MAX_PAUSE_S, 0.1 * attempts)))  # noqa: S311
        attempts += 1
