"""``usersync rollback``: removes usersync from the database."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from usersync.cli.options import Call, examples, schema_options
from usersync.cli.plan_view import PlanView, change_data, done_lines
from usersync.cli.text import plain, wrap
from usersync.manage.installing import remove
from usersync.schema import installation

if TYPE_CHECKING:
    from collections.abc import Iterator

    from usersync.cli.output import View
    from usersync.models import SchemaPlan


@dataclass(frozen=True)
class RollbackView:
    """The objects that were removed, and those that stay."""

    done: SchemaPlan
    target: str
    exit_code: int = 0

    def lines(self, width: int) -> Iterator[str]:
        dropped = [change for change in self.done.changes if change.kind == "drop"]
        yield from done_lines(dropped, width, f"usersync was removed from {self.target}: ")
        for change in self.done.changes:
            if change.kind == "keep":
                yield from wrap(f"The {plain(change.subject)} stays: {plain(change.reason)}.", width)

    def data(self) -> dict[str, Any]:
        return {
            "database": self.target,
            "state": "rolled back",
            "changes": [change_data(change) for change in self.done.changes],
        }


@click.command(
    epilog=examples(
        ("usersync rollback", "asks before it drops anything"),
        ("usersync rollback --yes", "for CI: does not ask"),
    )
)
@click.option("--yes", is_flag=True, help="Do not ask. Required without a terminal.")
@click.option(
    "--drop-users-table",
    is_flag=True,
    help="Also drop the users table and all its rows. Only if usersync created it.",
)
@click.option(
    "--drop-audit-log",
    is_flag=True,
    help="Also drop the audit log and all its events. Only if usersync created it.",
)
@schema_options
def rollback(call: Call, yes: bool, drop_users_table: bool, drop_audit_log: bool) -> View:
    """Remove usersync from the database. The users table stays.

    An audit log with events and the rejected events stay too, but the log is no longer append-only. An empty
    log is dropped. Triggers that 'usersync apply --adopt' replaced are restored. Drops the triggers
    (including the triggers of tracked tables), the functions and the schema usersync with the failures table.
    Uses the settings that usersync was last applied with.
    """
    call.require_consent(yes=yes)
    settings = call.applied_settings
    planned = call.run(
        installation.plan_rollback(settings, drop_users_table=drop_users_table, drop_audit_log=drop_audit_log)
    )
    view = PlanView(
        planned, call.target, "those that usersync was last applied with", verbose=call.output.verbose
    )
    call.output.say(*view.lines(call.output.width))
    if not yes:
        call.ask(f"Remove usersync from {call.target}?")
    done = remove(
        call.dsn, settings, planned, drop_users_table=drop_users_table, drop_audit_log=drop_audit_log
    )
    return RollbackView(done, call.target)
