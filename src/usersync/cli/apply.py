"""``usersync apply``: runs the trial, changes the schema, then syncs the existing users."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import click

from usersync.cli.options import Call, examples, schema_options
from usersync.cli.plan import adopt_option, compare
from usersync.cli.plan_view import change_data, done_lines
from usersync.cli.sync import reconcile
from usersync.cli.text import bad, count, typed, wrap
from usersync.cli.trial_view import difference_lines, not_undone_lines, today_lines, trial_data
from usersync.manage.installing import Installer, can_affect_flows
from usersync.schema.findings import PAUSED
from usersync.schema.gates import is_gate

if TYPE_CHECKING:
    from collections.abc import Iterator

    from usersync.cli.output import View
    from usersync.cli.plan_view import PlanView
    from usersync.cli.sync_view import SyncView
    from usersync.models import Change
    from usersync.schema.trial.observation import Trial
    from usersync.schema.trial.rehearsal import Rehearsal


@dataclass(frozen=True)
class ApplyView:
    """The changes that were made, and the result of the first sync."""

    planned: PlanView
    changes: tuple[Change, ...]
    sync: SyncView | None
    #: Whether the users are read from a copy of the auth server's table.
    copies_source: bool = False
    trial: Rehearsal | None = None
    #: Whether usersync is paused, so that no user was synced.
    paused: bool = False

    @property
    def exit_code(self) -> int:
        return self.sync.exit_code if self.sync else 0

    def lines(self, width: int) -> Iterator[str]:
        if self.sync:
            yield from self.sync.lines(width)
            yield ""
            if self.exit_code:
                yield from wrap(self._exit_code_reason(self.sync), width)
        yield f"Next:  {typed(self._next())}"

    def _exit_code_reason(self, sync: SyncView) -> str:
        state = "Installed" if self.changes else "Up to date"
        users = count(sync.result.errors, "user")
        return f"{state}. Exit code 1: {users} could not be synced, see: usersync failures"

    def _next(self) -> str:
        if self.paused:
            return "usersync resume"
        if self.copies_source:
            # The copy is empty or outdated until it is updated from the admin API.
            return "usersync sync --from-api"
        return "usersync doctor" if self.sync else "usersync sync"

    def data(self) -> dict[str, Any]:
        return self.planned.data() | {
            "state": "applied" if self.changes else "up to date",
            "changes": [change_data(change) for change in self.changes],
            "sync": self.sync.data() if self.sync else None,
            "trial": trial_data(self.trial) if self.trial else None,
        }


@dataclass(frozen=True)
class DeclinedView:
    """The differences were not accepted, so nothing was installed."""

    planned: PlanView
    trial: Rehearsal
    adopt: bool
    exit_code: int = 1

    def lines(self, width: int) -> Iterator[str]:
        yield ""
        number = count(len(self.trial.to_accept), "difference")
        yield f"{bad('Nothing was installed:')} {number} not accepted."
        # Without --adopt it would be another installation than the one that was tried.
        command = f"usersync apply{' --adopt' if self.adopt else ''} --accept-changes"
        yield from wrap(
            f"Change usersync.toml or the triggers that the differences name. To install anyway: {command}",
            width,
        )

    def data(self) -> dict[str, Any]:
        return self.planned.data() | {"state": "not accepted", "trial": trial_data(self.trial)}


@dataclass(frozen=True)
class GatedView:
    """A rule that refuses sign-ups today would stop refusing them, and the user has not accepted that."""

    planned: PlanView
    exit_code: int = 1

    def lines(self, width: int) -> Iterator[str]:
        number = count(sum(map(is_gate, self.planned.plan.findings)), "decision")
        yield ""
        yield f"{bad('Nothing was installed:')} {number} required, which --yes does not make."
        yield from wrap(
            "To accept the users whom the trigger refuses today: usersync apply --adopt --accept-changes. "
            "To keep refusing them: usersync apply, without --adopt.",
            width,
        )

    def data(self) -> dict[str, Any]:
        return self.planned.data() | {"state": "not decided"}


@click.command(
    epilog=examples(
        ("usersync apply", "asks before it changes anything"),
        ("usersync apply --yes", "for CI: does not ask"),
        ("usersync apply --no-sync", "without a sync of the existing users"),
        ("usersync apply --adopt", "replaces a hand-written handle_new_user trigger"),
    )
)
@click.option("--yes", is_flag=True, help="Do not ask. Required without a terminal.")
@click.option(
    "--no-sync", is_flag=True, help="Do not sync the existing users. 'usersync sync' does it later."
)
@click.option(
    "--accept-changes",
    is_flag=True,
    help="Install even if the trial found differences from today.",
)
@click.option(
    "--call-out",
    is_flag=True,
    help="Try all flows, even if a trigger calls another server or advances a sequence whose numbers are "
    "data. Neither is rolled back.",
)
@click.option(
    "--no-trial", is_flag=True, help="Skip the trial of the auth server's flows. For test databases."
)
@adopt_option
@schema_options
def apply(
    call: Call, *, yes: bool, no_sync: bool, adopt: bool, accept_changes: bool, call_out: bool, no_trial: bool
) -> View:
    """Install or upgrade, then sync the existing users.

    First runs the trial: tries the auth server's flows (sign-ups, changes, deletions), each in a transaction
    that is rolled back. Shows the pending changes and asks. Then tries the flows again with usersync's
    triggers. If they behave differently, shows the differences and asks again; with --yes, installs nothing
    and ends with exit code 1, unless --accept-changes is given. Safe on a live system, and can be run again.
    Syncs the users page by page, each page in its own transaction.
    """
    call.require_consent(yes=yes)
    return install(
        call,
        yes=yes,
        no_sync=no_sync,
        adopt=adopt,
        accept_changes=accept_changes,
        call_out=call_out,
        no_trial=no_trial,
    )


def install(
    call: Call,
    *,
    yes: bool,
    no_sync: bool = False,
    adopt: bool = False,
    accept_changes: bool = False,
    call_out: bool = False,
    no_trial: bool = False,
) -> View:
    """Run the installation. Returns an ``ApplyView`` if usersync was installed."""
    planned = call.run(compare(call, adopt=adopt))
    if planned.plan.errors:
        return planned
    if yes and not accept_changes and any(map(is_gate, planned.plan.findings)):
        call.output.say(*planned.lines(call.output.width))
        return GatedView(planned)
    tries = can_affect_flows(call.settings, planned.plan.changes) and not no_trial
    with call.connection() if tries else nullcontext() as connection:
        output = call.output
        installer = Installer(
            call.dsn,
            call.settings,
            connection,
            adopt=adopt,
            call_out=call_out,
            tell=output.tell,
        )

        def try_all(today: Trial) -> bool:
            output.say(*not_undone_lines(today, output.width))
            return output.confirm("Try these flows anyway?")

        def accepts(rehearsal: Rehearsal) -> bool:
            output.say(*difference_lines(rehearsal, output.width), "")
            if accept_changes or not rehearsal.to_accept:
                return True
            return not yes and output.confirm("Install anyway?")

        today = installer.run_trial() if yes else installer.run_trial(try_all)
        output.say(*today_lines(today, output.width) if today is not None else ())
        output.say(*planned.lines(output.width))
        if planned.plan.changes and not yes:
            call.ask(f"Make {count(len(planned.plan.changes), 'change')} in {call.target}?")
        if not installer.install(accepts):
            installer.undo()
            return DeclinedView(planned, cast("Rehearsal", installer.rehearsed), adopt)
    if installer.changes:
        output.say(*done_lines(installer.changes, output.width), "")
    paused = any(each.subject == PAUSED for each in planned.plan.findings)
    synced = None if no_sync or paused else reconcile(call, retry_failures=True)
    return ApplyView(
        planned, installer.changes, synced, call.settings.copies_source, installer.rehearsed, paused
    )
