"""``usersync rollback``: take everything back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from usersync.cli.options import Call, common_options, examples
from usersync.cli.plan_view import PlanView, change_data
from usersync.cli.text import good, plain, wrap
from usersync.schema import installation

if TYPE_CHECKING:
    from collections.abc import Iterator

    from usersync.cli.output import View
    from usersync.models import SchemaPlan


@dataclass(frozen=True)
class RollbackView:
    """What was taken back, and what stays."""

    done: SchemaPlan
    target: str
    exit_code: int = 0

    def lines(self, width: int) -> Iterator[str]:
        yield f"{good('Done:')} usersync is out of {self.target}."
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
        ("usersync rollback --yes", "in CI, where there is nobody to ask"),
    )
)
@click.option("--yes", is_flag=True, help="Do not ask. Needed where there is no terminal.")
@click.option(
    "--drop-users-table",
    is_flag=True,
    help="Drop the users table too, with all its rows. Only if usersync made it.",
)
@click.option(
    "--drop-audit-log",
    is_flag=True,
    help="Drop the audit log too, with all its events. Only if usersync made it.",
)
@common_options
def rollback(call: Call, yes: bool, drop_users_table: bool, drop_audit_log: bool) -> View:
    """Remove usersync from the database. The users table stays.

    The audit log and the rejected events stay too, but the log is no longer append-only. Drops the triggers,
    those of tracked tables included, the functions and the schema usersync, with the failures table. Uses the
    settings that the database was set up with.
    """
    call.require_consent(yes=yes)
    settings = call.settings_there
    planned = call.run(
        installation.plan_rollback(settings, drop_users_table=drop_users_table, drop_audit_log=drop_audit_log)
    )
    view = PlanView(planned, call.target, "as this database was set up with", verbose=call.output.verbose)
    call.output.say(*view.lines(call.output.width))
    if not yes:
        call.ask(f"Take usersync out of {call.target}?")
    # Before it, because what records it goes with it.
    if not drop_audit_log:
        call.record_act("usersync.rollback_started", changes=len(planned.changes))
    done = call.run(
        installation.rollback(settings, drop_users_table=drop_users_table, drop_audit_log=drop_audit_log)
    )
    return RollbackView(done, call.target)
