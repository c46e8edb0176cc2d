"""Bringing both tables in line, page by page.

Each page is one statement and so a transaction of its own: it compares, writes what differs, and keeps the
place. Stopping between two pages, or in one, loses nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from uuid import UUID

from usersync.errors import RemovalCapError, SettingsError
from usersync.models import Counts, Difference
from usersync.plans.protocol import Plan, query, query_row

if TYPE_CHECKING:
    from usersync.plans.protocol import Row

PAGE_SIZE = 5_000
MAX_PAGE_SIZE = 100_000
MAX_WORKERS = 32

FIRST_ID, LAST_ID = UUID(int=0), UUID(int=2**128 - 1)


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
    compared = yield from query_row("select * from usersync.compare_at_once()")
    examined = compared["examined"] if compared["in_step"] else None
    total = (yield from check_removals(removal_cap)) if examined is None else examined
    parts = workers if examined is None else 1
    bounds = [2**128 * part // parts for part in range(parts + 1)]
    row = yield from query_row(
        "select usersync.start_run(%(first_ids)s, %(last_ids)s, %(page_size)s, %(examined)s) as run_id",
        first_ids=[UUID(int=bound) for bound in bounds[:-1]],
        last_ids=[UUID(int=bound - 1) for bound in bounds[1:]],
        page_size=page_size,
        examined=examined,
    )
    return Run(row["run_id"], tuple(range(1, parts + 1)), total, Counts(examined=examined or 0))


def check_removals(removal_cap: float | None) -> Plan[int]:
    """Raise :class:`RemovalCapError` if more rows would go than may; else return how many users there are.

    ``removal_cap`` replaces the share that was configured, and then not even the few rows are allowed that
    always are otherwise.
    """
    row = yield from query_row("select * from usersync.count_removals()")
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
    row = yield from query_row("select * from usersync.count_removals()")
    return int(max(row["users"], row["auth_users"]))


def resume_run(removal_cap: float | None = None) -> Plan[Run | None]:
    """The newest run that was not finished, or None. Checks removals as :func:`open_run` does."""
    rows = yield from query(_UNFINISHED)
    if not rows:
        return None
    total = yield from check_removals(removal_cap)
    before = sum((_counts(row) for row in rows), Counts())
    return Run(
        rows[0]["run_id"],
        tuple(row["part"] for row in rows if row["state"] != "finished"),
        total,
        before,
    )


_UNFINISHED = """
    select * from usersync.sync_runs
    where run_id = (
        select run_id from usersync.sync_runs
        where state <> 'finished' order by updated_at desc limit 1
    )
    order by part
"""


def drive_part(run_id: UUID, part: int, on_page: Callable[[Counts], None]) -> Plan[Counts]:
    """Do the pages of one part until it is finished. ``on_page`` is given what each page found."""
    seen = _counts((yield from query(_PART, run_id=run_id, part=part))[0])
    started_with = seen
    while True:
        row = yield from query_row(
            "select * from usersync.advance_run(%(run_id)s, %(part)s)", run_id=run_id, part=part
        )
        now = _counts(row)
        on_page(_minus(now, seen))
        seen = now
        if row["next_id"] is None:
            return _minus(now, started_with)


_PART = "select * from usersync.sync_runs where run_id = %(run_id)s and part = %(part)s"


def interrupt_run(run_id: UUID) -> Plan[None]:
    """Note that a run was stopped, so that it can be told from one that is under way."""
    yield from query(
        "update usersync.sync_runs set state = 'interrupted', updated_at = clock_timestamp() "
        "where run_id = %(run_id)s and state = 'running'",
        run_id=run_id,
    )


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
    next_id: UUID | None = first_id
    while next_id is not None:
        row = yield from query_row(_COMPARE, next_id=next_id, last_id=last_id, page_size=page_size)
        page = _counts(row)
        counts += page
        room = limit - len(found)
        found += [_difference(each) for each in (row["differences"] or [])[:room]]
        next_id = row["next_id"]
        on_page(page)
    return counts, tuple(found)


def compare_users(user_ids: Iterable[UUID]) -> Plan[tuple[Counts, tuple[Difference, ...]]]:
    """Compare the two rows of each of these users, and write nothing."""
    counts, found = Counts(), list[Difference]()
    for user_id in dict.fromkeys(user_ids):
        one, differing = yield from compare(page_size=1, limit=1, first_id=user_id, last_id=user_id)
        counts += one
        found += differing
    return counts, tuple(found)


_COMPARE = "select * from usersync.reconcile_page(%(next_id)s, %(last_id)s, %(page_size)s, true)"


def _difference(data: Row) -> Difference:
    return Difference(UUID(data["user_id"]), data["class"], tuple(data["columns"]))


_COUNTS = tuple(Counts.__dataclass_fields__)


def _counts(row: Row) -> Counts:
    return Counts(**{name: row[name] for name in _COUNTS})


def _minus(after: Counts, before: Counts) -> Counts:
    return Counts(**{name: getattr(after, name) - getattr(before, name) for name in _COUNTS})
