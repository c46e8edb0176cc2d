"""Changes tables that other sessions use: one installer at a time, with short waits for locks.

A statement that waits for a lock also blocks all later statements on the table. So a statement waits at most
0.1 seconds and is retried later. Waits are reported, with the sessions that hold the lock.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, TypeVar

from usersync.errors import BusyError
from usersync.sql.render import LOCK_KEY
from usersync.transports.steps import PIN_SESSION, Pause, Steps, query, query_row

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

T = TypeVar("T")

BUSY_LOCK_TIMEOUT = "100ms"
_ATTEMPTS = 60
#: The number of attempts before the wait is reported: about half a second.
_SILENT_ATTEMPTS = 3
_MAX_PAUSE_S = 1.0

_LOOK = (
    "Look for long transactions on it: "
    "select * from pg_stat_activity where state <> 'idle' order by xact_start"
)

_INSTALLER = """
    select coalesce(
        string_agg(
            format('pid %%s, user %%s, since %%s', pid, usename, date_trunc('second', xact_start)), '; '
        ),
        'which has ended by now'
    ) as who
    from pg_locks join pg_stat_activity using (pid)
    where locktype = 'advisory' and granted and objsubid = 1
        and database = (select oid from pg_database where datname = current_database())
        and (classid::bigint << 32 | objid::bigint) = %(key)s
"""


def take_lock(lock_timeout: str) -> Steps[None]:
    """Lock out other installers until the transaction ends, and set the ``lock_timeout`` for other locks."""
    yield from query(f"{PIN_SESSION}; set local lock_timeout = '120s'")
    row = yield from query_row("select pg_try_advisory_xact_lock(%(key)s) as taken", key=LOCK_KEY)
    if not row["taken"]:
        who = (yield from query_row(_INSTALLER, key=LOCK_KEY))["who"]
        yield Pause(0, f"Another usersync is changing the schema ({who}). Waiting for up to 2 minutes.")
        yield from query("select pg_advisory_xact_lock(%(key)s)", key=LOCK_KEY)
    yield from query("select set_config('lock_timeout', %(timeout)s, true)", timeout=lock_timeout)


def retry_while_locked(
    attempt: Callable[[], Steps[T]], table: str, who: Callable[[], Steps[Sequence[object]]]
) -> Steps[T]:
    """Repeat ``attempt`` until it gets its locks, on ``table`` and others. Raises ``BusyError``.

    ``who`` finds the sessions that hold the locks.
    """
    attempts = 1
    while True:
        try:
            return (yield from attempt())
        except BusyError as error:
            if attempts == _ATTEMPTS:
                named = "; ".join(map(str, (yield from who()))) or _LOOK
                raise BusyError(
                    f"{table} could not be locked in {_ATTEMPTS} attempts: other sessions hold locks on it",
                    hint=f"{named}. Wait for it, or end it. Then run the command again; it continues.",
                    sqlstate=error.sqlstate,
                ) from error
        why = None
        if attempts == _SILENT_ATTEMPTS:
            named = "; ".join(map(str, (yield from who())))
            why = f"{table} is locked{f': {named}' if named else ''}. Trying again, for up to a minute."
        # Random, so that two installers, or an installer and a periodic job, do not collide again and again.
        yield Pause(random.uniform(0.05, min(_MAX_PAUSE_S, 0.1 * attempts)), why)  # noqa: S311
        attempts += 1
