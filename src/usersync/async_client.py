"""The asyncio client: the methods of :class:`usersync.UserSync`, to be awaited."""

from __future__ import annotations

import asyncio
import contextlib
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Self, TypeVar

import psycopg
from psycopg.pq import TransactionStatus
from psycopg_pool import AsyncConnectionPool

from usersync.connecting import check_dsn, connection_failed, find_dsn, is_lost, options_for
from usersync.errors import SettingsError
from usersync.models import Counts, Failure, SyncResult, SyncStatus
from usersync.plans import reconcile, users
from usersync.runner import run_async, translate
from usersync.tally import PositiveCache, Tally

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from uuid import UUID

    from usersync.plans.protocol import Plan
    from usersync.plans.reconcile import OnProgress, Run

T = TypeVar("T")

Source = str | psycopg.AsyncConnection[Any] | AsyncConnectionPool[Any]


class AsyncUserSync:
    """Keeps users in step, over a PostgreSQL connection, from asyncio.

    What each method does, returns and raises is said at :class:`usersync.UserSync`; a test holds the two
    together. ``source`` is an address, an ``AsyncConnection`` or an ``AsyncConnectionPool``. Cancelling a
    call cancels the statement; through a connection that has gone silent that takes up to ten seconds,
    which is psycopg's doing.
    """

    def __init__(self, source: Source) -> None:
        self._source = _checked(source)
        self._own: psycopg.AsyncConnection[Any] | None = None
        self._lock = asyncio.Lock()
        self._known = PositiveCache()

    @classmethod
    def from_env(cls) -> Self:
        """Make one from ``SUPABASE_DB_URL`` or ``DATABASE_URL``, in the environment or a ``.env`` file."""
        return cls(find_dsn())

    async def sync_auth_user(self, user: UUID | str | object) -> bool:
        """Bring one user in line."""
        return await self._run(users.sync_auth_user(users.user_id_of(user)))

    async def sync_all_missing_users(self) -> SyncResult:
        """Bring all users in line."""
        return await self.reconcile()

    async def user_exists(self, user_id: UUID | str) -> bool:
        """Whether the users table has a row for this user."""
        return await self._run(users.user_exists(users.user_id_of(user_id)))

    async def ensure_user_exists(self, user_id: UUID | str) -> bool:
        """Whether the user has a row, which is made if need be."""
        found = users.user_id_of(user_id)
        if self._known.has(found):
            return True
        exists = await self._run(users.ensure_user_exists(found))
        if exists and not self._in_a_transaction():
            self._known.add(found)
        return exists

    async def remove_user(self, user_id: UUID | str) -> bool:
        """Apply ``on_delete`` to a user whom the auth server no longer has.

        Raises :class:`~usersync.errors.UserStillExistsError` and, for an id that neither table knows,
        :class:`~usersync.errors.UserNotFoundError`.
        """
        found = users.user_id_of(user_id)
        self._known.forget(found)
        return await self._run(users.remove_user(found))

    async def status(self) -> SyncStatus:
        """Count users on both sides and what differs."""
        return await self._run(users.status())

    async def failures(self, *, limit: int = 1000) -> list[Failure]:
        """The users who could not be synced or not completely, and why."""
        return await self._run(users.failures(limit=limit))

    async def retry(self, user_id: UUID | str | None = None) -> SyncResult:
        """Try the users of the ledger again, or one of them."""
        return await self._run(users.retry(users.user_id_of(user_id) if user_id is not None else None))

    async def reconcile(
        self,
        *,
        dry_run: bool = False,
        workers: int = 1,
        page_size: int = reconcile.PAGE_SIZE,
        removal_cap: float | None = None,
        resume: bool = False,
        difference_limit: int = 1000,
        on_progress: OnProgress | None = None,
    ) -> SyncResult:
        """Compare both tables and bring the users table in line, page by page."""
        reconcile.check_options(
            page_size=page_size, workers=workers, removal_cap=removal_cap, difference_limit=difference_limit
        )
        if workers > 1 and isinstance(self._source, psycopg.AsyncConnection):
            raise SettingsError("several workers need an address or a pool, not one connection")
        started = time.monotonic()
        if dry_run:
            tally = Tally(on_progress)
            tally.total = await self._run(reconcile.count_users())
            counts, found = await self._run_apart(
                reconcile.compare(page_size=page_size, limit=difference_limit, on_page=tally.add)
            )
            return SyncResult(counts, True, found, time.monotonic() - started)
        opened = await self._run(reconcile.resume_run(removal_cap)) if resume else None
        if opened is None:
            opened = await self._run(
                reconcile.open_run(workers=workers, page_size=page_size, removal_cap=removal_cap)
            )
        counts = await self._drive(opened, workers, Tally(on_progress, opened))
        return SyncResult(counts, seconds=time.monotonic() - started, run_id=opened.run_id)

    async def _drive(self, opened: Run, workers: int, tally: Tally) -> Counts:
        try:
            if workers == 1 or len(opened.parts) == 1:
                for part in opened.parts:
                    await self._drive_part(opened, part, tally)
            else:
                await self._drive_together(opened, workers, tally)
        except BaseException:
            tally.stop()
            await self._note_interruption(opened)
            raise
        return tally.counts

    async def _drive_together(self, opened: Run, workers: int, tally: Tally) -> None:
        room = asyncio.Semaphore(self._room_for(workers))

        async def drive(part: int) -> None:
            async with room:
                await self._drive_part(opened, part, tally)

        tasks = [asyncio.ensure_future(drive(part)) for part in opened.parts]
        try:
            finished, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
        finally:
            # Whatever ended the wait: the others finish the page they are at, and no more.
            tally.stop()
            await asyncio.gather(*tasks, return_exceptions=True)
        for task in finished:
            task.result()

    async def _drive_part(self, opened: Run, part: int, tally: Tally) -> None:
        tally.check()
        await self._run_apart(reconcile.drive_part(opened.run_id, part, tally.add))

    def _room_for(self, workers: int) -> int:
        """A worker keeps its connection to the end, so more than the pool has would wait in vain."""
        return (
            min(workers, self._source.max_size) if isinstance(self._source, AsyncConnectionPool) else workers
        )

    async def _note_interruption(self, opened: Run) -> None:
        # What stopped the run is what the caller is to see, and not that this failed too.
        with contextlib.suppress(Exception):
            await self._run(reconcile.interrupt_run(opened.run_id))

    async def close(self) -> None:
        """Close the connection that was opened for an address. A connection or pool of yours stays open."""
        async with self._lock:
            if self._own is not None:
                await self._own.close()
                self._own = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def _run(self, plan: Plan[T]) -> T:
        async with self._connection() as connection:
            return await run_async(plan, connection)

    async def _run_apart(self, plan: Plan[T]) -> T:
        """As :meth:`_run`, for what takes long: for an address on a connection of its own."""
        if not isinstance(self._source, str):
            return await self._run(plan)
        async with await connect_async(self._source) as connection:
            return await run_async(plan, connection)

    def _in_a_transaction(self) -> bool:
        """Whether what was just seen may yet be rolled back."""
        source = self._source
        return (
            isinstance(source, psycopg.AsyncConnection)
            and source.info.transaction_status != TransactionStatus.IDLE
        )

    @asynccontextmanager
    async def _connection(self) -> AsyncIterator[psycopg.AsyncConnection[Any]]:
        if isinstance(self._source, AsyncConnectionPool):
            async with _from_pool(self._source) as connection:
                yield connection
        elif isinstance(self._source, psycopg.AsyncConnection):
            yield self._source
        else:
            async with self._lock:
                yield await self._opened(self._source)

    async def _opened(self, dsn: str) -> psycopg.AsyncConnection[Any]:
        if self._own is None or is_lost(self._own):
            self._own = await connect_async(dsn)
        return self._own


def _checked(source: object) -> Source:
    if isinstance(source, str):
        return check_dsn(source)
    if isinstance(source, psycopg.AsyncConnection | AsyncConnectionPool):
        return source
    raise SettingsError(
        f"expected an address, an AsyncConnection or an AsyncConnectionPool; got {type(source).__name__}",
        hint="UserSync takes the blocking kinds.",
    )


@asynccontextmanager
async def _from_pool(pool: AsyncConnectionPool[Any]) -> AsyncIterator[psycopg.AsyncConnection[Any]]:
    try:
        connection = await pool.getconn()
    except psycopg.OperationalError as error:
        raise translate(error) from error
    try:
        yield connection
    finally:
        await pool.putconn(connection)


async def connect_async(dsn: str) -> psycopg.AsyncConnection[Any]:
    """Open a connection the way usersync does; raises :class:`~usersync.errors.ConnectionFailedError`."""
    try:
        return await psycopg.AsyncConnection.connect(dsn, **options_for(dsn))
    except (psycopg.Error, UnicodeError) as error:
        connection_failed(error, dsn)
