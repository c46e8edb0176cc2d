"""What is known of subscriptions."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime
    from uuid import UUID

#: The entity of changes to subscriptions in the audit log.
TABLE = "usersync.subscriptions"

#: The number of shards of each subscription.
SHARDS = 16


@dataclass(frozen=True)
class Subscription:
    """Who wants which events."""

    name: str
    #: "handler" for a Python function, "webhook" or "stream".
    kind: str
    #: Actions, and prefixes that end in a star.
    actions: tuple[str, ...]
    #: Further filters by field.
    wanted: Mapping[str, Any] = field(default_factory=dict)
    config: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class SubscriptionStatus(Subscription):
    """A subscription, and how far it is. Times are in UTC."""

    #: "active", "paused", or "held": this database is another one than its home.
    state: str = "active"
    #: Why it is paused or held.
    reason: str | None = None
    created_at: datetime | None = None
    created_by: str | None = None
    state_since: datetime | None = None
    #: How many events it has not looked at yet, whether its filter matches them or not. Of events without a
    #: number in the feed, which wait for a worker, it counts 10,000 at most.
    lag: int = 0
    #: How many existing users the backfill has read so far. None: there is no backfill, or it has ended.
    backfilled: int | None = None
    #: How many events workers had started, without a stored result, when they last renewed their leases, a
    #: few seconds ago. None: a worker of an earlier release does not say it.
    in_flight: int | None = 0
    #: How many events wait for the next attempt, or for an earlier event of their entity.
    parked: int = 0
    dead: int = 0
    #: How many running workers serve it.
    workers: int = 0
    #: The database whose events it sends: the system identifier with the database's oid, and the address
    #: without a login. None: not known yet. Handlers have no home.
    home_cluster: str | None = None
    home_address: str | None = None

    @property
    def has_problem(self) -> bool:
        """Whether events are dead, or nobody works on it."""
        return self.dead > 0 or self.state == "held" or (self.state == "active" and self.workers == 0)


def event_label(number: int, event_id: object) -> str:
    """How texts name an event: by its number in the feed, which an event of a backfill does not have."""
    return f"event {number}" if number > 0 else f"backfill event {event_id}"


@dataclass(frozen=True)
class ParkedEvent:
    """An event that a subscription could not handle, or that waits for an earlier event of its entity."""

    subscription: str
    #: Its position in the feed. Below zero: an event of a backfill.
    number: int
    event_id: UUID
    entity_type: str | None
    entity_id: str | None
    #: "waiting" or "dead".
    state: str
    #: 0: it waits for an earlier event of its entity.
    attempts: int
    next_try_at: datetime | None
    last_tried_at: datetime | None
    error: str | None
    parked_at: datetime


@dataclass(frozen=True)
class DeliveryAttempt:
    """One attempt to handle an event. Times are in UTC."""

    subscription: str
    #: Grows with each attempt of the subscription.
    attempt_id: int
    #: The event's position in the feed. Below zero: an event of a backfill.
    number: int
    event_id: UUID
    #: The first is 1. An event that is delivered again starts at 1 again.
    attempt: int
    attempted_at: datetime
    #: None: the worker process ended during the attempt.
    seconds: float | None
    #: None: the attempt succeeded.
    error: str | None
    #: What the receiver of a webhook answered.
    answer: str | None


@dataclass(frozen=True)
class SyncedSubscriptions:
    """The result of registering handlers: the names of the subscriptions."""

    created: tuple[str, ...]
    changed: tuple[str, ...]
    unchanged: tuple[str, ...]
    #: Subscriptions of handlers that are not among the given ones. They stay.
    others: tuple[str, ...]
