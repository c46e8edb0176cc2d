"""Serves one subscription: reads the events of its shards, has them handled, and stores the results.

The thread of a runner reads and writes. The delivery runs in a lane, so that a function that hangs blocks
only its own thread.
"""

from __future__ import annotations

import logging
import threading
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import psycopg

from usersync.errors import UsersyncError
from usersync.events import leases, subscriptions
from usersync.events.delivery import AttemptOutcome
from usersync.events.models import event_label
from usersync.transports.psycopg import transport_for
from usersync.transports.steps import in_transaction
from usersync.worker.attempts import Batch, describe, too_slow, try_all
from usersync.worker.clock import now
from usersync.worker.handling import HandlerDelivery
from usersync.worker.kinds import no_kind
from usersync.worker.lane import Lane, OverdueError
from usersync.worker.session import open_session
from usersync.worker.transaction import end_session, try_in_transaction

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from uuid import UUID

    from usersync.audit.models import NumberedEvent
    from usersync.events.delivery import Delivery
    from usersync.events.handlers import Handler
    from usersync.events.leases import Assignment, Shard
    from usersync.events.models import Subscription
    from usersync.transports.steps import Steps
    from usersync.worker.attempts import Attempt
    from usersync.worker.backoff import Backoff
    from usersync.worker.kinds import DeliveryFactory
    from usersync.worker.transaction import Begun

T = TypeVar("T")

logger = logging.getLogger("usersync.worker")

#: How many numbers of the feed one page looks at, and at most if the filter matches few events.
PAGE, LARGEST_PAGE = 500, 5_000
#: The same if only the first event is needed.
CAREFUL_PAGE = 10
#: So many parked events are tried in one batch, if they only waited for an earlier event.
UNTRIED = 50
#: After this time, a batch ends, and its results are written.
BATCH_S = 1.0
#: A blocking function gets this much longer than its time limit before its thread is left alone.
GRACE_S = 1.0
#: So many threads may hang. More would fill the memory.
MOST_HANGING = 20
_IDLE_S, _LONGEST_OUTAGE_S = 1.0, 30.0

ENDED = "the worker process ended during the attempt"


@dataclass(frozen=True)
class Terms:
    """What all runners of a worker share."""

    dsn: str
    worker: UUID
    lease: float
    backoff: Backoff

    @property
    def idle_limit(self) -> float:
        """Seconds after which the server ends an idle transaction: before the lease is over."""
        return self.lease * 0.6


class LeaseLostError(Exception):
    """Another worker has the shard now."""


class Runner:
    """``handler`` for a Python handler, otherwise ``kind``."""

    def __init__(
        self,
        subscription: Subscription,
        terms: Terms,
        *,
        handler: Handler | None = None,
        kind: DeliveryFactory = no_kind,
    ) -> None:
        self.name = subscription.name
        self._subscription = subscription
        self._terms = terms
        self._handler = handler
        self._kind = kind
        self._attempts = handler.attempts if handler else int(subscription.config.get("attempts", 12))
        self._wake = threading.Condition()
        self._stopping = False
        self._news = False
        self._assigned: dict[int, Shard] = {}
        self._fair = 0
        self._deadline = 0.0
        self._last_number = 0
        # Of this runner's thread only:
        self._shards: dict[int, Shard] = {}
        self._given_back: set[tuple[int, int]] = set()
        self._transport = transport_for(terms.dsn)
        self._lane: Lane | None = None
        self._delivery: Delivery | None = None
        self._served = subscription
        self._hanging: list[Lane] = []
        self._due_at = 0.0
        self._stretch = 1
        self._suspect: int | None = None
        self._begun: Begun | None = None
        #: Events that are being handled. Other threads read it.
        self._batch: Batch | None = None
        self.thread = threading.Thread(target=self._serve, name=f"usersync runner {self.name}", daemon=True)

    # Called by other threads.

    def assign(self, assignment: Assignment, deadline: float) -> None:
        """The shards of which the worker has the leases, until ``deadline``."""
        with self._wake:
            self._subscription = assignment.subscription
            self._assigned = {each.shard: each for each in assignment.shards}
            self._fair, self._deadline = assignment.fair, deadline
            self._tell_thread()

    def retire(self) -> None:
        """The subscription is paused or gone."""
        with self._wake:
            self._assigned, self._deadline = {}, 0.0

    def tell(self, last_number: int) -> None:
        """The feed has events up to this number."""
        with self._wake:
            self._last_number = last_number
            self._tell_thread()

    def stop(self) -> None:
        """End after the event in progress."""
        with self._wake:
            self._stopping = True
            self._tell_thread()

    def _tell_thread(self) -> None:
        self._news = True
        self._wake.notify_all()

    @property
    def in_flight(self) -> int:
        """The number of events that it has started, and whose results are not stored yet."""
        return 0 if (batch := self._batch) is None else batch.in_flight

    @property
    def hangs(self) -> bool:
        """Whether so many functions hang that the process should be replaced."""
        return sum(each.is_alive for each in self._hanging) >= MOST_HANGING

    # The runner's thread.

    def _serve(self) -> None:
        outage = 0.5
        while not self._stopping:
            self._news = False
            try:
                is_busy = self._step()
                outage = 0.5
            except LeaseLostError:
                self._note_lost_lease()
                self._start_again()
                continue
            except Exception as error:
                is_known = isinstance(error, UsersyncError | psycopg.Error)
                logger.warning("%s: %s", self.name, describe(error), exc_info=not is_known)
                self._disconnect()
                self._start_again()
                self._rest(outage)
                outage = min(outage * 2, _LONGEST_OUTAGE_S)
                continue
            if not is_busy:
                self._rest(_IDLE_S)
        self._end()

    def _rest(self, seconds: float) -> None:
        with self._wake:
            if not self._stopping and not self._news:
                self._wake.wait(seconds)

    def _step(self) -> bool:
        """One batch. Returns whether there was anything to do."""
        shards = self._own_shards()
        if not shards or not self._may_start():
            return False
        if self._served != self._subscription:
            self._close_delivery()
            self._served = self._subscription
        for each in shards:
            if each.trying is not None:
                self._park_fatal(each, each.trying)
                return True
        is_busy = self._try_due(shards)
        return self._try_page(self._own_shards()) or is_busy

    def _may_start(self) -> bool:
        """Whether an event may start now. A stopped process that wakes up finds its lease over."""
        return not self._stopping and now() < self._deadline - self._terms.lease * 0.1

    def _own_shards(self) -> list[Shard]:
        with self._wake:
            assigned, fair = dict(self._assigned), self._fair
        if not assigned:
            self._given_back.clear()
        known = self._shards
        self._shards = {
            number: known[number] if number in known and known[number].fence == each.fence else each
            for number, each in assigned.items()
            if (number, each.fence) not in self._given_back
        }
        surplus = sorted(self._shards)[fair:]
        if surplus:
            self._run(leases.release(self._terms.worker, self.name, surplus))
            for number in surplus:
                self._given_back.add((number, self._shards.pop(number).fence))
        return [self._shards[number] for number in sorted(self._shards)]

    def _note_lost_lease(self) -> None:
        reason = ""
        with suppress(UsersyncError, psycopg.Error):
            reason = self._run(leases.lost_because(self._terms.worker, self.name, self._shards))
        match reason:
            case "removed":
                logger.info("%s: the subscription was removed", self.name)
            case "reset":
                logger.info(
                    "%s: the subscription was replayed or changed. It continues from there", self.name
                )
            case _:
                logger.warning("%s: another worker has taken over some shards", self.name)

    def _start_again(self) -> None:
        """Forget all shards until the worker has read their leases and positions again."""
        with self._wake:
            self._assigned = {}
        self._shards = {}

    # Pages of the feed.

    def _try_page(self, shards: Sequence[Shard]) -> bool:
        behind = [each for each in shards if each.position < self._last_number]
        if not behind or not self._may_start():
            return False
        careful = next((each for each in behind if each.position < each.careful_until), None)
        low = min(each.position for each in behind)
        group = [careful] if careful else [each for each in behind if each.position == low]
        after = group[0].position
        ahead = [each.position for each in shards if each.position > after]
        size = min((CAREFUL_PAGE if careful else PAGE) * self._stretch, LARGEST_PAGE)
        page = self._run(leases.read_page(self._subscription, [each.shard for each in group], after, size))
        end = page.position if careful or not ahead else min(page.position, *ahead)
        events = [each for each in page.events if each.number <= end]
        self._stretch = self._stretch * 2 if page.more and not page.events else 1
        if not events:
            if end > after:
                self._finish([each.at(end) for each in group])
            return end > after
        chosen = self._choose(events, alone=careful is not None)
        complete = len(chosen) == len(events)
        if careful and not self._run(leases.announce(self.name, careful, chosen[0].number)):
            raise LeaseLostError
        self._handle(group, chosen, end if complete else chosen[-1].number)
        return True

    def _choose(self, events: list[NumberedEvent], *, alone: bool) -> list[NumberedEvent]:
        """The events of the next batch: from the first on."""
        if alone or self._suspect == events[0].number:
            return events[:1]
        for index, each in enumerate(events):
            if each.number == self._suspect:
                events = events[:index]
        concurrency = self._open_delivery().concurrency
        return events if concurrency == 1 else events[: concurrency * 8]

    def _handle(self, group: Sequence[Shard], events: Sequence[NumberedEvent], end: int) -> None:
        """Handle new events, and move the position behind them."""
        entities = {entity for each in events if (entity := leases.entity_of(each)) is not None}
        blocked = self._run(leases.blocked(self.name, entities))
        batch = Batch([(each, 1) for each in events], blocked, self._gate(), self._attempts)

        def settled() -> tuple[list[Shard], list[leases.Parked]]:
            count = next(
                (index for index, each in enumerate(events) if not batch.is_settled(each)), len(events)
            )
            position = (
                end if count == len(events) else (events[count - 1].number if count else group[0].position)
            )
            parked = [found for each in events[:count] if (found := self._parked(batch, each)) is not None]
            return [each.at(position) for each in group], parked

        def finish() -> Steps[bool]:
            moved, parked = settled()
            return (yield from leases.finish(self.name, moved, parked=parked, attempts=batch.records()))

        with self._holding(batch):
            is_written = self._try_batch(batch, finish)
            moved, parked = settled()
            if is_written:
                self._keep(moved)
            elif moved[0].position > group[0].position or batch.outcomes:
                self._finish(moved, parked=parked, attempts=batch.records())
        self._after(batch, parked)

    @contextmanager
    def _holding(self, batch: Batch) -> Iterator[None]:
        self._batch = batch
        try:
            yield
        finally:
            self._batch = None

    def _gate(self) -> Callable[[], bool]:
        """May the next event start? The first may, so that each batch gets on."""
        until = now() + BATCH_S
        limited = self._handler is not None

        def may_start() -> bool:
            return self._may_start() and (not limited or now() < until)

        return may_start

    def _parked(self, batch: Batch, event: NumberedEvent) -> leases.Parked | None:
        """The row of an event that is not done; None if it is."""
        outcome = batch.outcomes.get(event.number)
        if outcome is not None and outcome.error is None:
            return None
        given = (event.number, str(event.id), event.entity_type, event.entity_id)
        if outcome is None:
            return leases.Parked(*given, "waiting", 0, None, None)
        state, delay = self._next_try(batch, outcome, 1)
        return leases.Parked(*given, state, 1, delay, outcome.error)

    def _next_try(self, batch: Batch, outcome: AttemptOutcome, attempt: int) -> tuple[str, float | None]:
        """The state of a failed event, and the seconds until its next attempt."""
        if not batch.waits_after(attempt, outcome):
            return "dead", None
        usual = self._terms.backoff(attempt)
        return "waiting", usual if outcome.retry_after is None else max(outcome.retry_after, 0.0)

    def _park_fatal(self, shard: Shard, number: int) -> None:
        """Park the event that was in progress when a worker crashed."""
        event = self._run(leases.read_event(self.name, number))
        attempts = [(event, 1)] if event else []
        batch = Batch(attempts, set(), self._may_start, self._attempts)
        parked = []
        if event is not None:
            entity = leases.entity_of(event)
            # If an earlier event of its entity waits, it was not tried.
            if entity is None or entity not in self._run(leases.blocked(self.name, [entity])):
                batch.outcomes[number] = AttemptOutcome.failed(ENDED)
            parked = [found for found in [self._parked(batch, event)] if found is not None]
        self._finish([shard.at(number)], parked=parked, attempts=batch.records())
        self._after(batch, parked)

    # Parked events.

    def _try_due(self, shards: Sequence[Shard]) -> bool:
        if now() < self._due_at:
            return False
        delivery = self._open_delivery()
        due = self._run(
            leases.take_due(self.name, shards, delivery.concurrency, untried=UNTRIED, lease=self._terms.lease)
        )
        if not due:
            self._due_at = now() + _IDLE_S
            return False
        gone = [
            leases.Tried(each.number, "dead", error="the event is no longer in the audit log")
            for each in due
            if not each.event
        ]
        attempts: list[Attempt] = [(each.event, each.attempt) for each in due if each.event]
        batch = Batch(attempts, set(), self._gate(), self._attempts)

        def tried() -> list[leases.Tried]:
            return gone + [self._tried(batch, event, attempt) for event, attempt in attempts]

        # Moves no position, but checks the leases.
        def finish() -> Steps[bool]:
            return (yield from leases.finish(self.name, shards, tried=tried(), attempts=batch.records()))

        if len(attempts) == 1:
            self._suspect = attempts[0][0].number
        with self._holding(batch):
            if not self._try_batch(batch, finish):
                self._finish(shards, tried=tried(), attempts=batch.records())
        self._after(batch, ())
        return True

    def _tried(self, batch: Batch, event: NumberedEvent, attempt: int) -> leases.Tried:
        outcome = batch.outcomes.get(event.number)
        if outcome is None:
            return leases.Tried(event.number, "waiting", 0.0, untried=True)
        if outcome.error is None:
            return leases.Tried(event.number, "done")
        state, delay = self._next_try(batch, outcome, attempt)
        return leases.Tried(event.number, state, delay, outcome.error)

    # Deliveries.

    @property
    def _is_transactional(self) -> bool:
        return self._handler is not None and self._handler.transactional

    def _try_batch(self, batch: Batch, finish: Callable[[], Steps[bool]]) -> bool:
        """Try the events. Returns whether the results are written already, in the handlers' transaction."""
        lane, delivery = self._open_lane(), self._open_delivery()
        limit = delivery.time_limit + GRACE_S
        try:
            if isinstance(delivery, HandlerDelivery) and delivery.session is not None:
                work = try_in_transaction(
                    delivery,
                    delivery.session,
                    batch,
                    finish,
                    idle_limit=self._terms.idle_limit,
                    on_begin=self._note_begin,
                )
                is_ours = lane.run(work, lambda: bool(batch.overdue(limit)))
                if not is_ours:
                    raise LeaseLostError
                self._suspect = None
                return True
            lane.run(try_all(delivery, batch), lambda: bool(batch.overdue(limit)))
        except OverdueError:
            self._abandon(batch, delivery, lane)
        except (psycopg.Error, UsersyncError) as error:
            self._close_delivery()
            if not self._is_transactional or batch.latest is None:
                raise
            self._undo(batch, describe(error))
        return False

    def _note_begin(self, begun: Begun) -> None:
        self._begun = begun

    def _abandon(self, batch: Batch, delivery: Delivery, lane: Lane) -> None:
        """Leave a thread that hangs alone. The event failed, and the others go on in another thread."""
        batch.is_over = batch.is_abandoned = True
        overdue = batch.overdue(0)
        logger.error("%s: the handler hangs; its thread is left alone", self.name)
        self._hanging = [each for each in [*self._hanging, lane] if each.is_alive]
        lane.leave()
        self._lane = self._delivery = None
        outcome = too_slow(delivery.time_limit)
        if self._is_transactional:
            self._end_session()
            self._undo(batch, str(outcome.error))
        else:
            batch.outcomes |= dict.fromkeys(overdue, outcome)
            batch.timed |= {number: (began, now() - began) for number, began in batch.in_hand.items()}

    def _undo(self, batch: Batch, error: str) -> None:
        """A transaction of handlers failed as a whole. Nothing of it is done.

        The event that was in progress runs alone the next time. If it fails so again, it is parked.
        """
        latest = batch.latest
        batch.start_again()
        if latest is not None and latest == self._suspect:
            batch.outcomes = {latest: AttemptOutcome.failed(error)}
            self._suspect = None
            return
        self._suspect = latest
        logger.warning("%s: a transaction failed: %s", self.name, error)

    def _end_session(self) -> None:
        """End the database session of a handler that hangs, so that its locks are free."""
        begun, self._begun = self._begun, None
        if begun is not None:
            with suppress(UsersyncError):
                self._run(end_session(begun))

    def _after(self, batch: Batch, parked: Sequence[leases.Parked]) -> None:
        for each in parked:
            if each.delay is not None:
                self._due_at = min(self._due_at, now() + each.delay)
        failed = {number: each for number, each in batch.outcomes.items() if each.error is not None}
        for event, attempt in batch.attempts if failed else ():
            outcome = failed.get(event.number)
            if outcome is None:
                continue
            about = (self.name, event_label(event.number, event.id), attempt)
            if batch.waits_after(attempt, outcome):
                logger.warning(
                    "%s: %s failed (attempt %d of %d): %s", *about, batch.last_attempt, outcome.error
                )
            else:
                logger.error("%s: %s is dead after attempt %d: %s", *about, outcome.error)
            if outcome.disables:
                self._run(subscriptions.pause(self.name, reason=outcome.error))
                self.retire()

    def _open_delivery(self) -> Delivery:
        if self._delivery is None:
            self._delivery = self._open_lane().run(self._make())
        return self._delivery

    def _open_lane(self) -> Lane:
        if self._lane is None:
            self._lane = Lane(self.name)
        return self._lane

    async def _make(self) -> Delivery:
        if self._handler is None:
            return self._kind(self._subscription)
        if not self._handler.transactional:
            return HandlerDelivery(self._handler, self._handler.time_limit)
        session = await open_session(self._terms.dsn, is_async=self._handler.is_async)
        return HandlerDelivery(self._handler, min(self._handler.time_limit, self._terms.idle_limit), session)

    def _close_delivery(self) -> None:
        delivery, self._delivery = self._delivery, None
        if self._lane is not None and delivery is not None:
            with suppress(Exception):
                self._lane.run(delivery.close())

    # The database.

    def _run(self, operation: Steps[T]) -> T:
        return self._transport.run(operation)

    def _finish(
        self,
        shards: Sequence[Shard],
        *,
        parked: Sequence[leases.Parked] = (),
        tried: Sequence[leases.Tried] = (),
        attempts: Sequence[leases.AttemptRecord] = (),
    ) -> None:
        """Write results in a transaction of their own. Raises ``LeaseLostError``."""

        def body() -> Steps[None]:
            finish = leases.finish(self.name, shards, parked=parked, tried=tried, attempts=attempts)
            if not (yield from finish):
                raise LeaseLostError

        self._run(in_transaction(body()))
        self._keep(shards)

    def _keep(self, shards: Sequence[Shard]) -> None:
        self._shards |= {each.shard: each.written() for each in shards}

    def _disconnect(self) -> None:
        with suppress(psycopg.Error):
            self._transport.close()

    def _end(self) -> None:
        self._close_delivery()
        if self._lane is not None:
            self._lane.leave()
        with suppress(UsersyncError):
            if self._shards:
                self._run(leases.release(self._terms.worker, self.name, list(self._shards)))
        self._disconnect()
