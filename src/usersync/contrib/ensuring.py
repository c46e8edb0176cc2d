"""Makes sure that the user of a request has a row, with a short wait at most.

Users with a row are cached. While the database is unavailable or slow, one request every few seconds tries
again, and the others continue at once.
"""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING

from usersync.contrib.background import drive, drive_async, in_thread
from usersync.core.progress import PositiveCache
from usersync.transports.processes import ForkSafeLock, renew_in_child

if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from concurrent.futures import Future
    from uuid import UUID

    from usersync import AsyncUserSync, UserSync

logger: logging.Logger = logging.getLogger("usersync.ensure")

#: How long a request waits for its user's row.
TIMEOUT_S = 2.0

#: The pause after a failure.
PAUSE_S = 5.0

# An attempt that takes longer is abandoned: its connection does not answer, or its event loop has ended.
_LOST_S = 30.0


class _Absent(PositiveCache):
    """Users who had no row a moment ago: a repeated request is not worth another attempt."""

    SECONDS = 5.0


class _Ensurer:
    # The number of unknown users looked up at once, as when a process starts. Requests of more users do not
    # wait.
    _most_at_once: int

    def __init__(self, timeout: float = TIMEOUT_S) -> None:
        self._timeout = timeout
        self._known = PositiveCache()
        self._absent = _Absent()
        self._pending: dict[UUID, tuple[float, Future[bool]]] = {}
        #: The time of the next try after a failure; None without a failure.
        self._next_try: float | None = None
        # Reentrant, because an attempt may finish before it is stored.
        self._lock = ForkSafeLock()
        renew_in_child(self)

    def forget(self) -> None:
        """Called in a forked process, which does not have its parent's threads."""
        self._pending.clear()

    def _begin(self, user_id: UUID) -> Future[bool]:
        raise NotImplementedError

    def _abandon(self, attempt: Future[bool]) -> None:
        raise NotImplementedError

    def _steps(self, user_id: UUID) -> Generator[Future[bool], None, bool | None]:
        if self._known.has(user_id):
            return True
        if self._absent.has(user_id):
            return False
        attempt = self._attempt(user_id)
        if attempt is None:
            return None
        yield attempt
        if not attempt.done():
            self._fail(f"no answer from the database in {self._timeout:g} s")
            return None
        return None if attempt.cancelled() or attempt.exception() else attempt.result()

    def _attempt(self, user_id: UUID) -> Future[bool] | None:
        """The running attempt for this user, or a new one; None if no request is to wait."""
        now = time.monotonic()
        with self._lock:
            lost = [each for each, (begun_at, _) in self._pending.items() if now - begun_at > _LOST_S]
            given_up = [self._pending.pop(each)[1] for each in lost]
        for each in given_up:
            self._abandon(each)
        with self._lock:
            return self._joined_or_begun(user_id, now)

    def _joined_or_begun(self, user_id: UUID, now: float) -> Future[bool] | None:
        if self._next_try is not None:
            # One attempt every few seconds tries again, and no request waits for an earlier one.
            if now < self._next_try or user_id in self._pending:
                return None
            self._next_try = now + PAUSE_S
        elif user_id in self._pending:
            return self._pending[user_id][1]
        if len(self._pending) >= self._most_at_once:
            return None
        try:
            attempt = self._begin(user_id)
        except RuntimeError as error:
            logger.warning("a user cannot be looked up: %s", error)
            return None
        self._pending[user_id] = (now, attempt)
        attempt.add_done_callback(lambda done: self._settle(user_id, done))
        return attempt

    def _settle(self, user_id: UUID, attempt: Future[bool]) -> None:
        with self._lock:
            if self._pending.get(user_id, (0.0, None))[1] is attempt:
                del self._pending[user_id]
        if attempt.cancelled():
            return
        error = attempt.exception()
        if error is not None:
            self._fail(f"{type(error).__name__}: {error}")
            return
        self._next_try = None
        (self._known if attempt.result() else self._absent).add(user_id)

    def _fail(self, reason: str) -> None:
        if self._next_try is None:
            logger.warning("users cannot be looked up at the moment: %s", " ".join(reason.split())[:300])
        self._next_try = time.monotonic() + PAUSE_S


class Ensurer(_Ensurer):
    """For threads, over a ``UserSync`` from ``connect``; a new one if a connection does not answer."""

    _most_at_once = 256  # Each attempt is a thread.

    def __init__(self, connect: Callable[[], UserSync], timeout: float = TIMEOUT_S) -> None:
        super().__init__(timeout)
        self._connect = connect
        # Created here, so that a missing connection string raises now. It connects on first use.
        self._sync: UserSync | None = connect()

    def ensure(self, user_id: UUID) -> bool | None:
        """Whether the user has a row, created if it was missing; None if the database did not answer in time.

        Blocks at most for the time-out, and raises nothing.
        """
        return drive(self._steps(user_id), self._timeout)

    def close(self) -> None:
        """Close the connection; the next user opens another."""
        sync, self._sync = self._sync, None
        if sync is not None:
            sync.close()

    def _begin(self, user_id: UUID) -> Future[bool]:
        if self._sync is None:
            self._sync = self._connect()
        sync = self._sync
        # In a thread, because neither connecting nor a connection that does not answer has a reliable
        # time-out.
        return in_thread(lambda: sync.ensure_user_exists(user_id))

    def _abandon(self, attempt: Future[bool]) -> None:  # noqa: ARG002 - a thread cannot be ended
        self._sync = None


class AsyncEnsurer(_Ensurer):
    """The same from asyncio, over an ``AsyncUserSync``."""

    _most_at_once = 5_000

    def __init__(self, sync: AsyncUserSync, timeout: float = TIMEOUT_S) -> None:
        super().__init__(timeout)
        self._sync = sync

    async def ensure(self, user_id: UUID) -> bool | None:
        """See ``Ensurer.ensure()``."""
        return await drive_async(self._steps(user_id), self._timeout)

    def _begin(self, user_id: UUID) -> Future[bool]:
        # In a separate task, because psycopg takes up to ten seconds to cancel a statement on a connection
        # that does not answer. A request must not wait for that.
        attempt = self._sync.ensure_user_exists(user_id)
        return asyncio.run_coroutine_threadsafe(attempt, asyncio.get_running_loop())

    def _abandon(self, attempt: Future[bool]) -> None:
        attempt.cancel()
