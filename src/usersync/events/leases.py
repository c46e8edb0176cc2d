"""Operations of a worker: its leases, the events of its shards, and their results."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, TypedDict

from usersync.audit.feed import numbered_event, page_of
from usersync.events.models import SHARDS, Subscription
from usersync.transports.steps import Steps, query, query_row

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence
    from uuid import UUID

    from usersync.audit.models import FeedPage, NumberedEvent

#: An entity: its type and its id.
Entity = tuple[str, str]


@dataclass(frozen=True)
class Shard:
    """A shard of which this worker has the lease."""

    shard: int
    #: The number of the lease. A later lease has a higher one.
    fence: int
    position: int
    #: The position that the database has.
    stored: int
    #: Up to this number, events are handled one by one.
    careful_until: int = 0
    #: The event that an earlier worker was handling when it crashed.
    trying: int | None = None

    def at(self, position: int) -> Shard:
        """The shard after these events."""
        return replace(self, position=max(position, self.position), trying=None)

    def written(self) -> Shard:
        """The shard after its position was stored."""
        return replace(self, stored=self.position)


@dataclass(frozen=True)
class Assignment:
    """A subscription that this worker serves, and its shards."""

    subscription: Subscription
    #: How many shards it should have.
    fair: int
    shards: tuple[Shard, ...]


@dataclass(frozen=True)
class Parked:
    """An event to park. Without a ``delay``, it waits for an earlier event of its entity, or is dead."""

    number: int
    event_id: str
    entity_type: str | None
    entity_id: str | None
    state: str
    attempts: int
    delay: float | None
    error: str | None


@dataclass(frozen=True)
class Tried:
    """The result of an attempt of a parked event: ``done``, ``waiting`` or ``dead``."""

    number: int
    state: str
    delay: float | None = None
    error: str | None = None
    #: There was no attempt after all.
    untried: bool = False


class AttemptRecord(TypedDict):
    """An attempt, as it is stored in ``usersync.delivery_attempts``."""

    number: int
    event_id: str
    attempt: int
    #: Seconds since its start, and its duration in seconds. None if the worker ended during the attempt.
    ago: float | None
    seconds: float | None
    error: str | None
    answer: str | None


@dataclass(frozen=True)
class DueEvent:
    """A parked event whose next attempt is now."""

    number: int
    attempt: int
    #: None if the log does not have it any more.
    event: NumberedEvent | None


def entity_of(event: NumberedEvent) -> Entity | None:
    """The entity whose events have an order. None: the event has no order."""
    if event.entity_type is None or event.entity_id is None:
        return None
    return event.entity_type, event.entity_id


def renew_worker(
    worker: UUID,
    place: tuple[str, int],
    *,
    handlers: Collection[str],
    kinds: Collection[str],
    lease: float,
    in_flight: Mapping[str, int],
) -> Steps[tuple[Assignment, ...]]:
    """Say that the worker is alive, renew its leases, and take its part of the shards.

    ``place`` is its host and its process id. ``in_flight`` is the number of events that it is handling, by
    subscription.
    """
    row = yield from query_row(
        "select usersync.renew_worker(%(worker)s, %(host)s, %(pid)s, %(handlers)s, %(kinds)s, "
        "make_interval(secs => %(lease)s)) as found",
        worker=worker,
        host=place[0],
        pid=place[1],
        handlers=sorted(handlers),
        kinds=sorted(kinds),
        lease=lease,
    )
    # Without events, nothing is written.
    yield from query(
        "update usersync.workers set in_flight = %(in_flight)s "
        "where worker = %(worker)s and in_flight is distinct from %(in_flight)s",
        worker=worker,
        in_flight=json.dumps(dict(in_flight)),
    )
    return tuple(_assignment(each) for each in row["found"])


def _assignment(row: dict[str, Any]) -> Assignment:
    subscription = Subscription(row["name"], row["kind"], tuple(row["actions"]), row["wanted"], row["config"])
    return Assignment(
        subscription, row["fair"], tuple(Shard(**each, stored=each["position"]) for each in row["shards"])
    )


def release(worker: UUID, subscription: str, shards: Iterable[int]) -> Steps[None]:
    """Give shards back."""
    yield from query(
        "update usersync.subscription_shards set worker = null, leased_until = null, trying = null "
        "where worker = %(worker)s and subscription = %(subscription)s and shard = any(%(shards)s)",
        worker=worker,
        subscription=subscription,
        shards=sorted(shards),
    )


def leave(worker: UUID) -> Steps[None]:
    """Give all shards back: the worker ends."""
    yield from query(
        "update usersync.subscription_shards set worker = null, leased_until = null, trying = null "
        "where worker = %(worker)s",
        worker=worker,
    )
    yield from query("delete from usersync.workers where worker = %(worker)s", worker=worker)


@dataclass(frozen=True)
class FeedState:
    """The state of the feed and of the workers, which a worker reads many times a second."""

    #: The number of the newest event in the feed.
    last_number: int
    #: The number of live workers, and of shards without a worker. If one of them changes, shards move.
    shares: tuple[int, int]


def feed_state() -> Steps[FeedState]:
    """Read the state of the feed and of the workers."""
    row = yield from query_row(
        "select coalesce((select last_number from usersync.feed), 0) as last, "
        "(select count(*) from usersync.workers where alive_until > clock_timestamp()) as workers, "
        "(select count(*) from usersync.subscription_shards where worker is null) as free"
    )
    return FeedState(int(row["last"]), (int(row["workers"]), int(row["free"])))


def read_page(subscription: Subscription, shards: Collection[int], after: int, size: int) -> Steps[FeedPage]:
    """The next events of these shards. Reads at most ``size`` numbers.

    A position below zero is in the backfill: the events of existing users, which come before the feed.
    """
    if after < 0:
        row = yield from query_row(
            "select usersync.read_backfill(%(subscription)s, %(after)s, %(shards)s, %(size)s) as page",
            subscription=subscription.name,
            after=after,
            shards=sorted(shards),
            size=size,
        )
        return page_of(row["page"])
    wanted = {**subscription.wanted, "actions": list(subscription.actions)}
    if len(shards) < SHARDS:
        wanted["shards"] = sorted(shards)
    row = yield from query_row(
        "select usersync.feed_page(%(after)s, %(wanted)s, %(size)s) as page",
        after=after,
        wanted=json.dumps(wanted),
        size=size,
    )
    return page_of(json.loads(row["page"]))


def read_event(subscription: str, number: int) -> Steps[NumberedEvent | None]:
    """The event with this number, or None if it no longer exists."""
    row = yield from query_row(
        "select usersync.event_of_subscription(%(subscription)s, %(number)s) as event",
        subscription=subscription,
        number=number,
    )
    return numbered_event(row["event"]) if row["event"] else None


def blocked(subscription: str, entities: Collection[Entity]) -> Steps[set[Entity]]:
    """Those of the entities that have a waiting event."""
    if not entities:
        return set()
    rows = yield from query(
        "select distinct entity_type, entity_id from usersync.parked_events "
        "where subscription = %(subscription)s and state = 'waiting' and entity_id = any(%(ids)s)",
        subscription=subscription,
        ids=sorted({entity_id for _, entity_id in entities}),
    )
    return {(row["entity_type"], row["entity_id"]) for row in rows}


def announce(subscription: str, shard: Shard, number: int) -> Steps[bool]:
    """Name the event that is handled next. False if the lease is lost."""
    rows = yield from query(
        "update usersync.subscription_shards set trying = %(number)s "
        "where subscription = %(subscription)s and shard = %(shard)s and fence = %(fence)s returning shard",
        number=number,
        subscription=subscription,
        shard=shard.shard,
        fence=shard.fence,
    )
    return bool(rows)


def finish(
    subscription: str,
    shards: Iterable[Shard],
    *,
    parked: Sequence[Parked] = (),
    tried: Sequence[Tried] = (),
    attempts: Sequence[AttemptRecord] = (),
) -> Steps[bool]:
    """Write results. False if one of the leases is lost, or a position is another: then roll back."""
    row = yield from query_row(
        "select usersync.finish_events("
        "%(subscription)s, %(shards)s, %(parked)s, %(tried)s, %(attempts)s) as ours",
        subscription=subscription,
        shards=json.dumps(
            [
                {"shard": each.shard, "fence": each.fence, "after": each.stored, "position": each.position}
                for each in shards
            ]
        ),
        parked=json.dumps([asdict(each) for each in parked]),
        tried=json.dumps([asdict(each) for each in tried]),
        attempts=json.dumps(attempts),
    )
    return bool(row["ours"])


def take_due(
    subscription: str, shards: Iterable[Shard], most: int, *, untried: int, lease: float
) -> Steps[tuple[DueEvent, ...]]:
    """The parked events whose next attempt is now, at most ``most``. Counts the attempt.

    If none of them was tried before, at most ``untried``.

    If the worker ends during it, the next one is after ``lease`` seconds, then twice as many, and so on.
    """
    row = yield from query_row(
        "select usersync.take_parked(%(subscription)s, %(shards)s, %(most)s, %(untried)s, "
        "make_interval(secs => %(lease)s)) as due",
        subscription=subscription,
        shards=json.dumps([{"shard": each.shard, "fence": each.fence} for each in shards]),
        most=most,
        untried=untried,
        lease=lease,
    )
    return tuple(
        DueEvent(each["number"], each["attempts"], numbered_event(each["event"]) if each["event"] else None)
        for each in row["due"]
    )


def lost_because(worker: UUID, subscription: str, shards: Collection[int]) -> Steps[str]:
    """Why the worker has lost leases of these shards: ``taken``, ``removed``, or ``reset`` by a command."""
    row = yield from query_row(
        "select case "
        "when not exists (select from usersync.subscriptions where name = %(subscription)s) then 'removed' "
        "when exists (select from usersync.subscription_shards where subscription = %(subscription)s "
        "and shard = any(%(shards)s) and worker <> %(worker)s) then 'taken' else 'reset' end as reason",
        worker=worker,
        subscription=subscription,
        shards=sorted(shards),
    )
    return str(row["reason"])


def extend(worker: UUID, lease: float) -> Steps[None]:
    """Keep the leases of a worker that ends, until its last event is handled."""
    yield from query(
        "update usersync.subscription_shards "
        "set leased_until = clock_timestamp() + make_interval(secs => %(lease)s) where worker = %(worker)s",
        worker=worker,
        lease=lease,
    )
