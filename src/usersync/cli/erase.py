"""``usersync erase``: erases the personal data of a deleted user, and keeps the events."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from usersync.cli.find_user import find_user
from usersync.cli.options import Call, common_options, examples, spools_option
from usersync.cli.text import align, bad, bold, good, number, plain, warning, wrap

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path
    from uuid import UUID

    from usersync.audit.spool.erasing import SpoolErasure
    from usersync.cli.output import View
    from usersync.config.settings import Settings
    from usersync.models import Erasure

_EVERY_S = 5.0

_NOT_SEARCHED = (
    "actor_id and request_id of events: a failed sign-in may be recorded with an e-mail address",
    "other text about the person, such as a name in a note",
    "data that handlers, webhook receivers and streams already got (usersync subscriptions list)",
    "events in spools of other machines and in streams (repeat this when they are stored)",
    "exports and backups",
)


@dataclass(frozen=True)
class EraseView:
    """What was erased or would be erased, and what was not searched."""

    found: Erasure
    target: str
    settings: Settings
    unread: tuple[Path, ...] = ()
    held: tuple[Path, ...] = ()
    exit_code: int = 0

    def lines(self, width: int) -> Iterator[str]:
        found = self.found
        if found.dry_run:
            yield f"{bold(str(found.user_id))}  would be erased in {self.target}"
        elif found.anything:
            yield f"{good('Done:')} the personal data of {found.user_id} was erased."
        else:
            yield f"{bold(str(found.user_id))}  {good('nothing to erase')}"
        if found.anything or found.held:
            yield ""
            yield from align(self._rows(), indent="  ")
        yield ""
        yield "Searched:"
        yield from self._list(self._searched(), width)
        yield "Not searched:"
        yield from self._list(_NOT_SEARCHED, width)
        yield from wrap(self._stays(), width)
        for path in self.unread:
            yield from wrap(
                f"{plain(path)} is not readable, and may contain events of the user.",
                width,
                first=warning("left: "),
            )
        for path in self.held:
            yield from wrap(
                f"{plain(path)} may still contain deleted data: a process uses the file, or it is large. Run "
                "this command again; if that does not help, restart the process and run it once more.",
                width,
                first=warning("left: "),
            )

    def _rows(self) -> Iterator[tuple[str, str]]:
        found, settings = self.found, self.settings
        parts = (
            (found.row, f"row of {settings.users_table}"),
            (found.copied, "row of usersync.auth_users"),
            (found.failures, "message of a sync failure"),
            (found.events, f"events in {settings.audit_table}"),
            (found.rejects, "rejected events (usersync.audit_rejects)"),
            (found.spooled, "spooled events on this machine"),
            (found.held, "events kept unchanged under a legal hold (usersync audit hold list)"),
        )
        yield from ((number(rows).rjust(9), plain(what)) for rows, what in parts if rows)

    def _stays(self) -> str:
        return (
            "Each event keeps its action, time, ids, entity and outcome. Columns of "
            f"{self.settings.users_table} that are not mapped as personal stay as they are."
        )

    def _searched(self) -> tuple[str, ...]:
        count = self.found.addresses
        known = "no address is known" if not count else f"or contain one of {count} known addresses"
        log = f"events in {self.settings.audit_table} and " if self.found.has_log else ""
        events = f"{log}rejected events that contain the user's id"
        return (
            f"{events} ({known}; add others with --value)",
            f"the row in {self.settings.users_table}, sync failures",
            "spooled events on this machine that contain the user's id",
        )

    @staticmethod
    def _list(items: Iterable[str], width: int) -> Iterator[str]:
        for item in items:
            yield from wrap(item, width, first="  - ")

    def data(self) -> dict[str, Any]:
        return {"database": self.target, "erased": self.found, "unread": self.unread, "held": self.held}


@click.command(
    epilog=examples(
        ("usersync erase ID --dry-run", "shows how much would be erased"),
        ("usersync erase ID", "asks, then erases"),
        ("usersync erase ID --yes", "for a scheduled job"),
    )
)
@click.argument("user")
@click.option(
    "--value",
    "values",
    multiple=True,
    metavar="ADDRESS",
    help="Also erase this e-mail address or phone number wherever it occurs. Repeatable.",
)
@click.option("--dry-run", is_flag=True, help="Show how much would be erased, and erase nothing.")
@click.option("--yes", is_flag=True, help="Do not ask. Required without a terminal.")
@spools_option
@common_options
def erase(
    call: Call, user: str, *, values: tuple[str, ...], directory: Path | None, dry_run: bool, yes: bool
) -> View:
    """Erase the personal data of a deleted user. The events stay.

    Erases it from the users table, sync failures, the audit log, rejected events and spooled events on this
    machine. Never writes the auth server's table: delete the user there first. Reads the whole audit log in
    short transactions. Can be run again after an interruption.
    """
    from usersync.audit import erasure, reading  # noqa: PLC0415 - only if used

    settings = call.run(reading.installed_settings())
    user_id = find_user(call, user)
    call.run(erasure.check_deleted(settings, user_id))
    if dry_run or not yes:
        if not dry_run:
            call.require_consent(yes=yes)
        view = _erase(call, settings, user_id, directory, values, dry_run=True)
        if dry_run:
            return view
        call.output.say(*view.lines(call.output.width), "")
        call.ask(f"Erase it {bad('permanently')}?")
    return _erase(call, settings, user_id, directory, values, dry_run=False)


def _erase(
    call: Call,
    settings: Settings,
    user_id: UUID,
    directory: Path | None,
    values: tuple[str, ...],
    *,
    dry_run: bool,
) -> EraseView:
    from usersync.audit import erasure  # noqa: PLC0415 - only if used

    # Spools first: an event that is delivered meanwhile is then in the log before the log is read.
    spools = _erase_in_spools(settings, user_id, directory, dry_run=dry_run)
    operation = erasure.erase(
        user_id,
        dry_run=dry_run,
        values=values,
        spooled=spools.events,
        by=call.by,
        on_progress=_progress(call),
    )
    return EraseView(call.run(operation), call.target, settings, spools.unread, spools.held)


def _erase_in_spools(
    settings: Settings, user_id: UUID, directory: Path | None, *, dry_run: bool
) -> SpoolErasure:
    from usersync.audit.erasure import personal_keys_of  # noqa: PLC0415 - only if used
    from usersync.audit.options import default_spool_dir  # noqa: PLC0415 - only if used
    from usersync.audit.spool.erasing import erase_in_spools  # noqa: PLC0415 - only if used

    root = directory or default_spool_dir()
    return erase_in_spools(root, user_id, personal_keys_of(settings), dry_run=dry_run)


def _progress(call: Call) -> Callable[[int, int], None]:
    """Return a function that prints every few seconds how much of the log has been read."""
    last = time.monotonic()

    def on_progress(done: int, total: int) -> None:
        nonlocal last
        if time.monotonic() - last >= _EVERY_S:
            last = time.monotonic()
            call.output.tell(f"{done / max(total, 1):.0%} of the audit log read")

    return on_progress
