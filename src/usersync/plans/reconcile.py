"""Bringing both tables in line, page by page.

Each page is one statement and so a transaction of its own: it compares, writes what differs, and keeps the
place. Stopping between two pages, or in one, loses nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from uuid import UUID, uuid4

from usersync.errors import DatabaseError, RemovalCapError, SettingsError
from usersync.models import Counts, Difference
from usersync.plans.pages import FIRST_ID, LAST_ID, RUN_PART, compare_pages, fewer, further, ran_out_of_time
from usersync.transports.steps import Plan, anything, operate, optional

if TYPE_CHECKING:
    from usersync.transports.steps import Row

PAGE_SIZE = 5_000
MAX_PAGE_SIZE = 100_000
MAX_WORKERS = 32


@dataclass(frozen=True)
class Progress:
    """How far a run has come. ``total`` was counted when it began, so ``counts.examined`` may pass it."""

    counts: Counts
    total: int


OnProgress = Callable[[Progress], None]
"""Called after each page, in the thread or task that did it. Must not block for long."""


@dataclass(frozen=True)
class Run:
    """A run that was opened: its parts can be driven one after the other or side by side."""

    run_id: UUID
    parts: tuple[int, ...]
    total: int
    #: What had been counted before, where the run was begun earlier and is resumed.
    before: Counts = field(default_factory=Counts)


def check_options(
    *, page_size: int, workers: int, removal_cap: float | None = None, difference_limit: int = 0
) -> None:
    """Raise :class:`SettingsError` for an option that cannot be."""
    if not 1 <= page_size <= MAX_PAGE_SIZE:
        raise SettingsError(f"page size: expected 1 to {MAX_PAGE_SIZE}, got {page_size}")
    if not 1 <= workers <= MAX_WORKERS:
        raise SettingsError(f"workers: expected 1 to {MAX_WORKERS}, got {workers}")
    if removal_cap is not None and not 0 <= removal_cap <= 1:
        raise SettingsError(f"removal cap: expected a share from 0 to 1, got {removal_cap}")
    if difference_limit < 0:
        raise SettingsError(f"difference limit: expected 0 or more, got {difference_limit}")


def open_run(*, workers: int, page_size: int, removal_cap: float | None) -> Plan[Run]:
    """Check that not too much would be removed, and open a run of as many parts as there are workers.

    Where both tables agree, the run is finished at once. Raises :class:`RemovalCapError`; nothing has been
    written then.
    """
    examined = yield from _examined_in_step()
    total = (yield from check_removals(removal_cap)) if examined is None else examined
    parts = workers if examined is None else 1
    bounds = [2**128 * part // parts for part in range(parts + 1)]
    run_id = uuid4()
    yield from operate(
        "start_run",
        returns=anything,
        run_id=run_id,
        first_ids=[UUID(int=bound) for bound in bounds[:-1]],
        last_ids=[UUID(int=bound - 1) for bound in bounds[1:]],
        page_size=page_size,
        examined=examined,
    )
    return Run(run_id, tuple(range(1, parts + 1)), total, Counts(examined=examined or 0))


def _examined_in_step() -> Plan[int | None]:
    """How many users were compared, if nothing differs at all; None where pages have to find that out."""
    try:
        row = yield from operate("compare_at_once", returns={"in_step": bool, "examined": optional(int)})
    except DatabaseError as error:
        if not ran_out_of_time(error):
            raise
        return None
    return row["examined"] if row["in_step"] else None


_REMOVALS = {"removals": int, "users": int, "auth_users": int, "allowed": int}


def check_removals(removal_cap: float | None) -> Plan[int]:
    """Raise :class:`RemovalCapError` if more rows would go than may; else return how many users there are.

    ``removal_cap`` replaces the share that was configured, and then not even the few rows are allowed that
    always are otherwise.
    """
    row = yield from operate("count_removals", returns=_REMOVALS)
    allowed = row["allowed"] if removal_cap is None else int(row["users"] * removal_cap)
    if row["removals"] > allowed:
        raise RemovalCapError(
            f"{row['removals']} of {row['users']} rows belong to users whom the auth server no longer has, "
            f"and a run may remove {allowed} of them. Nothing was written",
            hint="Look at them with: usersync sync --dry-run. If the auth server's table is complete and "
            "they are to go, run: usersync sync --removal-cap 1",
        )
    return int(max(row["users"], row["auth_users"]))


def count_users() -> Plan[int]:
    """How many users the longer side has."""
    row = yield from operate("count_removals", returns=_REMOVALS)
    return int(max(row["users"], row["auth_users"]))


def resume_run(removal_cap: float | None = None) -> Plan[Run | None]:
    """The newest run that was not finished, or None. Checks removals as :func:`open_run` does."""
    rows = yield from operate("unfinished_run", returns=[RUN_PART])
    if not rows:
        return None
    total = yield from check_removals(removal_cap)
    before = sum((_counts(row) for row in rows), Counts())
    return Run(
        UUID(rows[0]["run_id"]),
        tuple(row["part"] for row in rows if row["state"] != "finished"),
        total,
        before,
    )


def drive_part(run_id: UUID, part: int, on_page: Callable[[Counts], None]) -> Plan[Counts]:
    """Do the pages of one part until it is finished. ``on_page`` is given what each page found.

    A page that takes longer than a statement may is tried again in halves.
    """
    row = yield from operate("run_part", returns=RUN_PART, run_id=run_id, part=part)
    seen, page_size, next_id = _counts(row), row["page_size"], row["next_id"]
    started_with = seen
    while True:
        try:
            row = yield from operate("advance_run", returns=RUN_PART, run_id=run_id, part=part)
        except DatabaseError as error:
            page_size = fewer(error, page_size)
            yield from operate("limit_pages", returns=anything, run_id=run_id, part=part, page_size=page_size)
            continue
        now = _counts(row)
        on_page(_minus(now, seen))
        seen, next_id = now, further(next_id, row["next_id"])
        if next_id is None:
            return _minus(now, started_with)


def interrupt_run(run_id: UUID) -> Plan[None]:
    """Note that a run was stopped, so that it can be told from one that is under way."""
    yield from operate("interrupt_run", returns=anything, run_id=run_id)


def compare(
    *,
    page_size: int,
    limit: int,
    on_page: Callable[[Counts], None] = lambda _: None,
    first_id: UUID = FIRST_ID,
    last_id: UUID = LAST_ID,
) -> Plan[tuple[Counts, tuple[Difference, ...]]]:
    """Compare both tables and write nothing. Returns what differs, the first ``limit`` by name."""
    counts, found = Counts(), list[Difference]()

    def add(row: Row) -> None:
        nonlocal counts
        page = _counts(row)
        counts += page
        found.extend(_difference(each) for each in (row["differences"] or [])[: limit - len(found)])
        on_page(page)

    yield from compare_pages(add, page_size=page_size, first_id=first_id, last_id=last_id)
    return counts, tuple(found)


def compare_users(user_ids: Iterable[UUID]) -> Plan[tuple[Counts, tuple[Difference, ...]]]:
    """Compare the two rows of each of these users, and write nothing."""
    counts, found = Counts(), list[Difference]()
    for user_id in dict.fromkeys(user_ids):
        one, differing = yield from compare(page_size=1, limit=1, first_id=user_id, last_id=user_id)
        counts += one
        found += differing
    return counts, tuple(found)


def _difference(data: Row) -> Difference:
    return Difference(UUID(data["user_id"]), data["class"], tuple(data["columns"]))


_COUNTS = tuple(Counts.__dataclass_fields__)


def _counts(row: Row) -> Counts:
    return Counts(**{name: row[name] for name in _COUNTS})


def _minus(after: Counts, before: Counts) -> Counts:
    return Counts(**{name: getattr(after, name) - getattr(before, name) for name in _COUNTS})
