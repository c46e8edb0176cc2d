"""One user or a few: exists, ensure, sync, remove, and the failures table."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from uuid import UUID

from usersync.core.paging import COUNTED, count_by_pages, failed_ids, halved, ran_out_of_time
from usersync.core.position import DatabasePosition
from usersync.core.unlinking import unlink_deleted_users
from usersync.errors import (
    ArgumentTypeError,
    ArgumentValueError,
    DatabaseError,
    UserNotFoundError,
    UserStillExistsError,
    VersionMismatchError,
)
from usersync.models import Counts, Failure, SyncResult, SyncStatus
from usersync.transports.steps import Steps, call, operate, optional, query, time_text, uuid_text

if TYPE_CHECKING:
    from usersync.config.settings import Settings

RETRY_BATCH = 500
FAILURES_PAGE = 1_000
STATUS_PAGE = 20_000


def missing_columns(settings: Settings) -> Steps[tuple[str, ...]]:
    """The mapped columns that the users table does not have; none if there is no table."""
    rows = yield from query(
        "select attname from pg_attribute where attrelid = to_regclass(%(table)s) and attnum > 0 "
        "and not attisdropped",
        table=settings.users_table.quoted,
    )
    there = {row["attname"] for row in rows}
    return tuple(column.name for column in settings.columns if there and column.name not in there)


def user_id_of(user: object) -> UUID:
    """The id of a user: given as an id, as an object or a mapping with an ``id``, or with a ``user`` with
    one.

    supabase-py's methods return the last form. Raises ``ArgumentTypeError`` or
    ``ArgumentValueError`` for anything else. The error does not
    contain the value, which may be personal data.
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
        if isinstance(found, str):
            raise ArgumentValueError("expected a user's id, and this text is not a UUID") from None
        raise ArgumentTypeError(
            f"expected a user's id (a UUID), or an object or a mapping with an id; got {type(user).__name__}"
        ) from None


def user_data_of(user: object) -> dict[str, Any] | None:
    """The user's fields from an object or a mapping, in the form of the admin API; None for an id alone."""
    whole = user if _part(user, "id") is not None else _part(user, "user")
    # An object without these fields is not a user of the auth server.
    if whole is None or any(_part(whole, name) is None for name in ("id", "created_at", "updated_at")):
        return None
    told = {name: _part(whole, name) for name in _TOLD}
    plain = {name: value for name, value in told.items() if isinstance(value, str | bool | dict | datetime)}
    found: dict[str, Any] = json.loads(json.dumps(plain | {"id": user_id_of(whole)}, default=str))
    return found


#: The fields of a user in the admin API and in supabase-py.
_TOLD = (
    *("aud", "role", "email", "email_confirmed_at", "invited_at", "last_sign_in_at", "app_metadata", "phone"),
    *("user_metadata", "created_at", "updated_at", "phone_confirmed_at", "confirmed_at", "banned_until"),
    *("deleted_at", "is_anonymous"),
)


def _part(whole: object, name: str) -> object:
    return whole.get(name) if isinstance(whole, Mapping) else getattr(whole, name, None)


def user_exists(user_id: UUID) -> Steps[bool]:
    """Whether the users table has a row for this user."""
    return bool((yield from operate("user_exists", returns=bool, user_id=user_id)))


def position() -> Steps[DatabasePosition | None]:
    """The position of the database."""
    return DatabasePosition.read((yield from operate("position", returns=str)))


def ensure_user_exists(user_id: UUID, *, create: bool = False) -> Steps[bool]:
    """Create the user's row if it is missing, with ``create`` even with ``creates_rows = false``. Returns
    whether the user has a row."""
    if create:
        return bool((yield from operate("ensure_user_exists", returns=bool, user_id=user_id, create=True)))
    return bool((yield from call("ensure_user_exists", returns=bool, user_id=str(user_id))))


_REMOVED = {"known": bool, "alive": bool}
_SYNCED = {**_REMOVED, "copied": bool}


def sync_auth_user(user: object, *, create: bool = False) -> Steps[bool]:
    """Sync one user; True if the failures table does not have the user afterwards.

    Other fields than the id are used only if the database keeps a copy of the auth server's users. Raises
    ``UserNotFoundError`` if neither table has the user.
    """
    user_id, told = user_id_of(user), user_data_of(user)
    row = yield from operate("sync_user", returns=_SYNCED, user_id=user_id, create=create or None)
    if row["copied"] and told is not None:
        yield from operate("receive_users", returns=int, users=[told])
        row = yield from operate("sync_user", returns=_SYNCED, user_id=user_id, create=create or None)
    if not row["known"]:
        raise _not_found(user_id)
    return not (yield from failures(limit=1, user_id=user_id))


def is_known(user_id: UUID) -> Steps[bool]:
    """Sync the user. Returns whether one of the tables has the user."""
    row = yield from operate("sync_user", returns=_SYNCED, user_id=user_id)
    return bool(row["known"])


def _not_found(user_id: UUID) -> UserNotFoundError:
    return UserNotFoundError(
        f"no user {user_id} in the auth server's table or in the users table",
        hint="Check the id, and that this is the right project.",
    )


def remove_user(user_id: UUID) -> Steps[bool]:
    """Apply ``on_delete`` or ``on_soft_delete`` to a deleted user; True if nothing is left to do.

    Raises ``UserStillExistsError`` if the auth server still has the user, and ``UserNotFoundError`` if
    neither table has, or had, the user.
    """
    # Before the removal, which may delete the row.
    existed = yield from user_exists(user_id)
    row = yield from operate("remove_user", returns=_REMOVED, user_id=user_id)
    if not (existed or row["known"]):
        raise _not_found(user_id)
    if row["alive"]:
        raise UserStillExistsError(
            f"user {user_id} is alive in the auth server's table",
            hint="Delete the user there first (dashboard or admin API); the row here follows by itself.",
        )
    return not (yield from failures(limit=1, user_id=user_id))


def status() -> Steps[SyncStatus]:
    """Count users, rows and differences. Reads both tables, page by page if one statement exceeds its
    timeout.
    """
    try:
        found = yield from call("user_sync_status", returns=COUNTED | FAILURE_STATUS)
    except DatabaseError as error:
        if not (yield from ran_out_of_time(error)):
            raise
        counted = yield from count_by_pages(STATUS_PAGE)
        found = counted | (yield from operate("ledger_status", returns=FAILURE_STATUS))
    return SyncStatus.from_json(found)


FAILURE_STATUS = {
    "degraded": int,
    "failed": int,
    "removal_failed": int,
    "event_failed": int,
    "oldest_failure_at": optional(time_text),
    "last_run": optional({"run_id": uuid_text, "finished": bool, "updated_at": time_text, "examined": int}),
    "observed_at": time_text,
}


def only_failures_remain(status: SyncStatus) -> bool:
    """Whether all users who differ are in the failures table, so that another sync would fail in the same
    way.
    """
    return 0 < status.missing + status.stale <= status.failed + status.degraded


def failures(*, limit: int = 1000, user_id: UUID | None = None) -> Steps[list[Failure]]:
    """The sync failures, the oldest first."""
    found: list[dict[str, Any]] = []
    while len(found) < limit:
        size = min(limit - len(found), FAILURES_PAGE)
        last = found[-1] if found else {}
        page = yield from operate(
            "failures",
            returns=[_FAILURE],
            user_id=user_id,
            after_time=last.get("first_failed_at"),
            after_id=last.get("user_id"),
            page_size=size,
        )
        found += page
        if len(page) < size:
            break
    return [Failure.from_json(each) for each in found]


_FAILURE = {
    "user_id": uuid_text,
    "kind": str,
    "outcome": str,
    "sqlstate": str,
    "constraint": optional(str),
    "column": optional(str),
    "message": str,
    "raised_in": optional(str),
    "attempts": int,
    "first_failed_at": time_text,
    "last_failed_at": time_text,
}


_LEFT = {"degraded": int, "failed": int, "removal_failed": int, "event_failed": int}


def retry(
    user_id: UUID | None = None, *, sqlstate: str | None = None, due: bool = False
) -> Steps[SyncResult]:
    """Sync users of the failures table again, in batches that commit by themselves.

    ``user_id``, ``sqlstate`` and ``due`` restrict it to one user, one reason, or users whose next attempt is
    due.
    """
    started = datetime.now(UTC)
    yield from unlink_deleted_users()
    left, after, batch = Counts(), None, RETRY_BATCH
    while True:
        ids = yield from failed_ids(after, batch, user_id=user_id, sqlstate=sqlstate, due=due)
        if not ids:
            break
        try:
            yield from operate("retry_users", returns=int, ids=ids)
        except DatabaseError as error:
            batch = yield from halved(error, len(ids))
            continue
        row = yield from operate("count_failed", returns=_LEFT, ids=ids)
        failed = row["failed"] + row["removal_failed"] + row["event_failed"]
        left += Counts(examined=len(ids), stale=len(ids), degraded=row["degraded"], failed=failed)
        after = ids[-1]
    return SyncResult(left, seconds=(datetime.now(UTC) - started).total_seconds())


def retry_on_request(
    user_id: UUID | None = None, *, due: bool = False, by: str | None = None
) -> Steps[SyncResult]:
    """``retry()``, recorded in the audit log if there is one.

    With ``due`` nothing is recorded, because a periodic job does that every few minutes.
    """
    result = yield from retry(user_id, due=due)
    if result.counts.examined and not due:
        counts = {"users": result.counts.examined, "synced": result.synced}
        # The functions of an earlier release record nothing.
        with suppress(VersionMismatchError):
            yield from operate("record_retry", returns=bool, by=by, **counts)
    return result
