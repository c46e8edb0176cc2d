"""The blocking client."""

from __future__ import annotations

import contextlib
import time
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from typing import TYPE_CHECKING, Self

from usersync.audit import erasure
from usersync.config.dsn import sealed
from usersync.core import deleted_users, pausing, reconcile, users
from usersync.core.progress import PositiveCache, Tally
from usersync.errors import UsersyncError
from usersync.models import Counts, Erasure, Failure, Pause, Removal, Resumption, SyncResult, SyncStatus
from usersync.transports.psycopg import find_source, link_to

if TYPE_CHECKING:
    from collections.abc import Sequence
    from uuid import UUID

    from usersync.core.reconcile import OnProgress, Run
    from usersync.transports.psycopg import Source


class UserSync:
    """Keeps users in sync. All methods block, and may be called from threads.

    ``source`` is an address, in which case one connection is opened when it is first needed, reopened when
    it was lost, and closed by ``close()`` (reconciling opens its own, so that nobody waits for it); or a
    connection or a pool of yours, which stays yours; or a ``DataApi``, which does the same
    over HTTPS. On a connection that is in a transaction, calls become part of that transaction.

    Every method raises ``ConnectionFailedError`` when the database cannot be reached
    and ``NotInstalledError`` where usersync is not installed.
    """

    def __init__(self, source: Source) -> None:
        source = sealed(source)
        self._link = link_to(source)
        self._known = PositiveCache()

    @classmethod
    def from_env(cls) -> Self:
        """Make one from ``SUPABASE_DB_URL`` or ``DATABASE_URL``, else from ``SUPABASE_URL`` and a secret key.

        They are looked for in the environment, ``.env.local`` and ``.env``.
        """
        return cls(find_source())

    def sync_auth_user(self, user: UUID | str | object, *, create: bool = False) -> bool:
        """Sync one user; ``user`` is an id, or any object or mapping with an ``id``, as supabase-py
        returns it. What else that says is used where the database has a copy of the auth server's users
        (``source_table = "usersync.auth_users"``), and nowhere else.

        ``create``: create the row though ``creates_rows = false`` leaves that to the application.
        Returns whether the row is whole. If not, ``failures()`` has the reason. Raises
        ``UserNotFoundError``.
        """
        return self._link.run(users.sync_auth_user(user, create=create))

    def sync_all_missing_users(self) -> SyncResult:
        """Sync all users: ``reconcile()`` with its defaults."""
        return self.reconcile()

    def user_exists(self, user_id: UUID | str) -> bool:
        """Whether the users table has a row for this user."""
        return self._link.run(users.user_exists(users.user_id_of(user_id)))

    def ensure_user_exists(self, user_id: UUID | str, *, create: bool = False) -> bool:
        """Whether the user has a row. A missing row is created.

        A positive answer is remembered for ten minutes and then costs no query. One query every 30 seconds
        asks whether the database has moved: a failover and a restore empty the memory. False means that the
        auth server does not know the user, that the settings skip the user, or that the row could not be
        created (see ``failures()``). ``create`` creates the row even with ``creates_rows = false``.
        """
        found = users.user_id_of(user_id)
        if self._known.has(found) and self._known.wants_position:
            self._look_where_it_is()
        if self._known.has(found):
            return True
        exists, committed = self._link.run_noting(users.ensure_user_exists(found, create=create))
        if exists and committed:
            if self._known.wants_position:
                self._look_where_it_is()
            self._known.add(found)
        return exists

    def _look_where_it_is(self) -> None:
        try:
            position = self._link.run(users.position())
        except UsersyncError:
            # The database is unavailable: keep what is remembered.
            position = None
        self._known.meet(position)

    def remove_user(self, user_id: UUID | str) -> bool:
        """Apply ``on_delete`` to a user whom the auth server no longer has, or ``on_soft_delete`` to one whom
        it has soft-deleted.

        This happens by itself when the user is deleted; it is for what was deleted with triggers off.
        Returns whether nothing is left to do. Raises ``UserStillExistsError``, and
        ``UserNotFoundError`` for an id that neither table knows.
        """
        found = users.user_id_of(user_id)
        self._known.forget(found)
        return self._link.run(users.remove_user(found))

    def erase(self, user_id: UUID | str, *, dry_run: bool = False, values: Sequence[str] = ()) -> Erasure:
        """Erase the personal data of a user whom the auth server no longer has; what they did stays.

        Searched are the user's id and addresses; ``values`` are addresses of the person that usersync does
        not know. Reads the whole audit log, in short transactions; interrupted, it can be called again. Does
        not reach spooled events: ``usersync erase`` does. Needs a connection. Blocks. Raises
        ``UserStillExistsError``, and ``UserNotFoundError`` if
        nothing is known of the user.
        """
        found = users.user_id_of(user_id)
        self._known.forget(found)
        return self._link.run(erasure.erase(found, dry_run=dry_run, values=values))

    def status(self) -> SyncStatus:
        """Count users on both sides and what differs. Reads both tables once, page by page."""
        # On a connection of its own: on many users it takes long, and others wait for ours to be free.
        return self._link.run_apart(users.status())

    def failures(self, *, limit: int = 1000) -> list[Failure]:
        """The users who could not be synced or not completely, and why; the oldest first."""
        return self._link.run(users.failures(limit=limit))

    def retry(self, user_id: UUID | str | None = None, *, due: bool = False) -> SyncResult:
        """Try the users of the failures table again, or one of them. ``due``: only users whose next attempt
        is due, see ``reconcile()``; for jobs that run often."""
        one = users.user_id_of(user_id) if user_id is not None else None
        return self._link.run(users.retry_by_hand(one, due=due))

    def pause(self, *, by: str | None = None) -> Pause:
        """Pause the triggers. From the next statement of the auth server on, they record which users are
        created, changed and deleted, and sync no user. During a pause ``reconcile()``, ``retry()`` and
        removals raise ``PausedError``; calls for one user work.

        Returns the start of the pause and who started it; an earlier pause stays. ``by`` is the name for the
        audit log; default: the role of the database.
        """
        return self._link.run(pausing.pause(by=by))[0]

    def resume(self, *, by: str | None = None) -> Resumption:
        """End the pause. Sync the users who were created, changed or deleted during the pause, then compare
        both tables, as ``reconcile()`` does.

        Waits up to five seconds for transactions that began during the pause. Can be called again.
        """
        ended = self._link.run(pausing.end_pause(by=by))
        retried = self._link.run(users.retry(sqlstate=pausing.NOTED))
        return Resumption(ended.pause, retried, self.reconcile(), complete=ended.pending is None)

    def remove_orphans(self, *, limit: int) -> Removal:
        """Apply ``on_delete`` to rows whose user the auth server no longer has: those that were deleted
        with triggers off. If they are more than ``limit``, nothing is changed.

        ``reconcile(dry_run=True)`` lists them. Look at them first: after a restore, the auth server's table
        may be incomplete. Raises ``RemovalLimitError``.
        """
        return self._link.run_apart(deleted_users.remove_all("orphaned", limit))

    def apply_deletions(self, *, limit: int) -> Removal:
        """Apply ``on_soft_delete`` to the rows of users whom the auth server has soft-deleted without a
        trigger of usersync seeing it. If they are more than ``limit``, nothing is changed.

        Raises ``RemovalLimitError``.
        """
        return self._link.run_apart(deleted_users.remove_all("deleted_upstream", limit))

    def reconcile(
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
        """Compare both tables and sync the users table, page by page.

        ``dry_run`` writes nothing and lists up to ``difference_limit`` differences. ``workers`` share the
        run by ranges of ids; they need an address or a pool. ``resume`` continues the newest unfinished
        run, if there is one. An interrupted run leaves whole pages. Rows of deleted users are counted and
        left as they are, see ``remove_orphans()`` and ``apply_deletions()``. ``create_missing`` creates
        missing rows even with ``creates_rows = false``. A user who has failed five times is tried again after
        a minute, then two, four, and so on up to a day; ``retry_failures`` tries these users now.
        """
        reconcile.check_options(page_size=page_size, workers=workers, difference_limit=difference_limit)
        self._link.room_for(workers)
        started = time.monotonic()
        if dry_run:
            tally = Tally(on_progress)
            tally.total = self._link.run(reconcile.count_users())
            counts, found = self._link.run_apart(
                reconcile.compare(
                    page_size=page_size, limit=difference_limit, on_page=tally.add, create=create_missing
                )
            )
            return SyncResult(counts, True, found, time.monotonic() - started)
        opened = self._link.run(reconcile.resume_run(create=create_missing)) if resume else None
        if opened is None:
            opened = self._link.run(
                reconcile.open_run(
                    workers=workers,
                    page_size=page_size,
                    create=create_missing,
                    retry_failures=retry_failures,
                )
            )
        counts = self._drive(opened, workers, Tally(on_progress, opened))
        return SyncResult(counts, seconds=time.monotonic() - started, run_id=opened.run_id)

    def _drive(self, opened: Run, workers: int, tally: Tally) -> Counts:
        """Drive all parts of a run; whatever stops it, note that it was stopped."""
        try:
            if workers == 1 or len(opened.parts) == 1:
                for part in opened.parts:
                    self._drive_part(opened, part, tally)
            else:
                self._drive_together(opened, workers, tally)
        except BaseException:
            tally.stop()
            self._note_interruption(opened)
            raise
        return tally.counts

    def _drive_together(self, opened: Run, workers: int, tally: Tally) -> None:
        with ThreadPoolExecutor(
            self._link.room_for(workers), thread_name_prefix="usersync-worker"
        ) as threads:
            futures = [threads.submit(self._drive_part, opened, part, tally) for part in opened.parts]
            try:
                finished, _ = wait(futures, return_when=FIRST_EXCEPTION)
            finally:
                # Whatever ended the wait: the others finish the page they are at, and no more.
                tally.stop()
            for future in finished:
                future.result()

    def _drive_part(self, opened: Run, part: int, tally: Tally) -> None:
        tally.check()
        self._link.run_apart(reconcile.drive_part(opened.run_id, part, tally.add, create=opened.create))

    def _note_interruption(self, opened: Run) -> None:
        # What stopped the run is what the caller is to see, and not that this failed too.
        with contextlib.suppress(Exception):
            self._link.run(reconcile.interrupt_run(opened.run_id))

    def close(self) -> None:
        """Close the connections that were opened here. A connection or pool of yours stays open."""
        self._link.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
