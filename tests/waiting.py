"""Wait for a change that another thread, process or session makes."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from usersync.audit.options import default_spool_dir
from usersync.audit.spool.listing import survey_spools

if TYPE_CHECKING:
    from collections.abc import Callable

    import psycopg
    import pytest

#: A limit of 10 ms means that the function does not wait at all, and stays.
_SET_LOCK_TIMEOUT = """
    do $$ declare each regprocedure; begin
    for each in select oid from pg_proc where proconfig::text ~ 'lock_timeout=([0-9]{{3}}|[0-9]+s)' loop
        execute format('alter function %s set lock_timeout = %L', each, '{timeout}');
    end loop; end $$
"""

_COMMANDS = ("manage.connecting", "schema.installation", "transports.steps")


def until(condition: Callable[[], Any], timeout: float = 90.0) -> Any:
    """Wait until the condition returns a true value, and return this value.

    Fails after ``timeout`` seconds.
    """
    deadline, pause = time.monotonic() + timeout, 0.01
    while not (found := condition()):
        assert time.monotonic() < deadline, "the condition did not come true in time"
        time.sleep(pause)
        pause = min(pause * 1.1, 0.1)  # conditions query the database that others wait for
    return found


def wait_for_locks(owner: psycopg.Connection[Any]) -> None:
    """Let usersync's functions in this database wait for a lock until the test releases it.

    For tests in which another session acts while a function waits: on a slow machine, this may take longer
    than any lock timeout that the settings allow.
    """
    owner.execute(_SET_LOCK_TIMEOUT.format(timeout="10min"))


def give_up_soon(monkeypatch: pytest.MonkeyPatch, owner: psycopg.Connection[Any] | None = None) -> None:
    """Let commands wait for a lock for 0.1 s instead of 5 s, and report the lock soon.

    With ``owner``, the same applies to usersync's functions in this database. For tests in which a session
    holds the lock until the command has ended.
    """
    for module in _COMMANDS:
        monkeypatch.setattr(f"usersync.{module}.COMMAND_LOCK_TIMEOUT", "100ms")
    monkeypatch.setattr("usersync.transports.lock_retry._ATTEMPTS", 4)
    if owner is not None:
        owner.execute(_SET_LOCK_TIMEOUT.format(timeout="100ms"))


def until_spools_are_free() -> None:
    """Wait until no process has a spool file open.

    The writer of a log that was closed with a time limit may still wait for the server.
    """
    until(lambda: not any(file.owned for spool in survey_spools(default_spool_dir()) for file in spool.files))
