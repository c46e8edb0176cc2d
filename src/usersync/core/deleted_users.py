"""Rows of deleted users. Every run counts them; only explicit commands remove them.

``orphaned``: the auth server has no such user; ``on_delete`` says what a removal does. ``deleted_upstream``:
the auth server has soft-deleted the user; ``on_soft_delete`` says it.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING
from uuid import UUID

from usersync.core.paging import compare_pages, halved
from usersync.core.reconcile import PAGE_SIZE, counts_of
from usersync.core.unlinking import unlink_deleted_users
from usersync.errors import DatabaseError, RemovalLimitError, SettingsError
from usersync.models import Counts, LeftAlone, Removal
from usersync.transports.steps import Steps, operate

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from usersync.transports.steps import Row

BATCH = 500

#: The setting that defines the removal.
POLICY_OF: dict[LeftAlone, str] = {"orphaned": "on_delete", "deleted_upstream": "on_soft_delete"}
OPTION_OF: dict[LeftAlone, str] = {"orphaned": "--remove-orphans", "deleted_upstream": "--apply-deletions"}
_WORDS: dict[LeftAlone, str] = {
    "orphaned": "rows whose user the auth server no longer has",
    "deleted_upstream": "rows of users whom the auth server has soft-deleted",
}


def removal_policy(kind: LeftAlone) -> Steps[str]:
    """What a removal does to rows of deleted users. Raises ``SettingsError`` if the setting is ``keep``."""
    setting = POLICY_OF[kind]
    policies = yield from operate("removal_policies", returns={"on_delete": str, "on_soft_delete": str})
    policy: str = policies[setting]
    if policy == "keep":
        raise SettingsError(
            f'{setting} is "keep", so {_WORDS[kind]} are not changed',
            hint=f"To remove them, set {setting} to another value, and run: usersync apply",
        )
    return policy


def find_deleted(
    kind: LeftAlone, *, page_size: int = PAGE_SIZE, on_page: Callable[[Counts], None] = lambda _: None
) -> Steps[tuple[UUID, ...]]:
    """The ids of the users with such a row. Writes nothing."""
    found: list[UUID] = []

    def add(row: Row) -> None:
        found.extend(UUID(each["user_id"]) for each in row["differences"] or () if each["class"] == kind)
        on_page(counts_of(row))

    yield from compare_pages(add, page_size=page_size)
    return tuple(found)


def check_limit(found: int, limit: int, what: str) -> None:
    """Raise ``RemovalLimitError`` if there are more rows than ``limit``. Writes nothing."""
    if found > limit:
        raise RemovalLimitError(
            f"there are {found:,} {what}, and --max allows {limit:,}. Nothing was removed",
            hint="Check that the auth server's table is complete: after a restore it may not be. "
            "usersync sync --dry-run lists the rows.",
        )


def remove_deleted(kind: LeftAlone, ids: Sequence[UUID], *, by: str | None = None) -> Steps[Removal]:
    """Apply the setting to the rows of these users, in batches that commit by themselves.

    Each batch checks the auth server's table again: the row of a user who exists by then is not changed. The
    audit log, if there is one, gets an event with the number of rows and ``by``.
    """
    started = time.monotonic()
    removed, failed = yield from _remove(kind, ids)
    if failed and (yield from unlink_deleted_users()):
        removed, failed = yield from _remove(kind, ids)
    counts = {"found": len(ids), "removed": removed, "failed": failed}
    recorded = bool(ids) and (yield from operate("record_removal", returns=bool, kind=kind, by=by, **counts))
    return Removal(kind, **counts, seconds=time.monotonic() - started, recorded=recorded)


def _remove(kind: LeftAlone, ids: Sequence[UUID]) -> Steps[tuple[int, int]]:
    removed = failed = place = 0
    size = BATCH
    while chunk := ids[place : place + size]:
        try:
            row = yield from operate(
                "remove_users", returns={"removed": int, "failed": int}, ids=list(chunk), kind=kind
            )
        except DatabaseError as error:
            size = yield from halved(error, len(chunk))
            continue
        removed, failed, place = removed + row["removed"], failed + row["failed"], place + len(chunk)
    return removed, failed


def remove_all(kind: LeftAlone, limit: int) -> Steps[Removal]:
    """Find such rows and remove them, unless there are more than ``limit``."""
    yield from removal_policy(kind)
    ids = yield from find_deleted(kind)
    check_limit(len(ids), limit, _WORDS[kind])
    return (yield from remove_deleted(kind, ids))
