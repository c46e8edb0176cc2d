"""The blocking client."""

from __future__ import annotations

import contextlib
import time
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from typing import TYPE_CHECKING, Self

from usersync.audit import erasure
from usersync.config.dsn import sealed
from usersync.core import deleted_users, pausing, reconcile, users
from usersync.core.progress import PositiveCache, RunCounter
from usersync.errors import UsersyncError
from usersync.events.subscriptions import subscriptions
from usersync.models import Counts, Erasure, Failure, Pause, Removal, Resumption, SyncResult, SyncStatus
from usersync.transports.psycopg import describe_source, find_source, transport_for

if TYPE_CHECKING:
    from collections.abc import Sequence
    from uuid import UUID

    from usersync.core.reconcile import OnProgress, Run
    from usersync.events.models import SubscriptionStatus
    from usersync.transports.psycopg import Source


class UserSync:
    """Keeps users in sync. Every method blocks until the database has answered. Safe to use from threads.

    ``source`` is one of:

    - a connection string: one connection is opened at the first call, reopened after it was lost, and closed
      by ``close()``. ``status()``, ``reconcile()``, ``remove_orphans()`` and ``apply_deletions()`` open
      separate connections, so that other calls do not wait for them;
    - a ``psycopg.Connection`` or a ``psycopg_pool.ConnectionPool``, which ``close()`` leaves open. If the
      connection is in a transaction, calls become part of that transaction;
    - a ``DataApi``: the same operations over HTTPS.

    Every method except ``close()`` may raise ``ConnectionFailedError`` (the database cannot be reached),
    ``NotInstalledError`` (usersync is not installed) and ``DatabaseError`` (another error of the database).
    An invalid connection string raises ``SettingsError``; another wrong argument ``ArgumentTypeError`` or
    ``ArgumentValueError``, which are subclasses of it.
    """

    def __init__(self, source: Source) -> None:
        source = sealed(source)
        self._transport = transport_for(source)
        self._label = describe_source(source)
        self._known = PositiveCache()

    @classmethod
    def from_env(cls) -> Self:
        """Create a client from ``SUPABASE_DB_URL`` or ``DATABASE_URL``, else from ``SUPABASE_URL`` and a
        secret key.

        Reads the environment, then ``.env.local``, then ``.env``. Opens no connection. Raises
        ``SettingsError`` if none of these has a value.
        """
        return cls(find_source())

    def sync_auth_user(self, user: UUID | str | object, *, create: bool = False) -> bool:
        """Sync one user. Returns True if the row is complete; otherwise ``failures()`` has the reason.

        ``user`` is an id, or any object or mapping with an ``id``, such as a user of supabase-py. Its other
        fields are used only if the database keeps a copy of the auth server's users
        (``source_table = "usersync.auth_users"``). ``create`` creates the row even with
        ``creates_rows = false``. Raises ``UserNotFoundError`` if neither table has the user.
        """
        return self._transport.run(users.sync_auth_user(user, create=create))

    def sync_all_missing_users(self) -> SyncResult:
        """Sync all users: ``reconcile()`` with its defaults."""
        return self.reconcile()

    def user_exists(self, user_id: UUID | str) -> bool:
        """Return whether the users table has a row for this user."""
        return self._transport.run(users.user_exists(users.user_id_of(user_id)))

    def ensure_user_exists(self, user_id: UUID | str, *, create: bool = False) -> bool:
        """Create the user's row if it is missing. Returns whether the user has a row.

        True is cached for ten minutes; cached calls send no query. At most every 30 seconds, one query checks
        for a failover or a restore, which clears the cache. False means: the auth server does not have the
        user, the settings skip the user, or the row could not be created (see ``failures()``). ``create``
        creates the row even with ``creates_rows = false``.
        """
        found = users.user_id_of(user_id)
        if self._known.has(found) and self._known.wants_position:
            self._check_position()
        if self._known.has(found):
            return True
        exists, committed = self._transport.run_reporting_commit(
            users.ensure_user_exists(found, create=create)
        )
        if exists and committed:
            if self._known.wants_position:
                self._check_position()
            self._known.add(found)
        return exists

    def _check_position(self) -> None:
        try:
            position = self._transport.run(users.position())
        except UsersyncError:
            # The database is unavailable: keep what is remembered.
            position = None
        self._known.update_position(position)

    def remove_user(self, user_id: UUID | str) -> bool:
        """Apply ``on_delete`` to the row of a deleted user, or ``on_soft_delete`` to that of a soft-deleted
        one.

        The triggers do this for every deletion. Call it for users who were deleted while triggers were
        disabled. Returns True if nothing is left to do; otherwise ``failures()`` has the reason. Raises
        ``UserStillExistsError`` if the auth server still has the user, and ``UserNotFoundError`` if neither
        table has the id.
        """
        found = users.user_id_of(user_id)
        self._known.forget(found)
        return self._transport.run(users.remove_user(found))

    def erase(self, user_id: UUID | str, *, dry_run: bool = False, values: Sequence[str] = ()) -> Erasure:
        """Erase the personal data of a deleted user. The events of the user stay in the audit log.

        Searches for the user's id, e-mail addresses and phone numbers. ``values`` are further addresses of
        the person. ``dry_run`` counts and changes nothing. Reads the whole audit log in short transactions;
        after an interruption, call it again. Does not erase spooled events; ``usersync erase`` does.

        Raises ``NeedsDatabaseError`` over a ``DataApi``, ``UserStillExistsError`` if the auth server still
        has the user, and ``UserNotFoundError`` if no data of the user is found.
        """
        found = users.user_id_of(user_id)
        self._known.forget(found)
        return self._transport.run(erasure.erase(found, dry_run=dry_run, values=values))

    def status(self) -> SyncStatus:
        """Count the users, the rows and the differences. Reads both tables completely, page by page."""
        # On a separate connection: with many users it is slow, and other calls wait for the shared
        # connection.
        return self._transport.run_separately(users.status())

    def failures(self, *, limit: int = 1000) -> list[Failure]:
        """Return the sync failures, the oldest first, at most ``limit``."""
        return self._transport.run(users.failures(limit=limit))

    def subscriptions(self) -> tuple[SubscriptionStatus, ...]:
        """Return the subscriptions to events, each with its lag, parked and dead events.

        Requires a database connection as the role that owns usersync.
        """
        return self._transport.run(subscriptions())

    def retry(self, user_id: UUID | str | None = None, *, due: bool = False) -> SyncResult:
        """Sync the users of the failures table again, or only ``user_id``.

        ``due`` leaves out users whose next attempt is not due yet (see ``reconcile()``), for jobs that run
        often. Raises ``PausedError`` during a pause.
        """
        one = users.user_id_of(user_id) if user_id is not None else None
        return self._transport.run(users.retry_on_request(one, due=due))

    def pause(self, *, by: str | None = None) -> Pause:
        """Pause the triggers. They record which users are created, changed and deleted, and sync no user.

        Takes effect from the auth server's next statement on. During a pause, ``reconcile()``, ``retry()``
        and removals raise ``PausedError``; calls for one user work. Returns the pause; if the triggers are
        already paused, the existing one. ``by`` is the name for the audit log (default: the database role).
        """
        return self._transport.run(pausing.pause(by=by))[0]

    def resume(self, *, by: str | None = None) -> Resumption:
        """End the pause. Sync the users who were created, changed or deleted during it, then ``reconcile()``.

        Waits up to five seconds for transactions that began during the pause. If one is still open, the
        result has ``complete=False``: call ``resume()`` again later. ``by`` is the name for the audit log.
        """
        ended = self._transport.run(pausing.end_pause(by=by))
        retried = self._transport.run(users.retry(sqlstate=pausing.NOTED))
        return Resumption(ended.pause, retried, self.reconcile(), complete=ended.pending is None)

    def remove_orphans(self, *, limit: int) -> Removal:
        """Apply ``on_delete`` to orphaned rows: their users were deleted while triggers were disabled.

        Check the output of ``reconcile(dry_run=True)`` first: after a restore, the auth server's table may be
        incomplete. With more than ``limit`` rows it changes nothing and raises ``RemovalLimitError``. Raises
        ``SettingsError`` if ``on_delete`` is ``keep``, and ``PausedError`` during a pause.
        """
        return self._transport.run_separately(deleted_users.remove_all("orphaned", limit))

    def apply_deletions(self, *, limit: int) -> Removal:
        """Apply ``on_soft_delete`` to rows of users who were soft-deleted while triggers were disabled.

        With more than ``limit`` rows it changes nothing and raises ``RemovalLimitError``. Raises
        ``SettingsError`` if ``on_soft_delete`` is ``keep``, and ``PausedError`` during a pause.
        """
        return self._transport.run_separately(deleted_users.remove_all("deleted_upstream", limit))

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
        """Compare both tables and sync the users table, page by page. Each page commits by itself.

        ``dry_run`` writes nothing and lists up to ``difference_limit`` differences. ``workers`` is the number
        of parallel connections (a single ``Connection`` allows one). ``page_size`` is in users. ``resume``
        continues the newest unfinished run, if there is one. ``create_missing`` creates missing rows even
        with ``creates_rows = false``. After five failures, a user is tried again after one minute, then two,
        four, and so on up to a day; ``retry_failures`` tries these users now. ``on_progress`` is called after
        each page.

        Rows of deleted users are counted and not changed, see ``remove_orphans()`` and ``apply_deletions()``.
        Raises ``ArgumentValueError`` for an invalid option, and ``PausedError`` during a pause.
        """
        reconcile.check_options(page_size=page_size, workers=workers, difference_limit=difference_limit)
        self._transport.parallelism(workers)
        started = time.monotonic()
        if dry_run:
            counter = RunCounter(on_progress)
            counter.total = self._transport.run(reconcile.count_users())
            counts, found = self._transport.run_separately(
                reconcile.compare(
                    page_size=page_size, limit=difference_limit, on_page=counter.add, create=create_missing
                )
            )
            return SyncResult(counts, True, found, time.monotonic() - started)
        opened = self._transport.run(reconcile.resume_run(create=create_missing)) if resume else None
        if opened is None:
            opened = self._transport.run(
                reconcile.open_run(
                    workers=workers,
                    page_size=page_size,
                    create=create_missing,
                    retry_failures=retry_failures,
                )
            )
        counts = self._drive(opened, workers, RunCounter(on_progress, opened))
        return SyncResult(counts, seconds=time.monotonic() - started, run_id=opened.run_id)

    def _drive(self, opened: Run, workers: int, counter: RunCounter) -> Counts:
        """Execute all parts of a run. On any exception, record that the run was interrupted."""
        try:
            if workers == 1 or len(opened.parts) == 1:
                for part in opened.parts:
                    self._drive_part(opened, part, counter)
            else:
                self._drive_together(opened, workers, counter)
        except BaseException:
            counter.stop()
            self._note_interruption(opened)
            raise
        return counter.counts

    def _drive_together(self, opened: Run, workers: int, counter: RunCounter) -> None:
        with ThreadPoolExecutor(
            self._transport.parallelism(workers), thread_name_prefix="usersync-worker"
        ) as threads:
            futures = [threads.submit(self._drive_part, opened, part, counter) for part in opened.parts]
            try:
                finished, _ = wait(futures, return_when=FIRST_EXCEPTION)
            finally:
                # After a failure or Ctrl-C, the other workers finish their current page only.
                counter.stop()
            for future in finished:
                future.result()

    def _drive_part(self, opened: Run, part: int, counter: RunCounter) -> None:
        counter.check()
        self._transport.run_separately(
            reconcile.drive_part(opened.run_id, part, counter.add, create=opened.create)
        )

    def _note_interruption(self, opened: Run) -> None:
        # The caller gets the error that stopped the run, not a second one from here.
        with contextlib.suppress(Exception):
            self._transport.run(reconcile.interrupt_run(opened.run_id))

    def close(self) -> None:
        """Close the connections that this client opened. A connection or a pool passed to it stays open."""
        self._transport.close()

    def __repr__(self) -> str:
        # A debugger may show a client whose constructor has raised.
        return f"<{type(self).__name__}: {self.__dict__.get('_label', 'not open')}>"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
