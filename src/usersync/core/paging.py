"""Reads both tables in pages, which get smaller if one exceeds the statement timeout.

The Data API ends a statement after eight seconds, and every role can have its own ``statement_timeout``.
"""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any
from uuid import UUID

from usersync.errors import DatabaseError
from usersync.models import Counts
from usersync.transports.steps import Shape, Steps, checked, operate, optional, time_text, uuid_text

if TYPE_CHECKING:
    from collections.abc import Callable

    from usersync.transports.steps import Row

FIRST_ID, LAST_ID = UUID(int=0), UUID(int=2**128 - 1)

#: The numbers of ``public.user_sync_status()``, without those of the failures table.
COUNTED: Shape = {
    "auth_users": int,
    "users": int,
    "missing": int,
    "stale": int,
    "orphaned": int,
    "deleted_upstream": int,
    "skipped": int,
    "oldest_missing_at": optional(time_text),
}

_COUNTS = dict.fromkeys(Counts.__dataclass_fields__, int)

_PAGE: Shape = {
    "next_id": optional(uuid_text),
    "auth_users": int,
    "users": int,
    "skipped": int,
    **_COUNTS,
    "oldest_missing": optional(time_text),
    "differences": optional([{"user_id": uuid_text, "class": str, "columns": [str]}]),
}

#: A row of ``usersync.sync_runs``.
RUN_PART: Shape = {
    "run_id": uuid_text,
    "part": int,
    "state": str,
    "page_size": int,
    "next_id": optional(uuid_text),
    **_COUNTS,
}


#: The SQLSTATE of a statement that its time-out or an administrator has ended.
QUERY_CANCELED = "57014"


def ran_out_of_time(error: DatabaseError) -> Steps[bool]:
    """Whether a statement was ended by its timeout, and not cancelled by an administrator.

    Both have SQLSTATE 57014. Only their messages differ, in the language of the server.
    """
    if error.sqlstate != QUERY_CANCELED:
        return False
    limit_ms = yield from operate("statement_timeout", returns=int)
    return bool(0 < limit_ms <= error.seconds * 1000)


def halved(error: DatabaseError, size: int) -> Steps[int]:
    """Half of ``size``. Raises ``error`` if the timeout was not the reason, or if ``size`` is 1."""
    if size <= 1 or not (yield from ran_out_of_time(error)):
        raise error
    return size // 2


def compare_pages(
    on_page: Callable[[Row], None],
    *,
    page_size: int,
    first_id: UUID = FIRST_ID,
    last_id: UUID = LAST_ID,
    create: bool = False,
) -> Steps[None]:
    """Compare both tables without writing. ``on_page`` is called with each page."""
    next_id: str | None = str(first_id)
    while next_id is not None:
        page_size, after = yield from compare_page(
            on_page, page_size=page_size, first_id=UUID(next_id), last_id=last_id, create=create
        )
        next_id = next_after(next_id, after)


def compare_page(
    on_page: Callable[[Row], None],
    *,
    page_size: int,
    first_id: UUID,
    last_id: UUID = LAST_ID,
    create: bool = False,
) -> Steps[tuple[int, str | None]]:
    """Compare one page. Returns the page size that met the timeout, and the first id of the next page."""
    while True:
        try:
            row = yield from operate(
                "compare",
                returns=_PAGE,
                first_id=str(first_id),
                last_id=last_id,
                page_size=page_size,
                create=create or None,
            )
        except DatabaseError as error:
            page_size = yield from halved(error, page_size)
            continue
        on_page(row)
        return page_size, row["next_id"]


def next_after(before: str | None, after: str | None) -> str | None:
    """Return ``after`` if it is greater than ``before``; otherwise raise, because paging would never end."""
    return checked(after, lambda _: before is None or after is None or after > before)  # type: ignore[no-any-return]


def failed_ids(
    after: str | None,
    page_size: int,
    *,
    user_id: UUID | None = None,
    sqlstate: str | None = None,
    due: bool = False,
) -> Steps[list[str]]:
    """One page of ids of the failures table: those greater than ``after``, at most ``page_size``.

    ``sqlstate`` and ``due`` restrict it to one reason, and to users whose next attempt is due.
    """
    ids: list[str] = yield from operate(
        "failed_ids",
        returns=[uuid_text],
        user_id=user_id,
        sqlstate=sqlstate,
        due=due or None,
        after_id=after,
        page_size=page_size,
    )
    for each in ids:
        after = next_after(after, each)
    return ids


def count_by_pages(page_size: int) -> Steps[dict[str, Any]]:
    """Count the numbers of ``COUNTED`` page by page."""
    total: dict[str, Any] = {name: 0 for name, shape in COUNTED.items() if shape is int}
    oldest: list[str] = []

    def add(row: Row) -> None:
        for name in total:
            total[name] += row[name]
        oldest.extend(filter(None, [row["oldest_missing"]]))

    yield from compare_pages(add, page_size=page_size)
    return total | {"oldest_missing_at": min(oldest, key=datetime.fromisoformat, default=None)}
