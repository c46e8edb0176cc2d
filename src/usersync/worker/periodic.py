"""The periodic tasks of workers. The first worker that finds a task due does it."""

from __future__ import annotations

import logging
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from usersync.audit import upkeep
from usersync.audit.log import AuditLog
from usersync.audit.options import default_spool_dir
from usersync.audit.spool.listing import survey_spools
from usersync.core import users
from usersync.core.admin_actions import account, record_admin_action
from usersync.core.installed import settings_in_database
from usersync.transports.steps import Steps, query

if TYPE_CHECKING:
    from collections.abc import Callable

logger = logging.getLogger("usersync.worker")

#: How long spooled events of dead processes may take in one go.
DRAIN_S = 30.0


@dataclass(frozen=True)
class Task:
    """A task, and every how many seconds one of the workers does it."""

    name: str
    every: float
    operation: Callable[[], Steps[Any]]


def retry_failures() -> Steps[None]:
    """Retry the users of the failures table whose next attempt is due."""
    result = yield from users.retry_on_request(due=True)
    if result.counts.examined:
        logger.info("retried %s users, %s are in sync now", result.counts.examined, result.synced)


def make_partitions() -> Steps[None]:
    """Create the partitions of the audit log for the months ahead."""
    yield from query("select usersync.make_audit_partitions()")


def apply_retention() -> Steps[None]:
    """Delete the events that are older than ``[audit.retention]``, and record it."""
    rules = yield from upkeep.retention()
    if rules is None:
        return
    pruned = yield from upkeep.prune(rules)
    settings = yield from settings_in_database()
    if not pruned.parts or settings is None:
        return
    yield from record_admin_action(settings, "usersync.log_pruned", by=account(), **pruned.describe())
    logger.info("deleted %s events that are older than the retention", pruned.rows)


def prune_attempts() -> Steps[None]:
    """Delete old attempts of subscriptions, so that their number has a limit."""
    yield from query(
        "select usersync.prune_attempts(make_interval(secs => %(age)s), %(most)s)",
        age=ATTEMPTS_S,
        most=MOST_ATTEMPTS,
    )


MINUTE, HOUR, DAY = 60.0, 3600.0, 86400.0

#: How long attempts are kept, and how many of each subscription.
ATTEMPTS_S, MOST_ATTEMPTS = 7 * DAY, 100_000

RETRY = Task("retry failures", MINUTE, retry_failures)
#: They need an audit log.
OF_LOG = (
    Task("partitions", HOUR, make_partitions),
    Task("retention", DAY, apply_retention),
    Task("attempts", MINUTE, prune_attempts),
)


def is_due(task: Task) -> Steps[bool]:
    """Whether this worker should do the task now. No other worker does it before the next time."""
    rows = yield from query(
        "insert into usersync.periodic_tasks as known (task, next_at) "
        "values (%(task)s, now() + make_interval(secs => %(every)s)) "
        "on conflict (task) do update set next_at = excluded.next_at where known.next_at <= now() "
        "returning task",
        task=task.name,
        every=task.every,
    )
    return bool(rows)


def note(task: Task, error: str | None) -> Steps[None]:
    """Store how the task went."""
    yield from query(
        "update usersync.periodic_tasks set last_error = left(%(error)s, 500) "
        "where task = %(task)s and last_error is distinct from left(%(error)s, 500)",
        task=task.name,
        error=error,
    )


def deliver_spools(dsn: str) -> None:
    """Deliver the events that dead processes of this account have left on this machine for this database."""
    root = default_spool_dir()
    left = [file for spool in survey_spools(root) for file in spool.files if file.waiting and not file.owned]
    if not left:
        return
    with closing(AuditLog(dsn, spool_dir=root, keep_delivered=0)) as log:
        log.drain_all(DRAIN_S)
        stats = log.stats()
    if stored := stats.stored + stats.rejected:
        logger.info("delivered %s spooled events of dead processes", stored)
