"""One user or a few: exists, ensure, sync, remove, and the ledger."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING
from uuid import UUID

from usersync.errors import SettingsError, UserNotFoundError, UserStillExistsError
from usersync.models import Counts, Failure, SyncResult, SyncStatus
from usersync.plans.audit_upkeep import unlink_deleted_users
from usersync.plans.protocol import Plan, query, query_row

if TYPE_CHECKING:
    from usersync.plans.protocol import Row

RETRY_BATCH = 500


def user_id_of(user: object) -> UUID:
    """The id of a user given as an id, or as any object or mapping with an ``id`` or a ``user`` with one.

    The latter is what supabase-py's methods return. Raises :class:`SettingsError` for anything else, without
    repeating the value: it may be personal.
    """
    found = _part(user, "id")
    if found is None:
        found = _part(_part(user, "user"), "id")
    if found is None and isinstance(user, UUID | str):
        found = user
    if isinstance(found, UUID):
        return found
    try:
        return UUID(found)  # type: ignore[arg-type]
    except (TypeError, ValueError, AttributeError):
        raise SettingsError(
            "expected a user's id, and this text is not a UUID"
            if isinstance(found, str)
            else f"expected a user's id (a UUID), or something with an id; got {type(user).__name__}"
        ) from None


def _part(whole: object, name: str) -> object:
    return whole.get(name) if isinstance(whole, Mapping) else getattr(whole, name, None)


def user_exists(user_id: UUID) -> Plan[bool]:
    """Whether the users table has a row for this user."""
    row = yield from query_row("select usersync.user_exists(%(user_id)s) as found", user_id=user_id)
    return bool(row["found"])


def ensure_user_exists(user_id: UUID) -> Plan[bool]:
    """Whether the user has a row, made now if need be."""
    row = yield from query_row("select public.ensure_user_exists(%(user_id)s) as found", user_id=user_id)
    return bool(row["found"])


def sync_auth_user(user_id: UUID) -> Plan[bool]:
    """Bring one user in line; True if nothing about them is in the ledger afterwards.

    Raises :class:`UserNotFoundError` if neither side knows the user.
    """
    row = yield from query_row(_SYNC_ONE, user_id=user_id)
    if not row["known"]:
        raise _not_found(user_id)
    return not (yield from failures(limit=1, user_id=user_id))


_SYNC_ONE = "select known, alive from usersync.sync_user(%(user_id)s)"


def is_known(user_id: UUID) -> Plan[bool]:
    """Whether either side knows the user, who is brought in line."""
    row = yield from query_row(_SYNC_ONE, user_id=user_id)
    return bool(row["known"])


def _not_found(user_id: UUID) -> UserNotFoundError:
    return UserNotFoundError(
        f"no user {user_id} in the auth server's table or in the users table",
        hint="Check the id, and that this is the right project.",
    )


def remove_user(user_id: UUID) -> Plan[bool]:
    """Apply ``on_delete`` to a user who is gone from the auth server; True if nothing is left to do.

    Raises :class:`UserStillExistsError` while the auth server knows the user, and :class:`UserNotFoundError`
    if neither side does, nor did before.
    """
    # Asked before: of a row that is deleted now nothing is left to be known by.
    before = yield from query_row("select usersync.user_exists(%(user_id)s) as found", user_id=user_id)
    row = yield from query_row(_SYNC_ONE, user_id=user_id)
    if not (before["found"] or row["known"]):
        raise _not_found(user_id)
    if row["alive"]:
        raise UserStillExistsError(
            f"user {user_id} is alive in the auth server's table",
            hint="Delete the user there first (dashboard or admin API); the row here follows by itself.",
        )
    return not (yield from failures(limit=1, user_id=user_id))


def status() -> Plan[SyncStatus]:
    """Count both sides and what differs. Reads both tables once."""
    row = yield from query_row("select public.user_sync_status() as status, clock_timestamp() as observed_at")
    return SyncStatus.from_json(row["status"], row["observed_at"])


def only_failures_remain(status: SyncStatus) -> bool:
    """Whether as many are in the ledger as differ: syncing them again would fail as it did before."""
    return 0 < status.missing + status.stale + status.orphaned <= status.failed + status.degraded


def failures(*, limit: int = 1000, user_id: UUID | None = None) -> Plan[list[Failure]]:
    """The ledger, the oldest failure first."""
    rows = yield from query(_FAILURES, limit=limit, user_id=user_id)
    return [Failure(**row) for row in rows]


_FAILURES = """
    select user_id, outcome, sqlstate, constraint_name as constraint, column_name as column, message,
        raised_in, attempts, first_failed_at, last_failed_at
    from usersync.sync_failures
    where %(user_id)s::uuid is null or user_id = %(user_id)s::uuid
    order by first_failed_at, user_id
    limit %(limit)s
"""


def retry(user_id: UUID | None = None) -> Plan[SyncResult]:
    """Try the users of the ledger again, or the one, in batches that commit by themselves."""
    started = datetime.now(UTC)
    yield from unlink_deleted_users()
    examined, after = 0, None
    while True:
        batch: list[Row] = yield from query(_NEXT_FAILED, user_id=user_id, after=after, batch=RETRY_BATCH)
        if not batch:
            break
        after = batch[-1]["user_id"]
        ids = [row["user_id"] for row in batch]
        yield from query("select usersync.sync_users(%(ids)s)", ids=ids)
        examined += len(ids)
    left = yield from query_row(_COUNT_FAILED, user_id=user_id)
    counts = Counts(examined=examined, stale=examined, degraded=left["degraded"], failed=left["failed"])
    return SyncResult(counts, seconds=(datetime.now(UTC) - started).total_seconds())


_NEXT_FAILED = """
    select user_id from usersync.sync_failures
    where (%(user_id)s::uuid is null or user_id = %(user_id)s::uuid)
        and (%(after)s::uuid is null or user_id > %(after)s::uuid)
    order by user_id limit %(batch)s
"""

_COUNT_FAILED = """
    select count(*) filter (where outcome = 'degraded') as degraded,
        count(*) filter (where outcome = 'failed') as failed
    from usersync.sync_failures
    where %(user_id)s::uuid is null or user_id = %(user_id)s::uuid
"""
