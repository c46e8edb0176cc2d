"""``usersync subscriptions sync``: registers the handlers of an application."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import click

from usersync.cli.options import Call, common_options, examples
from usersync.cli.subscriptions.view import TABLE
from usersync.cli.text import bold, faint, good, plain, typed, warning, wrap

if TYPE_CHECKING:
    from collections.abc import Iterator

    from usersync.cli.output import View
    from usersync.events.models import SyncedSubscriptions


@dataclass(frozen=True)
class SyncedView:
    """The subscriptions that were created and changed."""

    result: SyncedSubscriptions
    target: str
    exit_code: int = 0

    def lines(self, width: int) -> Iterator[str]:
        result = self.result
        yield bold(self.target)
        for style, what, names in (
            (good, "created", result.created),
            (warning, "changed", result.changed),
            (faint, "unchanged", result.unchanged),
        ):
            for name in names:
                yield f"  {style(what.ljust(9))}  {plain(name)}"
        if result.others:
            yield ""
            others = ", ".join(map(plain, result.others))
            yield from wrap(
                f"Not in this module: {others}. If their code is gone, remove the subscriptions:", width
            )
            yield f"  {typed('usersync subscriptions remove NAME')}"

    def data(self) -> dict[str, Any]:
        return {"database": self.target} | asdict(self.result)


@click.command(
    epilog=examples(
        ("usersync subscriptions sync myapp.events:handlers", "in each deployment"),
    )
)
@click.argument("handlers", metavar="MODULE:NAME")
@click.option(
    "--from-beginning",
    is_flag=True,
    help="New subscriptions get all events of the feed, not only those from now on. The feed has the events "
    "since its first reader.",
)
@click.option(
    "--backfill",
    is_flag=True,
    help="For new subscriptions: first send an event user.created for each existing user.",
)
@common_options
def sync(call: Call, handlers: str, *, from_beginning: bool, backfill: bool) -> View:
    """Register the handlers of an application.

    Creates a subscription for each handler that has none, and changes those whose actions or filters are
    different now. A changed subscription keeps its position. A subscription to user.* switches on events of
    users ([audit] user_events). Other subscriptions stay. MODULE:NAME is an object of usersync.Handlers.
    """
    from usersync.cli.loading import load  # noqa: PLC0415 - only if used
    from usersync.events import subscriptions  # noqa: PLC0415 - only if used
    from usersync.events.definitions import definitions  # noqa: PLC0415 - only if used

    wanted = definitions(load(handlers))
    result = call.run(subscriptions.sync_handlers(wanted, from_beginning=from_beginning, backfill=backfill))
    if result.created or result.changed:
        call.record_act(
            "usersync.subscriptions_synced",
            begins_log=True,
            table=TABLE,
            created=[*result.created],
            changed=[*result.changed],
        )
    return SyncedView(result, call.target)
