"""``usersync doctor --fix``: what of the fixes can be run without asking what somebody meant by it.

That is what concerns usersync's own objects and nothing else: its triggers, functions, tables and partitions,
and who may reach them. What touches a table of the application's, takes another role, reads a large table or
writes users is for a person.
"""

from __future__ import annotations

from dataclasses import dataclass
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
    """Something to run, in a transaction of its own, and the checks that it is for."""

    codes: tuple[str, ...]
    fix: str


def remedies(checks: Iterable[Check]) -> tuple[Remedy, ...]:
    """What to run against what these checks found; what several ask for is run once."""
    wanted: dict[str, list[str]] = {}
    for check in checks:
        for fix in check.safe_fixes:
            wanted.setdefault(fix, []).append(check.code)
    # The script makes tables, which apply's functions need.
    order = sorted(wanted, key=lambda fix: (fix != RUN_ALL, fix != APPLY))
    return tuple(Remedy(tuple(dict.fromkeys(wanted[fix])), fix) for fix in order)


def sql_of(settings: Settings, remedy: Remedy) -> Steps[str]:
    """The SQL that it runs. Raises ``UsersyncError`` where ``usersync apply`` would."""
    if remedy.fix == RUN_ALL:
        return install_script(settings, transaction=True)
    if remedy.fix != APPLY:
        return remedy.fix
    planned = yield from installation.plan(settings)
    return "\n".join(change.sql.rstrip() for change in planned.changes)


def mend(settings: Settings, remedy: Remedy) -> Steps[None]:
    """Run it. Raises ``UsersyncError``.

    Waits for a lock a tenth of a second, gives up, and tries again.
    """
    if remedy.fix == APPLY:
        yield from installation.apply(settings)
        return
    text = remedy.fix if remedy.fix != RUN_ALL else install_script(settings, transaction=False)

    def attempt() -> Steps[None]:
        yield from take_lock(BUSY_LOCK_TIMEOUT)
        yield Statement(text)

    yield from retry_while_locked(
        lambda: in_transaction(attempt()), "an object to fix", lambda: blockers(settings)
    )
