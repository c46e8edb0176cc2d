"""Going through both tables in pages that get smaller where one takes longer than a statement may.

The Data API ends a statement after eight seconds, and any role may have a limit of its own.
"""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any
from uuid import UUID

from usersync.errors import DatabaseError
from usersync.plans.protocol import Plan, operate

if TYPE_CHECKING:
    from collections.abc import Callable

    from usersync.plans.protocol import Row

FIRST_ID, LAST_ID = UUID(int=0), UUID(int=2**128 - 1)

_COUNTED = ("auth_users", "users", "missing", "stale", "orphaned")


def ran_out_of_time(error: DatabaseError) -> bool:
    """Whether a statement was ended by its time limit, and not because somebody asked for it."""
    return error.sqlstate == "57014" and "user request" not in str(error)


def fewer(error: DatabaseError, size: int) -> int:
    """Half as many; raises ``error`` where that was not the trouble, or there is nothing left to halve."""
    if size <= 1 or not ran_out_of_time(error):
        raise error
    return size // 2


def compare_pages(
    on_page: Callable[[Row], None], *, page_size: int, first_id: UUID = FIRST_ID, last_id: UUID = LAST_ID
) -> Plan[None]:
    """Compare both tables and write nothing; ``on_page`` is given each page as the database returns it."""
    next_id: Any = first_id
    while next_id is not None:
        try:
            row = yield from operate("compare", first_id=next_id, last_id=last_id, page_size=page_size)
        except DatabaseError as error:
            page_size = fewer(error, page_size)
            continue
        on_page(row)
        next_id = row["next_id"]


def count_by_pages(page_size: int) -> Plan[dict[str, Any]]:
    """The numbers of ``public.user_sync_status()``, without those of the ledger."""
    total: dict[str, Any] = dict.fromkeys(_COUNTED, 0)
    oldest: list[str] = []

    def add(row: Row) -> None:
        for name in _COUNTED:
            total[name] += row[name]
        oldest.extend(filter(None, [row["oldest_missing"]]))

    yield from compare_pages(add, page_size=page_size)
    return total | {"oldest_missing_at": min(oldest, key=datetime.fromisoformat, default=None)}
