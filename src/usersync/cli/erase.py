"""``usersync erase``: what is personal of a deleted user goes, what they did stays."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from usersync.cli.naming import named_user
from usersync.cli.options import Call, common_options, examples, spools_option
from usersync.cli.text import align, bad, bold, good, number, plain, warning, wrap
from usersync.errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path
    from uuid import UUID

    from usersync.audit.erasing import SpoolErasure
    from usersync.cli.output import View
    from usersync.models import Erasure
    from usersync.settings import Settings

_EVERY_S = 5.0


@dataclass(frozen=True)
class EraseView:
    """What was erased, or would be, and what is out of reach."""

    found: Erasure
    target: str
    settings: Settings
    unread: tuple[Path, ...] = ()
    exit_code: int = 0

    def lines(self, width: int) -> Iterator[str]:
        found = self.found
        if found.dry_run:
            yield f"{bold(str(found.user_id))}  what would be erased in {self.target}"
        elif found.anything:
            yield f"{good('Done:')} what was personal of {found.user_id} is erased."
        else:
            yield f"{bold(str(found.user_id))}  {good('nothing is left to erase')}"
        if found.anything:
            yield ""
            yield from align(self._rows(), indent="  ")
        yield ""
        yield from wrap(self._stays(), width)
        for path in self.unread:
            yield from wrap(
                f"{plain(path)} cannot be read, and may hold events of the user.",
                width,
                first=warning("left: "),
            )

    def _rows(self) -> Iterator[tuple[str, str]]:
        found, settings = self.found, self.settings
        parts = (
            (found.row, f"row of {settings.users_table}"),
            (found.copied, "row of usersync.auth_users"),
            (found.failures, "message in the ledger"),
            (found.events, f"of the events in {settings.audit_table}"),
            (found.rejects, "of the events put aside (usersync.audit_rejects)"),
            (found.spooled, "of the events that wait on this machine"),
        )
        yield from ((number(rows).rjust(9), plain(what)) for rows, what in parts if rows)

    def _stays(self) -> str:
        said = (
            "Each event stays: what was done, when, by which id, to what, with which outcome. Columns of "
            f"{self.settings.users_table} that are not mapped as personal stay as they are"
        )
        return f"{said}. Events that wait on other machines come later: erase again once they have."

    def data(self) -> dict[str, Any]:
        return {"database": self.target, "erased": self.found, "unread": self.unread}


@click.command(
    epilog=examples(
        ("usersync erase ID --dry-run", "how much there is to erase"),
        ("usersync erase ID", "asks, then erases it"),
        ("usersync erase ID --yes", "in a regular job"),
    )
)
@click.argument("user")
@click.option("--dry-run", is_flag=True, help="Show how much would be erased, and erase nothing.")
@click.option("--yes", is_flag=True, help="Do not ask. Needed where there is no terminal.")
@spools_option
@common_options
def erase(call: Call, user: str, directory: Path | None, dry_run: bool, yes: bool) -> View:
    """Erase what is personal of a user who was deleted; what they did stays.

    From the users table, the ledger, the audit log and the events that wait on this machine. The auth
    server's own table is never written: delete the user there first. Reads the whole audit log, in short
    transactions; stopped, it can be run again.
    """
    from usersync.plans import audit, erasure  # noqa: PLC0415 - only when it is wanted

    settings = call.run(audit.installed_settings())
    user_id = named_user(call, user)
    call.run(erasure.check_gone(settings, user_id))
    if dry_run or not yes:
        if not dry_run:
            call.require_consent(yes=yes)
        view = _erase(call, settings, user_id, directory, dry_run=True)
        if dry_run:
            return view
        call.output.say(*view.lines(call.output.width), "")
        call.ask(f"Erase it {bad('for good')}?")
    return _erase(call, settings, user_id, directory, dry_run=False)


def _erase(
    call: Call, settings: Settings, user_id: UUID, directory: Path | None, *, dry_run: bool
) -> EraseView:
    from usersync.plans import erasure  # noqa: PLC0415 - only when it is wanted

    # These first: what is delivered meanwhile is in the log by the time that is read.
    spools = _erase_in_spools(settings, user_id, directory, dry_run=dry_run)
    plan = erasure.erase(user_id, dry_run=dry_run, spooled=spools.events, on_progress=_told(call))
    return EraseView(call.run(plan), call.target, settings, spools.unread)


def _erase_in_spools(
    settings: Settings, user_id: UUID, directory: Path | None, *, dry_run: bool
) -> SpoolErasure:
    from usersync.audit.erasing import erase_in_spools  # noqa: PLC0415 - likewise
    from usersync.audit.options import default_spool_dir  # noqa: PLC0415 - likewise
    from usersync.plans.erasure import words_for  # noqa: PLC0415 - likewise

    root = directory or default_spool_dir()
    try:
        return erase_in_spools(root, user_id, words_for(settings), dry_run=dry_run)
    except OSError as error:
        raise SettingsError(
            f"cannot read {root}: {error.strerror}", hint="Spools are private to the account that records."
        ) from error


def _told(call: Call) -> Callable[[int, int], None]:
    """Says every few seconds how much of the log has been read."""
    last = time.monotonic()

    def on_progress(done: int, total: int) -> None:
        nonlocal last
        if time.monotonic() - last >= _EVERY_S:
            last = time.monotonic()
            call.output.tell(f"{done / max(total, 1):.0%} of the audit log read")

    return on_progress
