"""``usersync sync --remove-orphans`` and ``--apply-deletions``: lists and removes rows of deleted users."""

from __future__ import annotations

from contextlib import closing
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any
from uuid import UUID

import click

from usersync.cli.text import bad, bold, count, duration, faint, good, number, typed, wrap
from usersync.core import deleted_users, reconcile

if TYPE_CHECKING:
    from collections.abc import Iterator

    from usersync.cli.options import Call
    from usersync.cli.output import View
    from usersync.core.admin_users import CopyUpdate
    from usersync.models import LeftAlone, Removal

_SHOWN, _LISTED = 20, 1_000

_DESCRIPTIONS: dict[LeftAlone, str] = {
    "orphaned": "whose user does not exist in the auth server",
    "deleted_upstream": "whose user is soft-deleted in the auth server",
}
_EFFECTS = {
    "anonymize": "Personal columns are emptied. The id and the time of deletion stay",
    "soft": "The time of deletion is set",
    "delete": "The rows are deleted, with all rows that refer to them by ON DELETE CASCADE",
}


@dataclass(frozen=True)
class PreviewView:
    """The rows that would be removed, and the effect on them."""

    kind: LeftAlone
    policy: str
    ids: tuple[UUID, ...]
    target: str

    @property
    def exit_code(self) -> int:
        return 1 if self.ids else 0

    def lines(self, width: int) -> Iterator[str]:
        yield f"{bold(self.target)}  {count(len(self.ids), 'row')} {_DESCRIPTIONS[self.kind]}"
        if not self.ids:
            return
        yield from (f"  {each}" for each in self.ids[:_SHOWN])
        if len(self.ids) > _SHOWN:
            yield faint(f"  and {number(len(self.ids) - _SHOWN)} more (--dry-run --json lists up to 1,000)")
        yield ""
        setting = f"{deleted_users.POLICY_OF[self.kind]} = {self.policy}"
        yield from wrap(f"{setting}: {_EFFECTS[self.policy]}. This cannot be undone.", width)

    def data(self) -> dict[str, Any]:
        return {
            "database": self.target,
            "kind": self.kind,
            "policy": self.policy,
            "found": len(self.ids),
            "users": self.ids[:_LISTED],
        }


@dataclass(frozen=True)
class RemovalView:
    """The result of the removal."""

    removal: Removal
    found: PreviewView

    @property
    def exit_code(self) -> int:
        return 1 if self.removal.failed else 0

    def lines(self, width: int) -> Iterator[str]:
        removal = self.removal
        took = duration(removal.seconds)
        setting = deleted_users.POLICY_OF[removal.kind]
        yield f"{good('Done:')} {setting} was applied to {count(removal.removed, 'row')} in {took}."
        if removal.failed:
            text = f"{count(removal.failed, 'row')} could not be changed. See the reasons:"
            yield from wrap(text, width, first=bad("failed: "))
            yield f"  {typed('usersync failures')}"

    def data(self) -> dict[str, Any]:
        return self.found.data() | asdict(self.removal) | {"dry_run": False}


def remove(
    call: Call, kind: LeftAlone, *, limit: int | None, yes: bool, dry_run: bool, from_api: bool
) -> View:
    """Find the rows, show them, ask for confirmation, and apply the setting to them."""
    _check_usage(call, kind, limit=limit, yes=yes, dry_run=dry_run, from_api=from_api)
    policy = call.run(deleted_users.removal_policy(kind))
    updated = _receive(call, limit or 0) if from_api else None
    unlisted = tuple(UUID(each) for each in updated.gone) if updated else ()
    ids = (*unlisted, *_find(call, kind))
    found = PreviewView(kind, policy, ids, call.target)
    if dry_run or not ids:
        return found
    if limit is not None:
        deleted_users.check_limit(len(ids), limit, f"rows {_DESCRIPTIONS[kind]}")
    if not yes:
        call.output.say(*found.lines(call.output.width), "")
        call.ask(f"Apply {deleted_users.POLICY_OF[kind]} to {count(len(ids), 'row')} in {call.target}?")
    if updated is not None:
        _forget(call, updated)
    return RemovalView(call.run(deleted_users.remove_deleted(kind, ids, by=call.by)), found)


def _check_usage(
    call: Call, kind: LeftAlone, *, limit: int | None, yes: bool, dry_run: bool, from_api: bool
) -> None:
    option = deleted_users.OPTION_OF[kind]
    if from_api and (kind != "orphaned" or dry_run):
        raise click.UsageError("--from-api is not allowed with --apply-deletions or --dry-run")
    if from_api and limit is None:
        raise click.UsageError(f"--from-api {option} requires --max N, the maximum number of rows to remove")
    if yes and limit is None:
        raise click.UsageError(f"{option} --yes requires --max N, the maximum number of rows to change")
    if not dry_run:
        call.require_consent(yes=yes)


def _find(call: Call, kind: LeftAlone) -> tuple[UUID, ...]:
    from usersync.cli.progress import progress  # noqa: PLC0415 - only if used
    from usersync.core.progress import RunCounter  # noqa: PLC0415 - only if used

    call.output.tell(f"Comparing {call.target}")
    with progress(call.output) as on_progress:
        counter = RunCounter(on_progress)
        counter.total = call.run(reconcile.count_users())
        return call.run(deleted_users.find_deleted(kind, on_page=counter.add))


def _receive(call: Call, limit: int) -> CopyUpdate:
    from usersync.cli.from_api import update_copy_from_api  # noqa: PLC0415 - only if used

    updated = update_copy_from_api(call, ask_up_to=limit)
    deleted_users.check_limit(updated.unlisted, limit, "users of the copy who are no longer listed")
    return updated


def _forget(call: Call, updated: CopyUpdate) -> None:
    from usersync.core.admin_users import delete_gone  # noqa: PLC0415 - only if used
    from usersync.transports.psycopg import transport_for  # noqa: PLC0415 - a driver, which --help does not need

    with closing(transport_for(call.source)) as transport:
        delete_gone(transport, updated)
