"""What a worker asks of a kind of subscription: handle one event, and say how it went.

A kind (handler, webhook, stream) is a function that creates a ``Delivery`` for a subscription. The worker
does everything else: position, order, attempts, back-off, time limit.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, Self

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from usersync.audit.models import NumberedEvent


@dataclass(frozen=True)
class AttemptOutcome:
    """The result of one attempt. Without an ``error``, the event is done."""

    #: Why it failed, for people. Contains no secret and no personal data.
    error: str | None = None
    #: Seconds until the next attempt, if the receiver named a time. Otherwise the back-off decides.
    retry_after: float | None = None
    #: Pause the subscription: the receiver wants no more events. The event stays parked.
    disables: bool = False
    #: What the receiver answered, for people. At most 200 characters, without personal data, like ``error``.
    answer: str | None = None

    @classmethod
    def succeeded(cls, answer: str) -> Self:
        """The event is done, with this answer."""
        return cls(answer=answer)

    @classmethod
    def failed(cls, error: str, *, retry_after: float | None = None) -> Self:
        """Try again later."""
        return cls(error, retry_after)

    @classmethod
    def disable(cls, error: str) -> Self:
        """Pause the subscription, for this reason."""
        return cls(error, disables=True)


#: The event is done.
SUCCEEDED = AttemptOutcome()


class Delivery(Protocol):
    """Handles the events of one subscription.

    A worker creates it in the thread and the event loop of the subscription, and calls its methods only
    there. An exception of ``deliver()`` is a failed attempt. Several attempts of one event are possible, so
    the receiver needs the event's id to recognize an event that it already has.
    """

    #: How many events may be in flight. Two events of one entity never are.
    concurrency: int
    #: Seconds for one attempt. After them, ``deliver()`` is cancelled and the attempt has failed.
    time_limit: float

    def deliver(self, event: NumberedEvent, attempt: int) -> AttemptOutcome | Awaitable[AttemptOutcome]:
        """Handle an event. The first ``attempt`` is 1. Usually ``async``; a blocking function returns the
        outcome itself, and no time limit can cancel it.
        """

    async def close(self) -> None:
        """Called when the worker ends."""
