"""Unlinking the events of deleted users who have too many of them for the auth server's transaction."""

from __future__ import annotations

from typing import TYPE_CHECKING

from usersync.core.paging import failed_ids, halved
from usersync.errors import DatabaseError
from usersync.transports.steps import operate

if TYPE_CHECKING:
    from collections.abc import Callable

    from usersync.transports.steps import Steps

UNLINK_BATCH = 5_000


def unlink_deleted_users(on_batch: Callable[[int], None] = lambda _: None) -> Steps[int]:
    """Finish the deletion of users who had too many events for the auth server's transaction.

    With ``on_delete = "delete"`` such users are in the failures table. Their events are unlinked in batches
    that commit by themselves; then the row is deleted. ``on_batch`` is called with the number of events of
    each batch. Returns the number of users.
    """
    waiting, after = 0, None
    while ids := (yield from failed_ids(after, UNLINK_BATCH, sqlstate="55006")):
        for user_id in ids:
            yield from _unlink(user_id, on_batch)
            yield from operate("retry_users", returns=int, ids=[user_id])
        waiting, after = waiting + len(ids), ids[-1]
    return waiting


def _unlink(user_id: str, on_batch: Callable[[int], None]) -> Steps[None]:
    batch = UNLINK_BATCH
    while True:
        try:
            unlinked = yield from operate("unlink_events", returns=int, user_id=user_id, page_size=batch)
        except DatabaseError as error:
            batch = yield from halved(error, batch)
            continue
        if not unlinked:
            return
        on_batch(unlinked)
