"""Runs events of a transactional handler in one transaction with the position of its subscription."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import psycopg

from usersync.transports.steps import query, query_row
from usersync.worker.attempts import attempt_event

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from usersync.transports.steps import Steps
    from usersync.worker.attempts import Batch
    from usersync.worker.handling import HandlerDelivery
    from usersync.worker.session import Session


class _FailedError(Exception):
    """An event without a savepoint of its own failed."""


@dataclass(frozen=True)
class Begun:
    """A transaction: the process of its database session, and its start."""

    pid: int
    at: datetime


async def try_in_transaction(
    delivery: HandlerDelivery,
    session: Session,
    batch: Batch,
    finish: Callable[[], Steps[bool]],
    *,
    idle_limit: float,
    on_begin: Callable[[Begun], None],
) -> bool:
    """Try the events, and write the results with ``finish``. Returns whether the transaction was committed.

    False if the lease is lost. ``on_begin`` is called when the transaction has begun. If the process stops,
    the server ends the transaction after ``idle_limit`` seconds, before the lease is over.

    A savepoint for each event takes longer than most handlers. So the batch is tried without them. If an
    event fails, the transaction is rolled back, and the batch is tried again with them.
    """
    for savepoints in (False, True) if len(batch.attempts) > 1 else (True,):
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
                batch.note(event, attempt, outcome)
                if outcome.error is not None:
                    raise psycopg.Rollback
        else:
            outcome = await attempt_event(delivery, batch, event, attempt)
            if outcome.error is not None:
                raise _FailedError
            batch.note(event, attempt, outcome)


def _begin(idle_limit: float) -> Steps[Begun]:
    row = yield from query_row(
        "select set_config('idle_in_transaction_session_timeout', %(limit)s, true), "
        "pg_backend_pid() as pid, now() as at",
        limit=f"{max(1, round(idle_limit * 1000))}ms",
    )
    return Begun(row["pid"], row["at"])


def end_session(begun: Begun) -> Steps[None]:
    """End the session of a transaction, if it is still open. Behind a pooler, others use the session then."""
    yield from query(
        "select pg_terminate_backend(pid) from pg_stat_activity where pid = %(pid)s and xact_start = %(at)s",
        pid=begun.pid,
        at=begun.at,
    )
