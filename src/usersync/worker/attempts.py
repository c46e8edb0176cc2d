"""Runs events through a delivery: in order per entity, each within its time limit."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import psycopg

from usersync.errors import mask_addresses
from usersync.events.delivery import AttemptOutcome
from usersync.events.leases import entity_of
from usersync.worker.clock import now

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from usersync.audit.models import NumberedEvent
    from usersync.events.delivery import Delivery
    from usersync.events.leases import AttemptRecord, Entity

#: An event, and which attempt it is.
Attempt = tuple["NumberedEvent", int]


@dataclass
class Batch:
    """Attempts of one batch. The thread of the deliveries fills it in, and another thread watches it."""

    attempts: Sequence[Attempt]
    #: Entities with an earlier event that waits. Their events are not tried.
    blocked: set[Entity]
    #: Is asked before each event whether it may start.
    may_start: Callable[[], bool]
    #: After this attempt, a failed event is dead, and no other event waits for it.
    last_attempt: int
    outcomes: dict[int, AttemptOutcome] = field(default_factory=dict)
    #: The numbers of events that wait behind an earlier event of their entity.
    behind: set[int] = field(default_factory=set)
    #: The events in progress, and when each began.
    in_hand: dict[int, float] = field(default_factory=dict)
    #: When the last attempt of an event began, and how many seconds it took.
    timed: dict[int, tuple[float, float]] = field(default_factory=dict)
    #: The event that was started last.
    latest: int | None = None
    #: Nothing more may start.
    is_over: bool = False
    #: Set by the watcher, which has its own result for the event in progress: later results are ignored.
    is_abandoned: bool = False

    def is_settled(self, event: NumberedEvent) -> bool:
        """Whether there is a result for this event."""
        return event.number in self.outcomes or event.number in self.behind

    @property
    def in_flight(self) -> int:
        """The number of events that were started. Their results are not stored yet."""
        return len({*list(self.in_hand), *list(self.outcomes)})

    def overdue(self, seconds: float) -> list[int]:
        """The numbers of events that have been in progress for longer."""
        return [number for number, since in list(self.in_hand.items()) if now() - since > seconds]

    def next_may_start(self) -> bool:
        """Whether the next event may start. Otherwise, the batch ends here."""
        return not self.is_over and self.may_start()

    def waits(self, event: NumberedEvent) -> bool:
        """Whether an earlier event of its entity waits. Then this one waits, too."""
        if entity_of(event) not in self.blocked:
            return False
        self.behind.add(event.number)
        return True

    def waits_after(self, attempt: int, outcome: AttemptOutcome) -> bool:
        """Whether the event waits for another attempt. Otherwise, it is done or dead."""
        return outcome.error is not None and (attempt < self.last_attempt or outcome.disables)

    def records(self) -> list[AttemptRecord]:
        """The attempts that have a result."""
        return [
            self._record(event, attempt, self.outcomes[event.number])
            for event, attempt in self.attempts
            if event.number in self.outcomes
        ]

    def _record(self, event: NumberedEvent, attempt: int, outcome: AttemptOutcome) -> AttemptRecord:
        began, seconds = self.timed.get(event.number, (None, None))
        ago = None if began is None else now() - began
        return {
            "number": event.number,
            "event_id": str(event.id),
            "attempt": attempt,
            "ago": ago,
            "seconds": seconds,
            "error": outcome.error,
            "answer": outcome.answer,
        }

    def start_again(self) -> None:
        """Forget all results, because the transaction was rolled back before any event had failed."""
        self.outcomes, self.behind = {}, set()

    def note(self, event: NumberedEvent, attempt: int, outcome: AttemptOutcome) -> None:
        """Keep the result of an attempt."""
        if self.is_abandoned:
            return
        entity = entity_of(event)
        if entity is not None and self.waits_after(attempt, outcome):
            self.blocked.add(entity)
        self.outcomes[event.number] = outcome


async def try_all(delivery: Delivery, batch: Batch) -> None:
    """Try the events of a batch until one may not start."""
    if delivery.concurrency == 1:
        await _in_turn(delivery, batch, batch.attempts)
        return
    chains: dict[object, list[Attempt]] = defaultdict(list)
    for event, attempt in batch.attempts:
        chains[entity_of(event) or event.number].append((event, attempt))
    room = asyncio.Semaphore(delivery.concurrency)

    async def run(chain: list[Attempt]) -> None:
        for each in chain:
            async with room:
                await _in_turn(delivery, batch, [each])

    await asyncio.gather(*map(run, chains.values()))


async def _in_turn(delivery: Delivery, batch: Batch, attempts: Sequence[Attempt]) -> None:
    for event, attempt in attempts:
        if batch.waits(event):
            continue
        if not batch.next_may_start():
            return
        outcome = await attempt_event(delivery, batch, event, attempt)
        batch.note(event, attempt, outcome)
        if outcome.disables:
            batch.is_over = True


async def attempt_event(
    delivery: Delivery, batch: Batch, event: NumberedEvent, attempt: int
) -> AttemptOutcome:
    """Try one event. Raises nothing."""
    batch.latest = event.number
    batch.in_hand[event.number] = began = now()
    limit = None
    try:
        found = delivery.deliver(event, attempt)
        if isinstance(found, AttemptOutcome):
            return found
        async with asyncio.timeout(delivery.time_limit) as limit:
            return await found
    except BaseException as error:  # noqa: BLE001 - SystemExit of a handler must not end the worker
        if limit is not None and limit.expired():
            return too_slow(delivery.time_limit)
        return AttemptOutcome.failed(describe(error))
    finally:
        batch.timed[event.number] = (began, now() - began)
        batch.in_hand.pop(event.number, None)


def too_slow(seconds: float) -> AttemptOutcome:
    """The outcome of an attempt that did not end within its time limit."""
    return AttemptOutcome.failed(f"it did not end within {seconds:g} seconds")


def describe(error: BaseException) -> str:
    """An error as text, without e-mail addresses and the DETAIL of PostgreSQL, which quotes values."""
    text = str(error)
    if isinstance(error, psycopg.Error):
        text = error.diag.message_primary or text
    text = mask_addresses(" ".join(text.split()))
    return f"{type(error).__name__}: {text}".removesuffix(": ")[:500]
