"""The asyncio client: the methods of ``usersync.UserSync``, to be awaited."""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import TYPE_CHECKING, Self

from usersync.audit import erasure
from usersync.config.dsn import sealed
from usersync.core import deleted_users, pausing, reconcile, users
from usersync.core.progress import PositiveCache, Tally
from usersync.errors import UsersyncError
from usersync.models import Counts, Erasure, Failure, Pause, Removal, Resumption, SyncResult, SyncStatus
from usersync.transports.psycopg import find_source
from usersync.transports.psycopg_async import async_link_to

if TYPE_CHECKING:
    from collections.abc import Sequence
    from uuid import UUID

    from usersync.core.reconcile import OnProgress, Run
    from usersync.transports.psycopg_async import AsyncSource


class AsyncUserSync:
    """Keeps users in sync, from asyncio.

    What each method does, returns and raises is said at ``usersync.UserSync``; a test holds the two
    together. ``source`` is an address, an ``AsyncConnection``, an ``AsyncConnectionPool`` or a
    ``DataApi``. Cancelling a call cancels the statement; through a connection that has gone
    silent that takes up to ten seconds, which is psycopg's doing.
    """

    def __init__(self, source: AsyncSource) -> None:
        source = sealed(source)
        self._link = async_link_to(source)
        self._known = PositiveCache()

    @classmethod
    def from_env(cls) -> Self:
        """Make one from ``SUPABASE_DB_URL`` or ``DATABASE_URL``, else from ``SUPABASE_URL`` and a secret key.

        They are looked for in the environment, ``.env.local`` and ``.env``.
        """
        return cls(find_source())

    async def sync_auth_user(self, user: UUID | str | object, *, create: bool = False) -> bool:
        """Sync one user."""
        return await self._link.run(users.sync_auth_user(user, create=create))

    async def sync_all_missing_users(self) -> SyncResult:
        """Sync all users."""
        return await self.reconcile()

    async def user_exists(self, user_id: UUID | str) -> bool:
        """Whether the users table has a row for this user."""
        return await self._link.run(users.user_exists(users.user_id_of(user_id)))

    async def ensure_user_exists(self, user_id: UUID | str, *, create: bool = False) -> bool:
        """Whether the user has a row, which is made if need be."""
        found = users.user_id_of(user_id)
        if self._known.has(found) and self._known.wants_position:
            await self._look_where_it_is()
        if self._known.has(found):
            return True
        exists, committed = await self._link.run_noting(users.ensure_user_exists(found, create=create))
        if exists and committed:
            if self._known.wants_position:
                await self._look_where_it_is()
            self._known.add(found)
        return exists

    async def _look_where_it_is(self) -> None:
        try:
            position = await self._link.run(users.position())
        except UsersyncError:
            # The database is unavailable: keep what is remembered.
            position = None
        self._known.meet(position)

    async def remove_user(self, user_id: UUID | str) -> bool:
        """Apply ``on_delete`` to a user whom the auth server no longer has.

        Raises ``UserStillExistsError`` and, for an id that neither table knows,
        ``UserNotFoundError``.
        """
        found = users.user_id_of(user_id)
        self._known.forget(found)
        return await self._link.run(users.remove_user(found))

    async def erase(
        self, user_id: UUID | str, *, dry_run: bool = False, values: Sequence[str] = ()
    ) -> Erasure:
        """Erase the personal data of a user whom the auth server no longer has; what they did stays."""
        found = users.user_id_of(user_id)
        self._known.forget(found)
        return await self._link.run(erasure.erase(found, dry_run=dry_run, values=values))

    async def status(self) -> SyncStatus:
        """Count users on both sides and what differs."""
        # On a connection of its own: on many users it takes long, and others wait for ours to be free.
        return await self._link.run_apart(users.status())

    async def failures(self, *, limit: int = 1000) -> list[Failure]:
        """The users who could not be synced or not completely, and why."""
        return await self._link.run(users.failures(limit=limit))

    async def retry(self, user_id: UUID | str | None = None, *, due: bool = False) -> SyncResult:
        """Try the users of the failures table again, or one of them."""
        one = users.user_id_of(user_id) if user_id is not None else None
        return await self._link.run(users.retry_by_hand(one, due=due))

    async def pause(self, *, by: str | None = None) -> Pause:
        """Pause the triggers."""
        return (await self._link.run(pausing.pause(by=by)))[0]

    async def resume(self, *, by: str | None = None) -> Resumption:
        """End the pause, and sync the users who changed during it."""
        ended = await self._link.run(pausing.end_pause(by=by))
        retried = await self._link.run(users.retry(sqlstate=pausing.NOTED))
        return Resumption(ended.pause, retried, await self.reconcile(), complete=ended.pending is None)

    async def remove_orphans(self, *, limit: int) -> Removal:
        """Apply ``on_delete`` to rows whose user the auth server no longer has: those that were deleted
        with triggers off. If they are more than ``limit``, nothing is changed.

        ``reconcile(dry_run=True)`` lists them. Look at them first: after a restore, the auth server's table
        may be incomplete. Raises ``RemovalLimitError``.
        """
        return await self._link.run_apart(deleted_users.remove_all("orphaned", limit))

    async def apply_deletions(self, *, limit: int) -> Removal:
        """Apply ``on_soft_delete`` to the rows of users whom the auth server has soft-deleted without a
        trigger of usersync seeing it. If they are more than ``limit``, nothing is changed.

        Raises ``RemovalLimitError``.
        """
        return await self._link.run_apart(deleted_users.remove_all("deleted_upstream", limit))

    async def reconcile(
        self,
        *,
        dry_run: bool = False,
        workers: int = 1,
        page_size: int = reconcile.PAGE_SIZE,
        resume: bool = False,
        create_missing: bool = False,
        retry_failures: bool = False,
        difference_limit: int = 1000,
        on_progress: OnProgress | None = None,
    ) -> SyncResult:
        """Compare both tables and sync the users table, page by page."""
        reconcile.check_options(page_size=page_size, workers=workers, difference_limit=difference_limit)
        self._link.room_for(workers)
        started = time.monotonic()
        if dry_run:
            tally = Tally(on_progress)
            tally.total = await self._link.run(reconcile.count_users())
            counts, found = await self._link.run_apart(
                reconcile.compare(
                    page_size=page_size, limit=difference_limit, on_page=tally.add, create=create_missing
                )
            )
            return SyncResult(counts, True, found, time.monotonic() - started)
        opened = await self._link.run(reconcile.resume_run(create=create_missing)) if resume else None
        if opened is None:
            opened = await self._link.run(
                reconcile.open_run(
                    workers=workers,
                    page_size=page_size,
                    create=create_missing,
                    retry_failures=retry_failures,
                )
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
        room = asyncio.Semaphore(self._link.room_for(workers))

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
        await self._link.run_apart(reconcile.drive_part(opened.run_id, part, tally.add, create=opened.create))

    async def _note_interruption(self, opened: Run) -> None:
        # What stopped the run is what the caller is to see, and not that this failed too.
        with contextlib.suppress(Exception):
            await self._link.run(reconcile.interrupt_run(opened.run_id))

    async def close(self) -> None:
        """Close the connections that were opened here. A connection or pool of yours stays open."""
        await self._link.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()
