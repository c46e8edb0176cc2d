"""Syncs both tables, page by page.

Each page is one statement, and so one transaction: it compares, writes the differences, and stores the run's
position. An interruption loses at most the current page.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from uuid import UUID, uuid4

from usersync.core.paging import (
    FIRST_ID,
    LAST_ID,
    RUN_PART,
    compare_page,
    compare_pages,
    halved,
    next_after,
    ran_out_of_time,
)
from usersync.errors import ArgumentValueError, DatabaseError
from usersync.models import Counts, Difference
from usersync.transports.steps import Steps, anything, operate, optional

if TYPE_CHECKING:
    from usersync.transports.steps import Row

PAGE_SIZE = 5_000
MAX_PAGE_SIZE = 100_000
MAX_WORKERS = 32


@dataclass(frozen=True)
class Progress:
    """The progress of a run. ``total`` was counted at its start, so ``counts.examined`` may exceed it."""

    counts: Counts
    total: int


OnProgress = Callable[[Progress], None]
"""Called after each page, in the worker's thread or task. Must not block for long."""


@dataclass(frozen=True)
class Run:
    """An open run. Its parts can be executed one after the other or in parallel."""

    run_id: UUID
    parts: tuple[int, ...]
    total: int
    #: The counts so far, for a run that is resumed.
    before: Counts = field(default_factory=Counts)
    #: Whether rows are created even with ``creates_rows = false``.
    create: bool = False


def check_options(*, page_size: int, workers: int, difference_limit: int = 0) -> None:
    """Raise ``SettingsError`` for an invalid option."""
    if not 1 <= page_size <= MAX_PAGE_SIZE:
        raise ArgumentValueError(f"page size: expected 1 to {MAX_PAGE_SIZE}, got {page_size}")
    if not 1 <= workers <= MAX_WORKERS:
        raise ArgumentValueError(f"workers: expected 1 to {MAX_WORKERS}, got {workers}")
    if difference_limit < 0:
        raise ArgumentValueError(f"difference limit: expected 0 or more, got {difference_limit}")


def open_run(
    *, workers: int, page_size: int, create: bool = False, retry_failures: bool = False
) -> Steps[Run]:
    """Open a run with one part for each worker. If nothing differs, the run is finished at once.

    ``retry_failures`` also tries users whose next attempt is not due yet.
    """
    found = yield from _compared_at_once(create=create)
    total = (yield from count_users()) if found is None else found.examined
    parts = workers if found is None else 1
    bounds = [2**128 * part // parts for part in range(parts + 1)]
    run_id = uuid4()
    yield from operate(
        "start_run",
        returns=anything,
        run_id=run_id,
        first_ids=[UUID(int=bound) for bound in bounds[:-1]],
        last_ids=[UUID(int=bound - 1) for bound in bounds[1:]],
        page_size=page_size,
        examined=found and found.examined,
        retries_all=retry_failures or None,
    )
    return Run(run_id, tuple(range(1, parts + 1)), total, found or Counts(), create)


_AT_ONCE = {
    "in_step": bool,
    "examined": optional(int),
    "orphaned": optional(int),
    "deleted_upstream": optional(int),
}


def _compared_at_once(*, create: bool) -> Steps[Counts | None]:
    """The counts, if nothing differs; None if the tables must be compared page by page."""
    try:
        row = yield from operate("compare_at_once", returns=_AT_ONCE, create=create or None)
    except DatabaseError as error:
        if not (yield from ran_out_of_time(error)):
            raise
        return None
    if not row["in_step"]:
        return None
    return Counts(
        examined=row["examined"], orphaned=row["orphaned"], deleted_upstream=row["deleted_upstream"]
    )


def count_users() -> Steps[int]:
    """The number of users in the larger of both tables."""
    row = yield from operate("count_users", returns={"users": int, "auth_users": int})
    return int(max(row["users"], row["auth_users"]))


def resume_run(*, create: bool = False) -> Steps[Run | None]:
    """The newest unfinished run, or None."""
    rows = yield from operate("unfinished_run", returns=[RUN_PART])
    if not rows:
        return None
    total = yield from count_users()
    before = sum((counts_of(row) for row in rows), Counts())
    return Run(
        UUID(rows[0]["run_id"]),
        tuple(row["part"] for row in rows if row["state"] != "finished"),
        total,
        before,
        create,
    )


def drive_part(
    run_id: UUID, part: int, on_page: Callable[[Counts], None], *, create: bool = False
) -> Steps[Counts]:
    """Execute the pages of one part until it is finished. ``on_page`` is called with the counts of each page.

    A page that exceeds the statement timeout is tried again with half its size.
    """
    row = yield from operate("run_part", returns=RUN_PART, run_id=run_id, part=part)
    seen, page_size, next_id = counts_of(row), row["page_size"], row["next_id"]
    started_with = seen
    while True:
        try:
            row = yield from operate(
                "advance_run", returns=RUN_PART, run_id=run_id, part=part, create=create or None
            )
        except DatabaseError as error:
            page_size = yield from halved(error, page_size)
            yield from operate("limit_pages", returns=anything, run_id=run_id, part=part, page_size=page_size)
            continue
        now = counts_of(row)
        on_page(_minus(now, seen))
        seen, next_id = now, next_after(next_id, row["next_id"])
        if next_id is None:
            return _minus(now, started_with)


def interrupt_run(run_id: UUID) -> Steps[None]:
    """Mark a run as interrupted, to distinguish it from one in progress."""
    yield from operate("interrupt_run", returns=anything, run_id=run_id)


def compare(
    *,
    page_size: int,
    limit: int,
    on_page: Callable[[Counts], None] = lambda _: None,
    first_id: UUID = FIRST_ID,
    last_id: UUID = LAST_ID,
    create: bool = False,
) -> Steps[tuple[Counts, tuple[Difference, ...]]]:
    """Compare both tables without writing. Returns the counts and the first ``limit`` differences."""
    counts, found = Counts(), list[Difference]()

    def add(row: Row) -> None:
        nonlocal counts
        page = counts_of(row)
        counts += page
        found.extend(_difference(each) for each in (row["differences"] or [])[: limit - len(found)])
        on_page(page)

    yield from compare_pages(add, page_size=page_size, first_id=first_id, last_id=last_id, create=create)
    return counts, tuple(found)


def missing_users(limit: int, without: Collection[UUID] = ()) -> Steps[tuple[UUID, ...]]:
    """The ids of missing users, in order, at most ``limit``."""
    found, first_id = list[UUID](), FIRST_ID

    def add(row: Row) -> None:
        nonlocal first_id
        named = [_difference(each) for each in row["differences"] or []]
        found.extend(each.user_id for each in named if each.difference == "missing")
        first_id = UUID(row["next_id"]) if row["next_id"] else LAST_ID

    while len(found) < limit and first_id != LAST_ID:
        yield from compare_page(add, page_size=PAGE_SIZE, first_id=first_id, create=True)
        found[:] = [each for each in found if each not in without]
    return tuple(found[:limit])


def compare_users(
    user_ids: Iterable[UUID], *, create: bool = False
) -> Steps[tuple[Counts, tuple[Difference, ...]]]:
    """Compare the rows of these users without writing."""
    counts, found = Counts(), list[Difference]()
    for user_id in dict.fromkeys(user_ids):
        one, differing = yield from compare(
            page_size=1, limit=1, first_id=user_id, last_id=user_id, create=create
        )
        counts += one
        found += differing
    return counts, tuple(found)


def _difference(data: Row) -> Difference:
    return Difference(UUID(data["user_id"]), data["class"], tuple(data["columns"]))


_COUNTS = tuple(Counts.__dataclass_fields__)


def counts_of(row: Row) -> Counts:
    """The counts in a row that describes a page or a part of a run."""
    return Counts(**{name: row[name] for name in _COUNTS})


def _minus(after: Counts, before: Counts) -> Counts:
    return Counts(**{name: getattr(after, name) - getattr(before, name) for name in _COUNTS})
