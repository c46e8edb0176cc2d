"""Going through both tables in pages that get smaller where one takes longer than a statement may.

The Data API ends a statement after eight seconds, and any role may have a limit of its own.
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

#: The numbers of ``public.user_sync_status()``, without those of the ledger.
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

_TALLY = dict.fromkeys(Counts.__dataclass_fields__, int)

_PAGE: Shape = {
    "next_id": optional(uuid_text),
    "auth_users": int,
    "users": int,
    "skipped": int,
    **_TALLY,
    "oldest_missing": optional(time_text),
    "differences": optional([{"user_id": uuid_text, "class": str, "columns": [str]}]),
}

#: A line of ``usersync.sync_runs``.
RUN_PART: Shape = {
    "run_id": uuid_text,
    "part": int,
    "state": str,
    "page_size": int,
    "next_id": optional(uuid_text),
    **_TALLY,
}


def ran_out_of_time(error: DatabaseError) -> Steps[bool]:
    """Whether a statement was ended by its time limit, and was not cancelled by an administrator.

    Both have SQLSTATE 57014. Only their messages differ, in the language of the server.
    """
    if error.sqlstate != "57014":
        return False
    limit_ms = yield from operate("statement_timeout", returns=int)
    return bool(0 < limit_ms <= error.seconds * 1000)


def halved(error: DatabaseError, size: int) -> Steps[int]:
    """Half as many; raises ``error`` if a time limit was not the reason, or if nothing is left to halve."""
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
    """Compare both tables and write nothing; ``on_page`` is given each page as the database returns it."""
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
    """Compare one page; returns the size that a statement had time for, and the first id of the next page."""
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
    """``after``, if it is: what never comes to an end is no answer of ours."""
    return checked(after, lambda _: before is None or after is None or after > before)  # type: ignore[no-any-return]


def failed_ids(
    after: str | None,
    page_size: int,
    *,
    user_id: UUID | None = None,
    sqlstate: str | None = None,
    due: bool = False,
) -> Steps[list[str]]:
    """The users of the failures table; those that are there for one reason, or whose next try is due.

    By id, after one, so many.
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
    """What ``COUNTED`` says."""
    total: dict[str, Any] = {name: 0 for name, shape in COUNTED.items() if shape is int}
    oldest: list[str] = []

    def add(row: Row) -> None:
        for name in total:
            total[name] += row[name]
        oldest.extend(filter(None, [row["oldest_missing"]]))

    yield from compare_pages(add, page_size=page_size)
    return total | {"oldest_missing_at": min(oldest, key=datetime.fromisoformat, default=None)}
