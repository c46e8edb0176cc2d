"""``usersync apply``: change the schema, then bring in the users that exist already."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from usersync.cli.options import Call, common_options, examples
from usersync.cli.plan import adopt_option, look
from usersync.cli.plan_view import change_data
from usersync.cli.sync import reconcile
from usersync.cli.text import count, good, typed
from usersync.plans import schema

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from usersync.cli.output import View
    from usersync.cli.plan_view import PlanView
    from usersync.cli.sync_view import SyncView
    from usersync.models import Change


@dataclass(frozen=True)
class ApplyView:
    """What was changed, and what became of the users that existed already."""

    planned: PlanView
    changes: tuple[Change, ...]
    sync: SyncView | None
    #: Whether the users are read from a copy of the auth server's table.
    copies_source: bool = False

    @property
    def exit_code(self) -> int:
        return self.sync.exit_code if self.sync else 0

    def lines(self, width: int) -> Iterator[str]:
        if self.sync:
            yield from self.sync.lines(width)
            yield ""
        yield f"Next:  {typed(self._next())}"

    def _next(self) -> str:
        if self.copies_source:
            # The copy is empty, or as old as the last reading: a sync from it alone brings nobody.
            return "usersync sync --from-api"
        return "usersync doctor" if self.sync else "usersync sync"

    def data(self) -> dict[str, Any]:
        return self.planned.data() | {
            "state": "applied" if self.changes else "up to date",
            "changes": [change_data(change) for change in self.changes],
            "sync": self.sync.data() if self.sync else None,
        }


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
@adopt_option
@common_options
def apply(call: Call, yes: bool, no_sync: bool, adopt: bool) -> View:
    """Install or upgrade, then sync the users that exist already.

    Shows what will change and asks. Everything is safe on a live system, and can be repeated: what is as it
    should be stays. The users are synced page by page, in transactions of their own.
    """
    call.require_consent(yes=yes)
    planned = call.run(look(call, adopt=adopt))
    if planned.plan.errors:
        return planned
    call.output.say(*planned.lines(call.output.width))
    if planned.plan.changes and not yes:
        call.ask(f"Make {count(len(planned.plan.changes), 'change')} in {call.target}?")
    changes = call.run(schema.apply(call.settings, adopt=adopt)).changes
    if changes:
        call.output.say(done_line(changes), "")
    synced = None if no_sync else reconcile(call)
    return ApplyView(planned, changes, synced, call.settings.copies_source)


def done_line(changes: Sequence[Change]) -> str:
    """What was made, in a line."""
    kinds = Counter(change.subject.split(" ")[0] for change in changes)
    other = len(changes) - kinds["function"] - kinds["trigger"]
    parts = ((kinds["function"], "function"), (kinds["trigger"], "trigger"), (other, "other change"))
    return f"{good('Done:')} {', '.join(count(number, word) for number, word in parts if number)}."
