"""The periodic tasks of workers. The first worker that finds a due task runs it."""

from __future__ import annotations

import logging
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from usersync.audit import noting, upkeep
from usersync.audit.log import AuditLog
from usersync.audit.options import default_spool_dir
from usersync.audit.spool.listing import survey_spools
from usersync.core import reconcile, users
from usersync.core.admin_actions import account, record_admin_action
from usersync.core.installed import settings_in_database
from usersync.transports.steps import Steps, query

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from usersync.models import Counts

logger = logging.getLogger("usersync.worker")

#: The time limit for one delivery of spooled events of dead processes.
DRAIN_S = 30.0


class StoppedError(Exception):
    """The worker is stopping during a task. Another worker continues the task."""


@dataclass(frozen=True)
class Task:
    """A task that one of the workers runs every ``every`` seconds."""

    name: str
    every: float
    operation: Callable[..., Steps[Any]]
    #: Run the task once a day, after this hour (UTC), and not when the first worker starts.
    hour: int | None = None
    #: The task may take longer than a minute. The worker renews its claim while it runs the task. If the
    #: worker is killed, another one continues. The operation gets a function: whether the worker is stopping.
    is_long: bool = False


def retry_failures() -> Steps[None]:
    """Retry the users of the failures table whose next attempt is due."""
    result = yield from users.retry_on_request(due=True)
    if result.counts.examined:
        logger.info(
            "retried users with a failure: %s, in sync now: %s", result.counts.examined, result.synced
        )


def make_partitions() -> Steps[None]:
    """Create the partitions of the audit log for the months ahead."""
    yield from query("select usersync.make_audit_partitions()")


def apply_retention(is_ending: Callable[[], bool]) -> Steps[None]:  # noqa: ARG001 - a partition at a time
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


def compare(is_ending: Callable[[], bool]) -> Steps[None]:
    """Compare all users and write the differences, like ``usersync sync``.

    Continues a run that was interrupted.
    """

    def note_page(_: Counts) -> None:
        if is_ending():
            raise StoppedError

    run = yield from reconcile.resume_run()
    if run is None:
        run = yield from reconcile.open_run(workers=1, page_size=reconcile.PAGE_SIZE)
    counts = run.before
    try:
        for part in run.parts:
            counts += yield from reconcile.drive_part(run.run_id, part, note_page)
    except StoppedError:
        yield from reconcile.interrupt_run(run.run_id)
        raise
    logger.info(
        "compared %s users: %s were missing, %s differed", counts.examined, counts.missing, counts.stale
    )


def search_feed(is_ending: Callable[[], bool]) -> Steps[None]:
    """Have an audit table of the application searched for events without a number, and forget the numbers of
    events that the application has deleted.
    """
    yield from noting.search_again()
    forgotten = yield from noting.forget_removed(is_ending)
    if is_ending():
        raise StoppedError
    if forgotten:
        logger.info("forgot the numbers of %s events that no longer exist", forgotten)


MINUTE, HOUR, DAY = 60.0, 3600.0, 86400.0

#: How long attempts are kept, and how many of each subscription.
ATTEMPTS_S, MOST_ATTEMPTS = 7 * DAY, 100_000

RETRY = Task("retry failures", MINUTE, retry_failures)
#: These need an audit log, and so do ``RETENTION`` (usersync's own) and ``FEED`` (the application's).
OF_LOG = (
    Task("partitions", HOUR, make_partitions),
    Task("attempts", MINUTE, prune_attempts),
)
RETENTION = Task("retention", DAY, apply_retention, is_long=True)
FEED = Task("feed", DAY, search_feed, hour=4, is_long=True)
COMPARISON = Task("comparison", DAY, compare, hour=3, is_long=True)
#: A claim on a long task that is not renewed for this time ends, and another worker runs the task.
CLAIM_S = 60.0


_AT = "coalesce(%(at)s::timestamptz, now())"
#: The next time after this one.
_NEXT = (
    f"case when %(hour)s::integer is null then {_AT} + make_interval(secs => %(every)s) else ("
    f"date_trunc('day', {_AT} at time zone 'UTC' - make_interval(hours => %(hour)s)) "
    "+ interval '1 day' + make_interval(hours => %(hour)s)) at time zone 'UTC' end"
)


def is_due(task: Task, *, at: datetime | None = None) -> Steps[bool]:
    """Whether this worker must run the task now. No other worker runs it before the next time.

    ``at`` is the current time; by default, the database's.
    """
    rows = yield from query(
        "insert into usersync.periodic_tasks as known (task, next_at) "
        f"values (%(task)s, {_NEXT}) on conflict (task) do update set next_at = case when %(is_long)s "
        f"then {_AT} + make_interval(secs => %(claim)s) else excluded.next_at end "
        f"where known.next_at <= {_AT} "
        # xmax is 0 in a row that was inserted.
        "returning known.xmax::text <> '0' as was_known",
        **_values(task, at),
        is_long=task.is_long,
        claim=CLAIM_S,
    )
    return any(row["was_known"] or task.hour is None for row in rows)


def _values(task: Task, at: datetime | None) -> dict[str, Any]:
    return {"task": task.name, "every": task.every, "hour": task.hour, "at": at}


def claim(task: Task, *, at: datetime | None = None) -> Steps[None]:
    """Renew the claim of this worker on a long task."""
    yield from query(
        f"update usersync.periodic_tasks set next_at = {_AT} + make_interval(secs => %(claim)s) "
        "where task = %(task)s",
        task=task.name,
        at=at,
        claim=CLAIM_S,
    )


def release(task: Task) -> Steps[None]:
    """End the claim on a task, so that another worker continues it."""
    yield from query(
        "update usersync.periodic_tasks set next_at = now() where task = %(task)s", task=task.name
    )


def store_result(task: Task, error: str | None, *, at: datetime | None = None) -> Steps[None]:
    """Store the error of a task, or that there was none. For a long task, also store when it is due next."""
    yield from query(
        "update usersync.periodic_tasks set last_error = left(%(error)s, 500), "
        f"next_at = case when %(is_long)s then {_NEXT} else next_at end "
        "where task = %(task)s and (%(is_long)s or last_error is distinct from left(%(error)s, 500))",
        **_values(task, at),
        is_long=task.is_long,
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
