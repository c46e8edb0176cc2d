"""The metrics with their names and units, independent of the monitoring system.

``usersync.metrics.prometheus`` and ``usersync.metrics.opentelemetry`` export them. This module does no I/O.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from usersync.audit.delivery.stats import AuditStats, Counters
    from usersync.audit.spool.listing import SpoolSurvey
    from usersync.events.models import SubscriptionStatus
    from usersync.models import SyncStatus
    from usersync.transports.jetstream.backlog import Backlog

__all__ = [
    "Definition",
    "Sample",
    "definitions",
    "of_audit_log",
    "of_spools",
    "of_status",
    "of_subscriptions",
]

MetricKind = Literal["gauge", "counter"]


@dataclass(frozen=True)
class Definition:
    """A metric: its name in Prometheus (a counter without ``_total``), and its unit in UCUM."""

    name: str
    help: str
    unit: str = "1"
    kind: MetricKind = "gauge"
    labels: tuple[str, ...] = ()


@dataclass(frozen=True)
class Sample:
    """One value of a metric. ``labels`` are in the order of the definition."""

    definition: Definition
    value: float
    labels: tuple[str, ...] = field(default=())


UP = Definition("usersync_up", "Whether the database could be asked: 1 or 0.")
WRITABLE = Definition("usersync_database_writable", "Whether the database accepts writes: 1 or 0.")
PAUSED = Definition("usersync_paused", "Whether the triggers are paused: 1 or 0.")
AUTH_USERS = Definition("usersync_auth_users", "Users whom the auth server has.", "{user}")
USERS = Definition("usersync_users", "Rows of the users table, those of deleted users included.", "{user}")
DIFFERING = Definition(
    "usersync_differing_users", "Users whose two rows do not agree.", "{user}", labels=("difference",)
)
SYNC_FAILURES = Definition(
    "usersync_sync_failures",
    "Users in the failures table, by the reason.",
    "{user}",
    labels=("sqlstate",),
)
REMOVAL_FAILED = Definition(
    "usersync_removal_failed_users",
    "Deleted users whose row could not be removed or anonymized.",
    "{user}",
)
EVENT_FAILED = Definition(
    "usersync_event_failed_users",
    "Users with events that could not be stored in the audit log.",
    "{user}",
)
LAG = Definition("usersync_lag_seconds", "For how long the oldest missing user has been missing.", "s")
OLDEST_FAILURE = Definition("usersync_oldest_failure_age_seconds", "Age of the oldest sync failure.", "s")
LAST_RUN = Definition(
    "usersync_last_run_age_seconds", "When the last reconciling run did something, finished or not.", "s"
)
LAST_RUN_FINISHED = Definition("usersync_last_run_finished", "Whether that run has finished: 1 or 0.")

SUBSCRIPTION_LAG = Definition(
    "usersync_subscription_lag_events",
    "Events that an active or held subscription has not read yet. Without a worker, 10,000 new ones at most.",
    "{event}",
    labels=("subscription",),
)
SUBSCRIPTION_IN_FLIGHT = Definition(
    "usersync_subscription_in_flight_events",
    "Events that workers were handling when they last renewed their leases, a few seconds ago.",
    "{event}",
    labels=("subscription",),
)
SUBSCRIPTION_PARKED = Definition(
    "usersync_subscription_parked_events",
    "Events that a subscription could not handle, waiting for the next attempt or dead.",
    "{event}",
    labels=("subscription", "state"),
)
SUBSCRIPTION_WORKERS = Definition(
    "usersync_subscription_workers",
    "Running workers that serve an active subscription. A held subscription has none.",
    "{process}",
    labels=("subscription",),
)

INGEST_UP = Definition(
    "usersync_ingest_up",
    "Whether the stream of --ingest answered: 1 or 0. If 0, its messages are unknown and left out.",
)
INGEST_MESSAGES = Definition(
    "usersync_ingest_messages",
    "Messages of the stream that are not stored yet: not delivered to a worker (pending), or delivered.",
    "{message}",
    labels=("state",),
)
INGEST_REDELIVERED = Definition(
    "usersync_ingest_redelivered_messages",
    "Unacknowledged messages that were delivered more than once.",
    "{message}",
)
INGEST_AGE = Definition(
    "usersync_ingest_oldest_age_seconds", "For how long the oldest message has waited in the stream.", "s"
)
INGEST_EVENTS = Definition(
    "usersync_ingest_events", "Events that this worker took from the stream, by the result.", "{event}",
    "counter", ("result",),
)  # fmt: skip
INGEST_FAILURES = Definition(
    "usersync_ingest_consecutive_failures",
    "Failed attempts to store events of the stream since the last success.",
    "{attempt}",
)

SPOOL_EVENTS = Definition(
    "usersync_spool_events", "Audit events that wait on this machine.", "{event}", labels=("spool",)
)
SPOOL_AGE = Definition(
    "usersync_spool_oldest_age_seconds", "For how long the oldest of them has waited.", "s", labels=("spool",)
)
SPOOL_BYTES = Definition("usersync_spool_bytes", "What the spool takes on the disk.", "By", labels=("spool",))
SPOOL_QUARANTINED = Definition(
    "usersync_spool_quarantined_events",
    "Audit events that the database could not take in any form.",
    "{event}",
    labels=("spool",),
)
SPOOL_DAMAGED = Definition(
    "usersync_spool_damaged_files", "Spool files that were set aside unread.", "{file}", labels=("spool",)
)

EVENTS = Definition(
    "usersync_audit_events", "Audit events of this process, by what became of them.", "{event}", "counter",
    ("result",),
)  # fmt: skip
WAITING = Definition(
    "usersync_audit_waiting_events", "Audit events not yet in the database.", "{event}", labels=("place",)
)
WAITING_AGE = Definition(
    "usersync_audit_oldest_waiting_seconds", "For how long the oldest of them has waited.", "s"
)
BATCHES = Definition(
    "usersync_audit_batches", "Batches that were stored in the database.", "{batch}", "counter"
)
BATCH_SECONDS = Definition(
    "usersync_audit_batch_seconds", "Time spent sending these batches.", "s", "counter"
)
FAILURES = Definition(
    "usersync_audit_consecutive_failures",
    "Failed attempts to send since the last that succeeded.",
    "{attempt}",
)
SPOOLING = Definition(
    "usersync_audit_spooling", "Whether events go to the spool: 1, or 0 where they go to memory only."
)


def of_status(status: SyncStatus) -> Iterator[Sample]:
    """The metrics of ``usersync status``."""
    yield Sample(WRITABLE, status.read_only is None)
    yield Sample(PAUSED, status.paused is not None)
    yield Sample(AUTH_USERS, status.auth_users)
    yield Sample(USERS, status.users)
    yield Sample(DIFFERING, status.missing, ("missing",))
    yield Sample(DIFFERING, status.stale, ("stale",))
    yield Sample(DIFFERING, status.orphaned, ("orphaned",))
    yield Sample(DIFFERING, status.deleted_upstream, ("deleted_upstream",))
    yield Sample(REMOVAL_FAILED, status.removal_failed)
    yield Sample(EVENT_FAILED, status.event_failed)
    yield from (
        Sample(SYNC_FAILURES, count, (sqlstate,)) for sqlstate, count in sorted(status.by_sqlstate.items())
    )
    yield Sample(LAG, status.lag.total_seconds() if status.lag else 0)
    oldest = status.oldest_failure_at
    yield Sample(OLDEST_FAILURE, (status.observed_at - oldest).total_seconds() if oldest else 0)
    if status.last_run is not None:
        yield Sample(LAST_RUN, (status.observed_at - status.last_run.updated_at).total_seconds())
        yield Sample(LAST_RUN_FINISHED, status.last_run.finished)


def of_subscriptions(subscriptions: Iterable[SubscriptionStatus]) -> Iterator[Sample]:
    """The metrics of ``usersync subscriptions list``."""
    for each in subscriptions:
        if each.state != "paused":
            yield Sample(SUBSCRIPTION_LAG, each.lag, (each.name,))
            yield Sample(SUBSCRIPTION_WORKERS, each.workers, (each.name,))
        if each.in_flight is not None:
            yield Sample(SUBSCRIPTION_IN_FLIGHT, each.in_flight, (each.name,))
        yield Sample(SUBSCRIPTION_PARKED, each.parked, (each.name, "waiting"))
        yield Sample(SUBSCRIPTION_PARKED, each.dead, (each.name, "dead"))


def of_spools(spools: Iterable[SpoolSurvey], now: float) -> Iterator[Sample]:
    """The metrics of all spools on this machine. ``now`` is in seconds since 1970."""
    for spool in spools:
        where = (spool.directory.name,)
        oldest = min((file.oldest_at.timestamp() for file in spool.files if file.oldest_at), default=now)
        yield Sample(SPOOL_EVENTS, spool.waiting, where)
        yield Sample(SPOOL_AGE, max(now - oldest, 0), where)
        yield Sample(SPOOL_BYTES, sum(file.size for file in spool.files), where)
        yield Sample(SPOOL_QUARANTINED, spool.quarantined, where)
        yield Sample(SPOOL_DAMAGED, len(spool.damaged), where)


def of_audit_log(stats: AuditStats) -> Iterator[Sample]:
    """The metrics of one process's audit log."""
    results: Mapping[str, int] = {
        "accepted": stats.accepted,
        "stored": stats.stored,
        "duplicate": stats.duplicates,
        "rejected": stats.rejected,
        "quarantined": stats.quarantined,
        "dropped": stats.dropped,
    }
    yield from (Sample(EVENTS, count, (result,)) for result, count in results.items())
    yield Sample(WAITING, stats.spooled, ("spool",))
    yield Sample(WAITING, stats.in_memory, ("memory",))
    yield Sample(WAITING, stats.adopted, ("adopted",))
    yield Sample(WAITING_AGE, stats.oldest_age or 0)
    yield Sample(BATCHES, stats.batches)
    yield Sample(BATCH_SECONDS, stats.batch_seconds)
    yield Sample(FAILURES, stats.consecutive_failures)
    yield Sample(SPOOLING, stats.spool_error is None)


def of_backlog(backlog: Backlog | None) -> Iterator[Sample]:
    """The metrics of a stream that workers store. None: it did not answer."""
    yield Sample(INGEST_UP, backlog is not None)
    if backlog is not None:
        yield Sample(INGEST_MESSAGES, backlog.pending, ("pending",))
        yield Sample(INGEST_MESSAGES, backlog.unacknowledged, ("unacknowledged",))
        yield Sample(INGEST_REDELIVERED, backlog.redelivered)
        yield Sample(INGEST_AGE, backlog.oldest_s)


def of_ingested(counters: Counters) -> Iterator[Sample]:
    """The metrics of one worker that stores events of a stream."""
    results: Mapping[str, int] = {
        "stored": counters.stored,
        "duplicate": counters.duplicates,
        "rejected": counters.rejected,
        "quarantined": counters.quarantined,
        "discarded": counters.dropped,
    }
    yield from (Sample(INGEST_EVENTS, count, (result,)) for result, count in results.items())
    yield Sample(INGEST_FAILURES, counters.failures)


def definitions() -> tuple[Definition, ...]:
    """All metrics."""
    return tuple(each for each in globals().values() if isinstance(each, Definition))
