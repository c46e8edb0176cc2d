"""``usersync apply``: try it, change the schema, then bring in the users that exist already."""

from __future__ import annotations

from collections import Counter
from contextlib import nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from usersync.cli.options import Call, common_options, examples
from usersync.cli.plan import adopt_option, look
from usersync.cli.plan_view import change_data
from usersync.cli.sync import reconcile
from usersync.cli.text import bad, count, good, typed, wrap
from usersync.cli.trial_view import difference_lines, lasting_lines, today_lines, trial_data
from usersync.schema import installation, uninstall
from usersync.schema.gates import is_gate
from usersync.schema.inspection import PAUSED

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import psycopg

    from usersync.cli.output import View
    from usersync.cli.plan_view import PlanView
    from usersync.cli.sync_view import SyncView
    from usersync.models import Change
    from usersync.schema.trial.observation import Trial
    from usersync.schema.trial.rehearsal import Rehearsal


@dataclass(frozen=True)
class ApplyView:
    """What was changed, and what became of the users that existed already."""

    planned: PlanView
    changes: tuple[Change, ...]
    sync: SyncView | None
    #: Whether the users are read from a copy of the auth server's table.
    copies_source: bool = False
    trial: Rehearsal | None = None
    #: Whether usersync is paused, so that nobody was synced.
    paused: bool = False

    @property
    def exit_code(self) -> int:
        return self.sync.exit_code if self.sync else 0

    def lines(self, width: int) -> Iterator[str]:
        if self.sync:
            yield from self.sync.lines(width)
            yield ""
            if self.exit_code:
                yield from wrap(self._why_not_zero(self.sync), width)
        yield f"Next:  {typed(self._next())}"

    def _why_not_zero(self, sync: SyncView) -> str:
        state = "Installed" if self.changes else "Up to date"
        users = count(sync.result.errors, "user")
        return f"{state}. Exit code 1: {users} could not be synced, see: usersync failures"

    def _next(self) -> str:
        if self.paused:
            return "usersync resume"
        if self.copies_source:
            # The copy is empty, or as old as the last reading: a sync from it alone brings nobody.
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
    """Differences that nobody agreed to: nothing was installed."""

    planned: PlanView
    trial: Rehearsal
    exit_code: int = 1

    def lines(self, width: int) -> Iterator[str]:
        yield ""
        number = count(len(self.trial.to_accept), "difference")
        yield f"{bad('Nothing was installed:')} {number} not accepted."
        yield from wrap(
            "Change usersync.toml or the triggers that the differences name. To install all the same: "
            "usersync apply --accept-changes",
            width,
        )

    def data(self) -> dict[str, Any]:
        return self.planned.data() | {"state": "not accepted", "trial": trial_data(self.trial)}


@dataclass(frozen=True)
class GatedView:
    """What refuses a sign-up today would not any more, and nobody has decided that."""

    planned: PlanView
    exit_code: int = 1

    def lines(self, width: int) -> Iterator[str]:
        number = count(sum(map(is_gate, self.planned.plan.findings)), "decision")
        yield ""
        yield f"{bad('Nothing was installed:')} {number} to be made, because --yes decides nothing."
        yield from wrap(
            "To let in whom the trigger refuses today: usersync apply --adopt --accept-changes. "
            "To go on refusing them: usersync apply, without --adopt.",
            width,
        )

    def data(self) -> dict[str, Any]:
        return self.planned.data() | {"state": "not decided"}


@click.command(
    epilog=examples(
        ("usersync apply", "asks before it changes anything"),
        ("usersync apply --yes", "in CI, where there is nobody to ask"),
        ("usersync apply --no-sync", "leaves the users that exist already for later"),
        ("usersync apply --adopt", "replaces a handle_new_user recipe"),
    )
)
@click.option("--yes", is_flag=True, help="Do not ask. Needed where there is no terminal.")
@click.option("--no-sync", is_flag=True, help="Leave the users that exist already to 'usersync sync'.")
@click.option(
    "--accept-changes",
    is_flag=True,
    help="Install although the trial has shown that something will be different from today.",
)
@click.option(
    "--call-out",
    is_flag=True,
    help="Try all flows, even if a trigger calls another server or uses up numbers that are data (neither is "
    "rolled back).",
)
@click.option(
    "--no-trial", is_flag=True, help="Do not try the auth server's flows first: for databases made for tests."
)
@adopt_option
@common_options
def apply(
    call: Call, *, yes: bool, no_sync: bool, adopt: bool, accept_changes: bool, call_out: bool, no_trial: bool
) -> View:
    """Install or upgrade, then sync the users that exist already.

    Shows what will change and asks. Before, the auth server's flows (sign-ups, changes, deletions) are tried
    on the database, each in a transaction that is rolled back; then again with usersync's triggers. What is
    different is shown, and you are asked once more. With --yes nothing is installed then, exit code 1, unless
    --accept-changes. Everything is safe on a live system, and can be repeated. The users are synced page by
    page, in transactions of their own.
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
    """What the command does; an ``ApplyView`` if it was done."""
    planned = call.run(look(call, adopt=adopt))
    if planned.plan.errors:
        return planned
    if yes and not accept_changes and any(map(is_gate, planned.plan.findings)):
        call.output.say(*planned.lines(call.output.width))
        return GatedView(planned)
    tries = _concerns_flows(call, planned.plan.changes) and not no_trial
    with call.connection() if tries else nullcontext() as connection:
        attempt = Installation(call, planned, connection, adopt=adopt, call_out=call_out)
        attempt.try_today(asks=not yes)
        call.output.say(*planned.lines(call.output.width))
        if planned.plan.changes and not yes:
            call.ask(f"Make {count(len(planned.plan.changes), 'change')} in {call.target}?")
        try:
            changes = attempt.install(asks=not yes and not accept_changes, accepts=accept_changes)
        except NotAcceptedError as declined:
            attempt.take_back()
            return DeclinedView(planned, declined.trial)
    if changes:
        call.output.say(done_line(changes), "")
    paused = any(each.subject == PAUSED for each in planned.plan.findings)
    synced = None if no_sync or paused else reconcile(call, retry_failures=True)
    return ApplyView(planned, changes, synced, call.settings.copies_source, attempt.rehearsed, paused)


def _concerns_flows(call: Call, changes: tuple[Change, ...]) -> bool:
    """Whether a change could make a flow of the auth server different: the audit log alone does not."""
    others = {f"table {call.settings.audit_table}", "settings"}
    return any(change.subject not in others for change in changes)


class NotAcceptedError(Exception):
    """Something would be different, and nobody agreed to it."""

    def __init__(self, trial: Rehearsal) -> None:
        super().__init__()
        self.trial = trial


class Installation:
    """An installation that is tried before it is made for good."""

    def __init__(
        self,
        call: Call,
        planned: PlanView,
        connection: psycopg.Connection[Any] | None,
        *,
        adopt: bool,
        call_out: bool,
    ) -> None:
        self._call = call
        self._planned = planned
        self._connection = connection
        self._adopt = adopt
        self._call_out = call_out
        self._today: Trial | None = None
        self._made: list[Change] = []
        self.rehearsed: Rehearsal | None = None

    def try_today(self, *, asks: bool) -> None:
        """Try the flows as they are, and say first of all what fails already."""
        if self._connection is None:
            return
        from usersync.schema.trial.observer import observe  # noqa: PLC0415 - a driver, which --help can do without

        output = self._call.output
        output.tell(f"Trying the auth server's flows on {self._call.target}; each is rolled back.")
        self._today = observe(self._connection, self._call.settings, call_out=self._call_out)
        if asks and self._today.held_back and not self._call_out:
            output.say(*lasting_lines(self._today, output.width))
            self._call_out = output.confirm("Try these flows all the same?")
            if self._call_out:
                self._today = observe(self._connection, self._call.settings, call_out=True)
        output.say(*today_lines(self._today, output.width))

    def install(self, *, asks: bool, accepts: bool) -> tuple[Change, ...]:
        """Install; raises ``NotAcceptedError`` before any trigger is made."""

        def rehearse(changes: tuple[Change, ...]) -> None:
            done = self._rehearse(changes)
            if done is None or not done.to_accept or accepts:
                return
            if not asks or not self._call.output.confirm("Install all the same?"):
                raise NotAcceptedError(done)

        plan = installation.apply(
            self._call.settings, self._made.append, adopt=self._adopt, rehearse=rehearse
        )
        changes = self._call.run(plan).changes
        if changes:
            self._call.record_act("usersync.applied", changes=len(changes))
        return changes

    def _rehearse(self, changes: tuple[Change, ...]) -> Rehearsal | None:
        if self._today is None or self._connection is None or self._today.obstacle or not changes:
            return None
        from usersync.schema.trial.rehearsal import rehearse  # noqa: PLC0415 - likewise

        output = self._call.output
        output.tell("Trying them again with usersync's triggers; each is rolled back.")
        self.rehearsed = rehearse(
            self._connection, self._call.settings, self._today, changes, call_out=self._call_out
        )
        output.say(*difference_lines(self.rehearsed, output.width), "")
        return self.rehearsed

    def take_back(self) -> None:
        """Undo what was made before the trial: tables and functions, which nothing uses yet."""
        if not self._made:
            return
        created = {each.subject for each in self._made if each.kind == "create"}
        self._call.run(uninstall.undo(self._call.settings, created))


def done_line(changes: Sequence[Change]) -> str:
    """What was made, in a line."""
    kinds = Counter(change.subject.split(" ")[0] for change in changes)
    other = len(changes) - kinds["function"] - kinds["trigger"]
    parts = ((kinds["function"], "function"), (kinds["trigger"], "trigger"), (other, "other change"))
    return f"{good('Done:')} {', '.join(count(number, word) for number, word in parts if number)}."
