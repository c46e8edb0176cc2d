"""``usersync subscriptions resume``: continues a subscription that is paused or held."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from usersync.cli.options import Call, common_options, examples, usual_ingest
from usersync.cli.subscriptions.view import TABLE, SubscriptionsView
from usersync.cli.text import bold, good, plain, wrap
from usersync.errors import SettingsError
from usersync.transports.jetstream.address import ingest_address

if TYPE_CHECKING:
    from collections.abc import Iterator

    from usersync.cli.output import View
    from usersync.core.home import Home


@dataclass(frozen=True)
class StreamView:
    """The stream whose events the workers of this database store from now on."""

    stream: str
    url: str
    #: The database that the stream belonged to before.
    former: Home
    target: str
    exit_code: int = 0

    def lines(self, width: int) -> Iterator[str]:
        yield f"{good('Active:')} {bold(plain(self.stream))}  {plain(self.url)}"
        if not self.former.is_unknown:
            yield from wrap(f"The stream belonged to {plain(self.former.describe())}.", width)

    def data(self) -> dict[str, Any]:
        former = {"former_cluster": self.former.cluster, "former_address": self.former.address}
        return {"database": self.target, "stream": self.stream, "url": self.url} | former


@click.command(
    epilog=examples(
        ("usersync subscriptions resume crm", "the events of the pause follow"),
        ("usersync subscriptions resume crm siem", "several"),
        ("usersync subscriptions resume --ingest", "the stream of USERSYNC_INGEST"),
    )
)
@click.argument("names", metavar="[NAME]...", nargs=-1)
@click.option(
    "--ingest",
    is_flag=False,
    flag_value="",
    metavar="[URL]",
    help="Instead of a subscription: the stream whose events the workers of this database store. Default: "
    "USERSYNC_INGEST, from the environment, .env.local or .env.",
)
@common_options
def resume(call: Call, names: tuple[str, ...], ingest: str | None) -> View:
    """Continue a paused or held subscription where it stopped.

    A webhook or a stream that was created in another database is held: this database may be a copy. If this
    database replaces the other one, 'resume' confirms it. The workers then send the events that waited. A
    subscription that the worker has paused itself is continued in the same way.
    """
    if bool(names) == (ingest is not None):
        raise click.UsageError("Give the names of subscriptions, or --ingest.")
    if ingest is not None:
        return _take_stream(call, ingest)
    from usersync.events import subscriptions  # noqa: PLC0415 - only if used

    for name in names:
        call.run(subscriptions.stored(name))
    for name in names:
        if call.run(subscriptions.resume(name)):
            call.record_act("usersync.subscription_resumed", table=TABLE, subscription=name)
    found = call.run(subscriptions.subscriptions())
    return SubscriptionsView(tuple(each for each in found if each.name in names), call.target, "Active:")


def _take_stream(call: Call, given: str) -> View:
    from usersync.core import users  # noqa: PLC0415 - only if used

    url = given or usual_ingest()
    if not url:
        raise SettingsError(
            "no stream: --ingest has no URL, and USERSYNC_INGEST is not in the environment, .env.local or "
            ".env",
            hint="Give the URL: usersync subscriptions resume --ingest nats://…",
        )
    address = ingest_address(url)
    position = call.run(users.position())
    if position is None:
        raise SettingsError("the database has no installation id", hint="Run: usersync apply")
    from usersync.worker.ingest import take_stream  # noqa: PLC0415 - needs an extra

    stream, former = take_stream(address, position)
    call.record_act("usersync.stream_resumed", stream=stream, url=address.url)
    return StreamView(stream, address.url, former, call.target)
