"""``usersync doctor --fix``: which fixes are safe to run, and how they run.

A fix is safe if it concerns only usersync's own objects: its triggers, functions, tables and partitions, and
the privileges on them. A fix that changes a table of the application, requires another role, reads a large
table or writes users is left to a person.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from usersync.core.blockers import blockers
from usersync.doctor.checks.d003_migrations import RUN_ALL
from usersync.schema import installation
from usersync.sql.script import install_script
from usersync.transports.lock_retry import BUSY_LOCK_TIMEOUT, retry_while_locked, take_lock
from usersync.transports.steps import Statement, in_transaction

if TYPE_CHECKING:
    from collections.abc import Iterable

    from usersync.config.settings import Settings
    from usersync.models import Check
    from usersync.transports.steps import Steps

APPLY = "usersync apply"


@dataclass(frozen=True)
class Remedy:
    """A fix that runs in its own transaction, and the checks that proposed it."""

    codes: tuple[str, ...]
    fix: str


def remedies(checks: Iterable[Check]) -> tuple[Remedy, ...]:
    """The safe fixes of these checks. A fix that several checks propose runs once."""
    wanted: dict[str, list[str]] = {}
    for check in checks:
        for fix in check.safe_fixes:
            wanted.setdefault(fix, []).append(check.code)
    # The script creates tables that apply's functions need.
    order = sorted(wanted, key=lambda fix: (fix != RUN_ALL, fix != APPLY))
    return tuple(Remedy(tuple(dict.fromkeys(wanted[fix])), fix) for fix in order)


def sql_of(settings: Settings, remedy: Remedy) -> Steps[str]:
    """The SQL of the fix. Raises ``UsersyncError`` if ``usersync apply`` would."""
    if remedy.fix == RUN_ALL:
        return "\n".join(install_script(settings))
    if remedy.fix != APPLY:
        return remedy.fix
    planned = yield from installation.plan(settings)
    return "\n".join(change.sql.rstrip() for change in planned.changes)


def run_fix(settings: Settings, remedy: Remedy) -> Steps[None]:
    """Run the fix. Raises ``UsersyncError``.

    Waits at most a tenth of a second for a lock, then retries.
    """
    if remedy.fix == APPLY:
        yield from installation.apply(settings)
        return
    texts = install_script(settings) if remedy.fix == RUN_ALL else (remedy.fix,)
    for text in texts:
        yield from retry_while_locked(partial(_attempt, text), "an object to fix", lambda: blockers(settings))


def _attempt(text: str) -> Steps[None]:
    def run_it() -> Steps[None]:
        yield from take_lock(BUSY_LOCK_TIMEOUT)
        yield Statement(text)

    return in_transaction(run_it())
