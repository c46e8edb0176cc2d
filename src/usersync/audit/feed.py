"""Operations of the feed: all events of the log, in the order in which they became visible.

An event gets its number after its transaction has committed. A position is such a number: a reader that has
all events up to its position misses none, even if a transaction commits an hour late.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

from usersync.audit.models import FeedPage, NumberedEvent
from usersync.audit.reading import check_limit, event_values
from usersync.errors import ArgumentTypeError, ArgumentValueError, NeedsDatabaseError, ReadOnlyDatabaseError
from usersync.transports.steps import in_transaction, operate, query

if TYPE_CHECKING:
    from collections.abc import Mapping

    from usersync.audit.models import EventFilter
    from usersync.transports.steps import Row, Steps

#: The size of a page.
PAGE_SIZE = 500

_LARGEST_POSITION = 2**63 - 1


def number_events() -> Steps[int | None]:
    """Number the events that have become visible since the last call. Returns how many.

    None if another session is numbering events. The first call starts the feed.
    """
    try:
        return (yield from in_transaction(_number_in_own_transaction()))
    except NeedsDatabaseError:  # Over the Data API each call is a transaction.
        return (yield from _number())


def _number_in_own_transaction() -> Steps[int | None]:
    # A process that is stopped in between must not keep all others from numbering.
    yield from query(
        "set transaction isolation level read committed; set local idle_in_transaction_session_timeout = '2s'"
    )
    return (yield from _number())


def _number() -> Steps[int | None]:
    found: int | None = yield from operate(
        "number_events", returns=lambda answer: answer is None or type(answer) is int
    )
    return found


def read_events(after: int | None, wanted: EventFilter, limit: int) -> Steps[FeedPage]:
    """The numbered events after a position. Only reads."""
    answer = yield from operate(
        "read_events",
        returns={"events": [dict], "position": int, "more": bool},
        after=after,
        wanted=wanted.describe(),
        page_size=limit,
    )
    return page_of(answer)


def page_of(answer: Mapping[str, Any]) -> FeedPage:
    """The page in an answer of ``usersync.read_events()``."""
    return FeedPage(tuple(map(numbered_event, answer["events"])), answer["position"], answer["more"])


def numbered_event(row: Row) -> NumberedEvent:
    """The event in a row of such an answer."""
    return NumberedEvent(**event_values(row), number=row["number"])


def feed(position: int | None, wanted: EventFilter, limit: int) -> Steps[FeedPage]:
    """Number new events, then read a page. On a standby, which cannot number events, only read.

    Raises ``ArgumentTypeError`` or ``ArgumentValueError`` before it runs a statement.
    """
    check_limit(limit)
    is_number = isinstance(position, int) and not isinstance(position, bool)
    if position is not None and not (is_number and 0 <= position <= _LARGEST_POSITION):
        raise (ArgumentValueError if is_number else ArgumentTypeError)(
            f"position: expected a number from 0, or None, got {position!r:.80}",
            hint="Pass the position of the previous page, or None to start with the next event.",
        )
    return _feed(position, wanted, limit)


def _feed(position: int | None, wanted: EventFilter, limit: int) -> Steps[FeedPage]:
    with suppress(ReadOnlyDatabaseError):
        yield from number_events()
    return (yield from read_events(position, wanted, limit))
