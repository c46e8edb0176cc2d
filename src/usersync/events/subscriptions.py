"""Operations on subscriptions: who wants events, and how far they are.

They need the role that owns usersync.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from usersync.audit.feed import number_events
from usersync.audit.noting import start_feed
from usersync.audit.reading import settings_with_log
from usersync.core.home import CLUSTER_SQL
from usersync.errors import ArgumentValueError, SettingsError
from usersync.events.models import (
    SHARDS,
    DeliveryAttempt,
    ParkedEvent,
    Subscription,
    SubscriptionStatus,
    SyncedSubscriptions,
)
from usersync.transports.steps import Steps, in_transaction, query, query_row

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from datetime import datetime
    from uuid import UUID

HANDLER, WEBHOOK, STREAM = "handler", "webhook", "stream"
CREATED = "user.created"

#: The columns of a subscription whose home is this database: it is no longer held.
RELEASED = (
    "state_since = case state when 'held' then now() else state_since end, "
    "reason = case state when 'held' then null else reason end, "
    "state = case state when 'held' then 'active' else state end"
)


def sync_handlers(
    wanted: Iterable[Subscription], *, from_beginning: bool = False, backfill: bool = False
) -> Steps[SyncedSubscriptions]:
    """Create the missing subscriptions, and change those whose filter is another now. Others stay.

    A new one gets the events from now on, or with ``from_beginning`` all events that have a number. With
    ``backfill``, one that wants ``user.created`` first gets such an event of each existing user. A changed
    one keeps its position.
    """
    subscriptions = tuple(wanted)
    yield from _start_feed(backfill=backfill)
    return (yield from in_transaction(_sync(subscriptions, from_beginning=from_beginning, backfill=backfill)))


def _sync(
    wanted: Sequence[Subscription], *, from_beginning: bool, backfill: bool
) -> Steps[SyncedSubscriptions]:
    yield from query("lock table usersync.subscriptions in share row exclusive mode")
    stored = {each.name: each for each in (yield from _stored())}
    for each in wanted:
        if each.name in stored and stored[each.name].kind != each.kind:
            raise SettingsError(
                f"the subscription {each.name} exists already, and is a {stored[each.name].kind}",
                hint="Give the handler another name.",
            )
    created = [each for each in wanted if each.name not in stored]
    changed = [each for each in wanted if each.name in stored and stored[each.name] != each]
    for each in created:
        yield from _insert(
            each, from_beginning=from_beginning, backfill=backfill and _wants_created_users(each)
        )
    for each in changed:
        yield from query(
            "update usersync.subscriptions set actions = %(actions)s, wanted = %(wanted)s, "
            "config = %(config)s where name = %(name)s",
            **_fields(each),
        )
        # A worker that has read the former filter must not move the positions over events that it omits.
        yield from query(f"update usersync.subscription_shards set {_FREED}{_OF_NAME}", name=each.name)
        yield from _request_user_events(each)
    names = {each.name for each in wanted}
    return SyncedSubscriptions(
        tuple(each.name for each in created),
        tuple(each.name for each in changed),
        tuple(each.name for each in wanted if each not in created and each not in changed),
        tuple(sorted(name for name, each in stored.items() if each.kind == HANDLER and name not in names)),
    )


#: Ends the lease: results of events that the worker is handling now are not stored.
_FREED = "fence = fence + 1, worker = null, leased_until = null, trying = null"
_OF_NAME = " where subscription = %(name)s"


def add(subscription: Subscription, *, from_beginning: bool = False, backfill: bool = False) -> Steps[None]:
    """Create one subscription of any kind. It starts as with ``sync_handlers()``.

    Raises ``SettingsError`` if the name is taken, or if its filter omits the events of a backfill.
    """
    if backfill and not _wants_created_users(subscription):
        raise SettingsError(
            "a backfill consists of user.created events without a tenant, which this filter omits",
            hint="Add user.created to the actions and remove the other filters, or leave out --backfill.",
        )
    yield from _start_feed(backfill=backfill)
    yield from in_transaction(_add(subscription, from_beginning=from_beginning, backfill=backfill))


def _add(subscription: Subscription, *, from_beginning: bool, backfill: bool) -> Steps[None]:
    yield from query("lock table usersync.subscriptions in share row exclusive mode")
    if any(each.name == subscription.name for each in (yield from _stored())):
        raise SettingsError(
            f"the subscription {subscription.name} exists already", hint="See: usersync subscriptions list"
        )
    yield from _insert(subscription, from_beginning=from_beginning, backfill=backfill)


def _start_feed(*, backfill: bool) -> Steps[None]:
    """Number the events so far, so that a new subscription starts after them."""
    settings = yield from settings_with_log()
    if settings.audit.is_own:
        yield from number_events()
        return
    if backfill:
        raise SettingsError(
            f"a backfill requires the audit log that usersync creates, and {settings.audit_table} is the "
            "application's own table",
            hint="Leave out --backfill. The subscription gets the users who are created from now on.",
        )
    yield from start_feed(settings)


def _insert(subscription: Subscription, *, from_beginning: bool, backfill: bool) -> Steps[None]:
    yield from query(
        "insert into usersync.subscriptions (name, kind, actions, wanted, config, home_cluster) "
        "values (%(name)s, %(kind)s, %(actions)s, %(wanted)s, %(config)s, "
        f"case when %(kind)s <> '{HANDLER}' then {CLUSTER_SQL} end)",
        **_fields(subscription),
    )
    if backfill:
        # Snapshot and number are of one row, so each event is visible in the snapshot or has a higher number.
        yield from query(
            "insert into usersync.backfills (subscription, feed_snapshot, starts_after) "
            "select %(name)s, case when %(from_beginning)s then first_snapshot else snapshot end, "
            "case when %(from_beginning)s then 0 else last_number end from usersync.feed",
            name=subscription.name,
            from_beginning=from_beginning,
        )
    yield from query(
        "insert into usersync.subscription_shards (subscription, shard, position, careful_until) "
        "select %(name)s, shard, first.position, least(first.position, 0) from (select coalesce("
        "(select last_number from usersync.backfills where subscription = %(name)s), "
        "case when %(from_beginning)s then 0 else (select last_number from usersync.feed) end, 0) as position"
        f") as first, generate_series(0, {SHARDS - 1}) as shard",
        name=subscription.name,
        from_beginning=from_beginning,
    )
    yield from _request_user_events(subscription)


def _wants_created_users(subscription: Subscription) -> bool:
    """Whether the events of a backfill match the filter."""
    event = {"entity_type": "user", "outcome": "succeeded", "tenant_id": None}
    return any(
        each == CREATED or (each.endswith("*") and CREATED.startswith(each[:-1]))
        for each in subscription.actions
    ) and all(event.get(name) == value for name, value in subscription.wanted.items())


def _fields(subscription: Subscription) -> dict[str, object]:
    return {
        "name": subscription.name,
        "kind": subscription.kind,
        "actions": list(subscription.actions),
        "wanted": json.dumps(dict(subscription.wanted)),
        "config": json.dumps(dict(subscription.config)),
    }


def _request_user_events(subscription: Subscription) -> Steps[None]:
    wants = any(each.startswith("user.") for each in subscription.actions)
    yield from _set_user_events(subscription.name, wanted=wants)


def _set_user_events(name: str, *, wanted: bool) -> Steps[None]:
    yield from query(
        "select usersync.request_user_events(%(by)s, %(wanted)s)", by=f"subscription {name}", wanted=wanted
    )


def _stored() -> Steps[list[Subscription]]:
    rows = yield from query(
        "select name, kind, actions, wanted, config from usersync.subscriptions order by name"
    )
    return [Subscription(**{**row, "actions": tuple(row["actions"])}) for row in rows]


def stored(name: str) -> Steps[Subscription]:
    """A subscription with its complete configuration. Raises ``SettingsError`` if there is none."""
    for each in (yield from _stored()):
        if each.name == name:
            return each
    raise _unknown(name)


def subscriptions(name: str | None = None) -> Steps[tuple[SubscriptionStatus, ...]]:
    """All subscriptions by name, or one, without the encrypted secrets of webhooks and streams.

    Raises ``SettingsError`` if there is no such subscription.
    """
    rows = yield from query(_LIST, name=name)
    if name is not None and not rows:
        raise _unknown(name)
    return tuple(SubscriptionStatus(**{**row, "actions": tuple(row["actions"])}) for row in rows)


_LIST = """
    select
        subscription.name, subscription.kind, subscription.actions, subscription.wanted,
        subscription.config - 'secrets' as config,
        subscription.state, subscription.reason, subscription.created_at, subscription.created_by,
        subscription.state_since, subscription.home_cluster, subscription.home_address,
        unread.numbered + unnumbered.events as lag,
        case when reached.position < 0 then reached.position + 1000000000000 end as backfilled,
        (
            select case when bool_and(worker.in_flight is not null) is not false
                then coalesce(sum((worker.in_flight ->> subscription.name)::bigint), 0)::bigint end
            from usersync.workers as worker
            where worker.alive_until > clock_timestamp()
                and (
                    subscription.name = any(worker.subscriptions)
                    or worker.in_flight -> subscription.name is not null
                )
        ) as in_flight,
        count(parked.number) filter (where parked.state = 'waiting') as parked,
        count(parked.number) filter (where parked.state = 'dead') as dead,
        (
            select count(*) from usersync.workers as worker
            where worker.alive_until > clock_timestamp() and subscription.name = any(worker.subscriptions)
        ) as workers
    from usersync.subscriptions as subscription
    cross join lateral (
        select min(shard.position) as position from usersync.subscription_shards as shard
        where shard.subscription = subscription.name
    ) as reached
    left join usersync.backfills as backfill on backfill.subscription = subscription.name
    cross join lateral (
        select greatest(coalesce((select last_number from usersync.feed), 0) - case
            when reached.position < 0 then backfill.starts_after else reached.position
        end, 0) as numbered
    ) as unread
    cross join (
        select case when has_function_privilege('usersync.unnumbered_events()', 'execute')
            then usersync.unnumbered_events() else 0
        end as events offset 0
    ) as unnumbered
    left join usersync.parked_events as parked on parked.subscription = subscription.name
    where %(name)s::text is null or subscription.name = %(name)s
    group by subscription.name, reached.position, unread.numbered, unnumbered.events
    order by subscription.name
"""


def _unknown(name: str) -> SettingsError:
    return SettingsError(f"there is no subscription {name!r}", hint="See: usersync subscriptions list")


def pause(name: str, *, reason: str | None = None) -> Steps[bool]:
    """Stop handling its events. They wait. Returns whether anything has changed.

    If it is paused already, only another ``reason`` changes.
    """
    changes = (
        "reason = %(reason)s, state_since = case state when 'paused' then state_since else now() end, "
        "state = 'paused'"
    )
    condition = (
        "state <> 'paused' or reason <> %(reason)s or (reason is null and %(reason)s::text is not null)"
    )
    return (yield from _change(name, changes, condition, reason=reason))


def resume(name: str) -> Steps[bool]:
    """Go on where it was paused or held. Returns whether anything has changed.

    If it was not paused, this database becomes its home. The next worker stores the address of this database.
    """
    moves = f"state = 'held' or (state = 'active' and home_cluster <> {CLUSTER_SQL})"
    return (
        yield from _change(
            name,
            "state = 'active', reason = null, state_since = now(), "
            f"home_cluster = case when {moves} then {CLUSTER_SQL} else home_cluster end, "
            f"home_address = case when {moves} then null else home_address end",
            f"state <> 'active' or {moves}",
        )
    )


def _change(name: str, changes: str, condition: str, **values: object) -> Steps[bool]:
    row = yield from query_row(
        f"with changed as (update usersync.subscriptions set {changes} "
        f"where name = %(name)s and ({condition}) returning name"
        ") select exists (select from changed) as changed, "
        "exists (select from usersync.subscriptions where name = %(name)s) as known",
        name=name,
        **values,
    )
    if not row["known"]:
        raise _unknown(name)
    return bool(row["changed"])


def remove(name: str) -> Steps[SubscriptionStatus]:
    """Delete a subscription, its position and its parked events. Returns it as it was."""

    def delete() -> Steps[SubscriptionStatus]:
        (found,) = yield from subscriptions(name)
        yield from query("delete from usersync.subscriptions where name = %(name)s", name=name)
        yield from query("delete from usersync.delivery_attempts where subscription = %(name)s", name=name)
        yield from _set_user_events(name, wanted=False)
        return found

    return (yield from in_transaction(delete()))


_PARKED = (
    "subscription, number, event_id, entity_type, entity_id, state, attempts, next_try_at, last_tried_at, "
    "error, parked_at"
)


def parked_events(
    name: str | None = None, *, state: str | None = None, limit: int = 100
) -> Steps[tuple[ParkedEvent, ...]]:
    """Parked events in the order of the feed: of one subscription or of all, ``waiting`` or ``dead``."""
    if name is not None:
        yield from stored(name)
    rows = yield from query(
        f"select {_PARKED} from usersync.parked_events "
        "where (%(name)s::text is null or subscription = %(name)s) "
        "and (%(state)s::text is null or state = %(state)s) order by subscription, number limit %(limit)s",
        name=name,
        state=state,
        limit=limit,
    )
    return tuple(ParkedEvent(**row) for row in rows)


def first_number(since: datetime) -> Steps[int | None]:
    """The number of the first event in the feed that happened then or later, or None if there is none."""
    row = yield from query_row(
        "select min(number) as first from usersync.event_numbers where occurred_at >= %(since)s", since=since
    )
    return row["first"] and int(row["first"])


def replayed(name: str, number: int) -> Steps[int]:
    """How many numbers of the feed ``replay()`` makes the subscription read again.

    Raises ``SettingsError`` if there is no such subscription, and ``ArgumentValueError`` if there is no such
    number.
    """
    yield from stored(name)
    row = yield from query_row(_REACHED, name=name)
    last = row["last"]
    if not 1 <= number <= last:
        raise ArgumentValueError(
            f"the feed has no event with the number {number}: its last number is {last}",
            hint="Pass a number of usersync subscriptions show or attempts, or a time, such as 2h.",
        )
    return max(min(int(row["position"]), int(last)) - number + 1, 0)


#: Within a backfill, the feed is read as far as the backfill lets it start.
_REACHED = """
    select
        coalesce((select last_number from usersync.feed), 0) as last,
        (
            select case when min(shard.position) < 0
                then (select starts_after from usersync.backfills where subscription = %(name)s)
                else min(shard.position)
            end
            from usersync.subscription_shards as shard where shard.subscription = %(name)s
        ) as position
"""


def replay(name: str, number: int) -> Steps[int]:
    """Handle all events from this number on again. Returns how many of them were parked or dead.

    If the subscription has not read the feed that far, its position does not change. Events that workers are
    handling now are handled again, too. Events from this number on are no longer parked or dead: they are
    handled again in their order, with all attempts.
    """
    yield from replayed(name, number)
    return (yield from in_transaction(_replay(name, number)))


def _replay(name: str, number: int) -> Steps[int]:
    yield from query(
        f"update usersync.subscription_shards set {_FREED}, position = least(position, %(number)s - 1)"
        f"{_OF_NAME}",
        name=name,
        number=number,
    )
    yield from query(
        f"update usersync.backfills set starts_after = least(starts_after, %(number)s - 1){_OF_NAME}",
        name=name,
        number=number,
    )
    row = yield from query_row(
        f"with ended as (delete from usersync.parked_events{_OF_NAME} and number >= %(number)s "
        "returning number) select count(*) as ended from ended",
        name=name,
        number=number,
    )
    return int(row["ended"])


def attempts(
    name: str, *, event_id: UUID | None = None, before: int | None = None, limit: int = 100
) -> Steps[tuple[DeliveryAttempt, ...]]:
    """The attempts of a subscription, the newest first: of one event, or of all.

    Pass the ``attempt_id`` of the last one as ``before`` for the next page.
    """
    yield from stored(name)
    rows = yield from query(
        "select * from usersync.list_attempts(%(name)s, %(event_id)s, %(before)s, %(limit)s)",
        name=name,
        event_id=event_id,
        before=before,
        limit=limit,
    )
    return tuple(DeliveryAttempt(**row) for row in rows)


def retry(name: str, *, number: int | None = None, event_id: UUID | None = None) -> Steps[int]:
    """Let the next attempt of dead and waiting events be now: of one event, or of all. Returns how many.

    One event is named by its number or its id. Events of a backfill have numbers below zero.
    Events that wait for an earlier event of their entity go on waiting. A dead event gets all its attempts
    again.
    """
    yield from stored(name)
    if event_id is not None:
        row = yield from query_row(
            "select min(number) as number from usersync.parked_events "
            "where subscription = %(name)s and event_id = %(event_id)s",
            name=name,
            event_id=event_id,
        )
        if row["number"] is None:
            return 0
        number = row["number"]
    row = yield from query_row(
        "with due as (update usersync.parked_events as parked set state = 'waiting', "
        "attempts = case state when 'dead' then 0 else attempts end, "
        # Events of one entity follow one another.
        "next_try_at = case when exists ("
        "select from usersync.parked_events as earlier where earlier.subscription = parked.subscription "
        "and earlier.entity_type = parked.entity_type and earlier.entity_id = parked.entity_id "
        "and earlier.number < parked.number and (earlier.state = 'waiting' or %(number)s::bigint is null)"
        ") then null else now() end "
        "where subscription = %(name)s and (state = 'dead' or next_try_at is not null) "
        "and (%(number)s::bigint is null or number = %(number)s) returning number) "
        "select count(*) as retried from due",
        name=name,
        number=number,
    )
    return int(row["retried"])
