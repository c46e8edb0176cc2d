"""Runs events of a transactional handler in one transaction with the position of its subscription."""

from __future__ import annotations

from typing import TYPE_CHECKING

import psycopg

from usersync.transports.steps import query_row
from usersync.worker.attempts import attempt_event

if TYPE_CHECKING:
    from collections.abc import Callable

    from usersync.transports.steps import Steps
    from usersync.worker.attempts import Batch
    from usersync.worker.handling import HandlerDelivery
    from usersync.worker.session import Session


class _FailedError(Exception):
    """An event without a savepoint of its own failed."""


async def try_in_transaction(
    delivery: HandlerDelivery,
    session: Session,
    batch: Batch,
    finish: Callable[[], Steps[bool]],
    *,
    idle_limit: float,
    on_begin: Callable[[int], None],
) -> bool:
    """Try the events, and write the results with ``finish``. Returns whether the transaction was committed.

    False if the lease is lost. ``on_begin`` is called with the process id of the database session. If the
    process stops, the server ends the transaction after ``idle_limit`` seconds, before the lease is over.

    A savepoint for each event takes longer than most handlers. So the batch is tried without them. If an
    event fails, the transaction is rolled back, and the batch is tried again with them.
    """
    for savepoints in (False, True):
        try:
            async with session.transaction():
                on_begin(await session.run(_begin(idle_limit)))
                await _try_events(delivery, session, batch, savepoints=savepoints)
                is_ours = not batch.is_abandoned and await session.run(finish())
                if not is_ours:
                    raise psycopg.Rollback
        except _FailedError:
            batch.start_again()
        else:
            return is_ours
    return False


async def _try_events(delivery: HandlerDelivery, session: Session, batch: Batch, *, savepoints: bool) -> None:
    for event, attempt in batch.attempts:
        if batch.waits(event):
            continue
        if not batch.next_may_start():
            return
        if savepoints:
            async with session.transaction():
                outcome = await attempt_event(delivery, batch, event, attempt)
                batch.note(event, outcome)
                if outcome.error is not None:
                    raise psycopg.Rollback
        else:
            outcome = await attempt_event(delivery, batch, event, attempt)
            if outcome.error is not None:
                raise _FailedError
            batch.note(event, outcome)


def _begin(idle_limit: float) -> Steps[int]:
    row = yield from query_row(
        "select set_config('idle_in_transaction_session_timeout', %(limit)s, true), pg_backend_pid() as pid",
        limit=f"{max(1, round(idle_limit * 1000))}ms",
    )
    return int(row["pid"])
