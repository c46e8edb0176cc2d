"""``usersync failures``: lists the failures table, and explains each row."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

from usersync.cli.options import Call, data_api_options, examples
from usersync.cli.text import ago, bad, bold, count, faint, good, plain, typed, warning, wrap
from usersync.core.pausing import NOTED
from usersync.core.sqlstates import state_name

if TYPE_CHECKING:
    from collections.abc import Iterator
    from uuid import UUID

    from usersync.cli.output import View
    from usersync.models import Failure

_MOST = 1_000_000


@dataclass(frozen=True)
class FailuresView:
    """Each sync failure in two or three lines, and what to do."""

    failures: tuple[Failure, ...]
    target: str
    more: bool = False

    @property
    def exit_code(self) -> int:
        return 1 if self.failures else 0

    def lines(self, width: int) -> Iterator[str]:
        if not self.failures:
            yield f"{bold(self.target)}  {good('the failures table is empty')}"
            return
        more = ", and more" if self.more else ""
        yield f"{bold(self.target)}  {bad(count(len(self.failures), 'user'))} not synced{more}"
        for failure in self.failures:
            yield ""
            yield from failure_lines(failure, width)
        yield ""
        yield from self._advice(width)

    def _advice(self, width: int) -> Iterator[str]:
        if self.more:
            yield from wrap(f"These are the oldest {len(self.failures)}. --limit shows more.", width)
        if any(each.sqlstate == NOTED for each in self.failures):
            yield f"To end the pause and sync:  {typed('usersync resume')}"
            return
        yield from wrap("Fix the causes, then retry all of them:", width)
        yield f"  {typed('usersync retry')}"

    def data(self) -> dict[str, Any]:
        return {
            "database": self.target,
            "failures": [_data(failure) for failure in self.failures],
            "more": self.more,
        }


def failure_lines(failure: Failure, width: int, *, times: bool = True) -> Iterator[str]:
    """A sync failure for people: user, outcome and SQLSTATE; the message; column, attempts and times.

    The attempts and times of a trial, which has been rolled back, mean nothing: ``times`` leaves them out.
    """
    style = bad if failure.outcome == "failed" else warning
    what = failure.outcome if failure.kind == "row" else f"{failure.kind} failed"
    yield f"{failure.user_id}  {style(f'{what:8}')}  {_state(failure)}"
    yield from wrap(plain(failure.message), width, first="  ")
    first_failed = ago(datetime.now(UTC) - failure.first_failed_at)
    facts = [
        f"column {plain(failure.column)}" if failure.column else "",
        f"constraint {plain(failure.constraint)}" if failure.constraint else "",
        f"raised in {plain(failure.raised_in)}" if failure.raised_in else "",
        *(
            (
                count(failure.attempts, "attempt"),
                f"first failed {first_failed}",
                f"next attempt of usersync sync {_next_try(failure)}" if failure.next_try_at else "",
            )
            if times
            else ()
        ),
    ]
    if any(facts):
        for line in wrap(" · ".join(filter(None, facts)), width, first="  "):
            yield faint(line)


def _next_try(failure: Failure) -> str:
    return f"{failure.next_try_at:%Y-%m-%d %H:%M %Z}"


def _state(failure: Failure) -> str:
    return f"{plain(failure.sqlstate)} {state_name(failure.sqlstate)}".rstrip()


def _data(failure: Failure) -> dict[str, Any]:
    return asdict(failure) | {"sqlstate_name": state_name(failure.sqlstate) or None}


@click.command(
    epilog=examples(
        ("usersync failures", "each user, the reason, the time"),
        ("usersync failures --user ID", "one user"),
        ("usersync failures --json", "for programs"),
    )
)
@click.option("--user", "user_id", type=click.UUID, metavar="ID", help="Only this user.")
@click.option(
    "--limit",
    type=click.IntRange(1, _MOST),
    default=100,
    show_default=True,
    metavar="N",
    help="Maximum number of failures to show, the oldest first.",
)
@data_api_options
def failures(call: Call, user_id: UUID | None, limit: int) -> View:
    """List sync failures: the user, the SQLSTATE, the reason.

    'failed': the user has no row. 'degraded': the row has fewer columns filled than the mapping asks for.
    'removal failed': the row of a deleted user could not be removed or anonymized. Exit code 1 if the
    failures table is not empty.
    """
    from usersync.core import users  # noqa: PLC0415 - only if used

    found = call.run(users.failures(limit=limit + 1, user_id=user_id))
    return FailuresView(tuple(found[:limit]), call.target, more=len(found) > limit)
