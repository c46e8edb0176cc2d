"""``usersync status``: counts the users of both tables and the differences, once or repeatedly."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from usersync.cli.options import Call, Number, data_api_options, examples
from usersync.cli.output import describe_error, error_lines
from usersync.cli.text import (
    ago,
    align,
    bad,
    bold,
    count,
    duration,
    faint,
    good,
    number,
    typed,
    warning,
    wrap,
)
from usersync.core.users import only_failures_remain
from usersync.errors import ConnectionFailedError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from usersync.cli.output import View
    from usersync.client import UserSync
    from usersync.models import SyncStatus

_SHORTEST, _LONGEST, _USUAL = 0.1, 86_400, 2


@dataclass(frozen=True)
class StatusView:
    """The numbers of both tables, and what to do about the differences."""

    status: SyncStatus
    target: str

    @property
    def exit_code(self) -> int:
        well = self.status.in_step and self.status.read_only is None and self.status.paused is None
        return 0 if well else 1

    def lines(self, width: int) -> Iterator[str]:
        verdict = good("in sync") if self.status.in_step else bad("out of sync")
        yield f"{bold(self.target)}  {verdict}"
        if self.status.read_only:
            yield from wrap(_READ_ONLY[self.status.read_only], width, first=bad("  read-only: "))
        if self.status.paused:
            text = f"{self.status.paused}. The triggers sync no user until: usersync resume"
            yield from wrap(text, width, first=bad("  paused: "))
        yield ""
        yield from align(self._rows(), indent="  ")
        yield from wrap(self._last_run(), width, first="  last sync    ")
        yield from self._advice()

    def _rows(self) -> Iterator[tuple[str, str, str]]:
        status = self.status
        yield _row("auth server", status.auth_users, "users who can sign in")
        yield _row("users table", status.users, "rows, including those of deleted users")
        yield _row("missing", status.missing, self._lag(), bad)
        yield _row("stale", status.stale, "a mapped value differs", warning)
        yield _row("orphaned", status.orphaned, "the row's auth user no longer exists", warning)
        yield _row("deleted upstream", status.deleted_upstream, "the user is soft-deleted", warning)
        if status.skipped:
            yield _row("skipped", status.skipped, "the settings want no row")
        yield _row("degraded", status.degraded, "the row has fewer columns than mapped", warning)
        yield _row("failed", status.failed, "the row could not be created", bad)
        if status.removal_failed:
            yield _row(
                "removal failed", status.removal_failed, "a deleted user's row could not be removed", bad
            )
        if status.event_failed:
            yield _row("event failed", status.event_failed, "events are not in the audit log yet", bad)

    def _lag(self) -> str:
        lag = self.status.lag
        return f"no row, the oldest for {duration(lag)}" if lag else "no row"

    def _last_run(self) -> str:
        run = self.status.last_run
        if run is None:
            return "none yet"
        when = ago(self.status.observed_at - run.updated_at)
        state = "finished" if run.finished else "unfinished,"
        return f"{state} {when}, {count(run.examined, 'user')} examined"

    def _advice(self) -> Iterator[str]:
        status = self.status
        if status.paused:
            yield ""
            yield from align([("To end the pause and sync:", typed("usersync resume"))])
            return
        unfinished = status.last_run is not None and not status.last_run.finished
        steps = []
        if unfinished:
            steps.append(("Finish the last run:", typed("usersync sync --resume")))
        elif (status.missing or status.stale) and not only_failures_remain(status):
            steps.append(("Write missing and stale rows:", typed("usersync sync")))
        if status.orphaned:
            steps.append(("Remove orphaned rows:", typed("usersync sync --remove-orphans")))
        if status.deleted_upstream:
            steps.append(("Apply soft deletions:", typed("usersync sync --apply-deletions")))
        if status.failures:
            steps.append(("See the reasons:", typed("usersync failures")))
            steps.append(("Once fixed:", typed("usersync retry")))
        if steps:
            yield ""
            yield from align(steps)

    def data(self) -> dict[str, Any]:
        status = self.status
        names = (
            *("auth_users", "users", "missing", "stale", "orphaned", "deleted_upstream", "skipped"),
            *("degraded", "failed", "removal_failed", "event_failed"),
        )
        return {
            "database": self.target,
            "in_step": status.in_step,
            "read_only": status.read_only,
            "paused": status.paused,
            **{name: getattr(status, name) for name in names},
            "oldest_missing_at": status.oldest_missing_at,
            "oldest_failure_at": status.oldest_failure_at,
            "lag_seconds": status.lag,
            "by_sqlstate": status.by_sqlstate,
            "last_run": status.last_run,
            "observed_at": status.observed_at,
        }


_READ_ONLY = {
    "standby": "this server is a standby. It accepts no writes; connect to the primary.",
    "setting": "the database accepts no writes, so users and events are not stored. On Supabase the disk may "
    "be full; usersync doctor --only D036 shows the cause.",
}


def _row(name: str, value: int, meaning: str, style: Any = None) -> tuple[str, str, str]:
    shown = number(value).rjust(11)
    return (name, style(shown) if style and value else shown, faint(meaning))


@dataclass(frozen=True)
class _LostView:
    """The output of --watch while the database is unavailable."""

    error: ConnectionFailedError
    target: str
    exit_code: int = ConnectionFailedError.exit_code

    def lines(self, width: int) -> Iterator[str]:
        yield f"{bold(self.target)}  {bad('no connection')}"
        yield ""
        yield from error_lines(self.error, width)

    def data(self) -> dict[str, Any]:
        return {"error": describe_error(self.error)}


@click.command(
    epilog=examples(
        ("usersync status", "once; exit code 1 if anything differs"),
        ("usersync status --watch", "every two seconds, until Ctrl-C"),
        ("usersync status --json", "for monitoring"),
    )
)
@click.option(
    "--watch",
    type=Number(_SHORTEST, _LONGEST),
    is_flag=False,
    flag_value=_USUAL,
    metavar="[SECONDS]",
    help=f"Repeat at this interval ({_USUAL} s), until Ctrl-C. With --json, print one document a line.",
)
@data_api_options
def status(call: Call, watch: float | None) -> View | None:
    """Count the users of both tables, and the differences.

    Reads both tables once, page by page, and writes nothing. Exit code 1 if they are out of sync.
    """
    from usersync.client import UserSync  # noqa: PLC0415 - a driver, which --help does not need

    with UserSync(call.source) as client:
        call.warn_of_other_settings()
        first = StatusView(client.status(), call.target)
        if watch is None:
            return first
        _watch(call, client, first, watch)
    return None


def _watch(call: Call, client: UserSync, first: StatusView, seconds: float) -> None:
    view: View = first
    try:
        with call.output.screen() as draw:
            while True:
                draw(view)
                time.sleep(seconds)
                view = _read(client, call.target)
    except KeyboardInterrupt:
        # Ctrl-C is the normal way to end.
        click.get_current_context().exit(view.exit_code)


def _read(client: UserSync, target: str) -> View:
    try:
        return StatusView(client.status(), target)
    except ConnectionFailedError as error:
        client.close()
        return _LostView(error, target)
