"""The output of ``usersync sync``: the numbers of a run, or the result for single users."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal

from usersync.cli.text import (
    align,
    bad,
    bold,
    count,
    duration,
    faint,
    good,
    number,
    plain,
    typed,
    warning,
    wrap,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from uuid import UUID

    from usersync.models import Difference, SyncResult

_SHOWN = 20


@dataclass(frozen=True)
class SyncView:
    """The numbers of a run or of a dry run, and what to do next."""

    result: SyncResult
    target: str
    #: Whether the auth server's users were read from its admin API.
    from_api: bool = False
    #: The command that continues a run which stopped at its limit.
    again: str | None = None

    @property
    def exit_code(self) -> int:
        counts = self.result.counts
        found = self.result.dry_run and (counts.differing or counts.left_alone)
        return 1 if self.result.errors or found else 0

    def lines(self, width: int) -> Iterator[str]:  # noqa: ARG002 - a table of numbers
        result, counts = self.result, self.result.counts
        took = duration(result.seconds)
        yield f"{bold(self.target)}  {count(counts.examined, 'user')} examined in {took}"
        yield from align(self._rows(), indent="  ")
        yield from self._difference_lines()
        yield from self._advice()

    def _rows(self) -> Iterator[tuple[str, str, str]]:
        counts = self.result.counts
        yield "missing", number(counts.missing).rjust(9), faint("no row")
        yield "stale", number(counts.stale).rjust(9), faint("a mapped value differed")
        yield "orphaned", number(counts.orphaned).rjust(9), faint("no auth user; the row is unchanged")
        if counts.deleted_upstream:
            shown = number(counts.deleted_upstream).rjust(9)
            yield "deleted upstream", shown, faint("soft-deleted user; the row is unchanged")
        if not self.result.dry_run:
            yield "synced", good(number(self.result.synced).rjust(9)), ""
        if counts.degraded:
            yield "degraded", warning(number(counts.degraded).rjust(9)), faint("in the failures table")
        if counts.failed:
            yield "failed", bad(number(counts.failed).rjust(9)), faint("in the failures table")

    def _difference_lines(self) -> Iterator[str]:
        shown = self.result.differences[:_SHOWN]
        if shown:
            yield ""
            yield from align(map(_difference_row, shown), indent="  ")
        counts = self.result.counts
        rest = counts.differing + counts.left_alone - len(shown) if self.result.dry_run else 0
        if rest > 0:
            yield faint(f"  and {number(rest)} more (--json lists up to 1,000)")

    def _advice(self) -> Iterator[str]:
        result, counts = self.result, self.result.counts
        steps = []
        if result.dry_run and counts.differing:
            steps.append(("Nothing was written. To write them:", typed("usersync sync")))
        if self.again:
            steps.append(("More rows may be missing:", typed(self.again)))
        if result.errors:
            steps.append(("See the reasons:", typed("usersync failures")))
            steps.append(("Once fixed:", typed("usersync retry")))
        if counts.orphaned:
            api = "--from-api --remove-orphans --max N" if self.from_api else "--remove-orphans"
            steps.append(("Remove orphaned rows:", typed(f"usersync sync {api}")))
        if counts.deleted_upstream:
            steps.append(("Apply soft deletions:", typed("usersync sync --apply-deletions")))
        if steps:
            yield ""
            yield from align(steps)

    def data(self) -> dict[str, Any]:
        result = self.result
        data = {
            "database": self.target,
            "dry_run": result.dry_run,
            **asdict(result.counts),
            "synced": result.synced,
            "errors": result.errors,
            "seconds": round(result.seconds, 3),
            "run_id": result.run_id,
        }
        return data | ({"differences": result.differences} if result.dry_run else {})


def _difference_row(difference: Difference) -> tuple[str, str, str]:
    columns = plain(", ".join(difference.columns))
    return str(difference.user_id), difference.difference.replace("_", " "), faint(columns)


UNKNOWN_HINT = "Neither table has a user with this id. Check the id and the project."

UserOutcome = Literal["in sync", "sync failure", "unknown"]


@dataclass(frozen=True)
class UsersView:
    """The result for each named user."""

    users: tuple[tuple[UUID, UserOutcome], ...]
    target: str

    @property
    def exit_code(self) -> int:
        return 0 if all(outcome == "in sync" for _, outcome in self.users) else 1

    def lines(self, width: int) -> Iterator[str]:
        yield bold(self.target)
        styles = {"in sync": good, "sync failure": bad, "unknown": warning}
        yield from align([(str(user), styles[how](how)) for user, how in self.users], indent="  ")
        if any(outcome == "sync failure" for _, outcome in self.users):
            yield ""
            yield f"See the reasons:  {typed('usersync failures')}"
        if any(outcome == "unknown" for _, outcome in self.users):
            yield ""
            yield from wrap(UNKNOWN_HINT, width)

    def data(self) -> dict[str, Any]:
        users = [{"user_id": user, "outcome": outcome} for user, outcome in self.users]
        return {"database": self.target, "users": users}
