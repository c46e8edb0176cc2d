"""``usersync retry``: retries the users of the failures table."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from usersync.cli.options import Call, data_api_options, examples
from usersync.cli.sync_view import UNKNOWN_HINT
from usersync.cli.text import bad, bold, count, good, typed, warning, wrap

if TYPE_CHECKING:
    from collections.abc import Iterator
    from uuid import UUID

    from usersync.cli.output import View
    from usersync.models import SyncResult


@dataclass(frozen=True)
class RetryView:
    """The number of retried users, and of remaining failures."""

    result: SyncResult
    target: str
    #: Whether neither table has the named user.
    unknown: bool = False

    @property
    def exit_code(self) -> int:
        return 1 if self.result.errors or self.unknown else 0

    def lines(self, width: int) -> Iterator[str]:
        counts = self.result.counts
        if self.unknown:
            yield f"{bold(self.target)}  {warning('unknown')}"
            yield from wrap(UNKNOWN_HINT, width)
            return
        if not counts.examined:
            yield f"{bold(self.target)}  {good('nothing to retry')}"
            return
        yield f"{bold(self.target)}  {count(counts.examined, 'user')} retried"
        yield f"  {good(count(self.result.synced, 'user'))} in sync now"
        if counts.degraded:
            yield f"  {warning(count(counts.degraded, 'user'))} still degraded"
        if counts.failed:
            yield f"  {bad(count(counts.failed, 'user'))} still failed"
        if self.result.errors:
            yield ""
            yield f"See the reasons:  {typed('usersync failures')}"

    def data(self) -> dict[str, Any]:
        counts = self.result.counts
        return {
            "database": self.target,
            "retried": counts.examined,
            "synced": self.result.synced,
            "degraded": counts.degraded,
            "failed": counts.failed,
            "unknown": self.unknown,
            "seconds": round(self.result.seconds, 3),
        }


@click.command(
    epilog=examples(
        ("usersync retry", "every user in the failures table"),
        ("usersync retry --user ID", "one user"),
        ("usersync retry --due", "users whose next attempt is due"),
    )
)
@click.option("--user", "user_id", type=click.UUID, metavar="ID", help="Only this user.")
@click.option(
    "--due", is_flag=True, help="Only users whose next attempt is due. For jobs that run every few minutes."
)
@data_api_options
def retry(call: Call, user_id: UUID | None, *, due: bool) -> View:
    """Retry the users of the failures table.

    A user who is synced is removed from the table. Without --due, users whose next attempt is not due are
    retried too. 'usersync sync' waits a minute after five failures, then two minutes, four, and so on up to a
    day. Exit code 1 if failures remain.
    """
    from usersync.core import users  # noqa: PLC0415 - only if used

    call.output.tell(f"Retrying on {call.target}")
    result = call.run(users.retry_on_request(user_id, due=due, by=call.by))
    unknown = user_id is not None and not result.counts.examined and not call.run(users.is_known(user_id))
    return RetryView(result, call.target, unknown)
