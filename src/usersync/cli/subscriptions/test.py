"""``usersync subscriptions test``: sends a test event to a webhook or a stream."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from usersync.cli.options import Call, common_options, examples
from usersync.cli.text import bad, bold, good, plain

if TYPE_CHECKING:
    from collections.abc import Iterator

    from usersync.cli.output import View


@dataclass(frozen=True)
class TestView:
    """The answer of the receiver or of the stream."""

    name: str
    url: str
    error: str | None
    accepted: str

    @property
    def exit_code(self) -> int:
        return 1 if self.error else 0

    def lines(self, width: int) -> Iterator[str]:  # noqa: ARG002 - an error is never shortened
        found = bad(f"failed: {plain(self.error)}") if self.error else good(self.accepted)
        yield f"{bold(plain(self.name))}  {plain(self.url)}  {found}"

    def data(self) -> dict[str, Any]:
        return {"subscription": self.name, "url": self.url, "error": self.error}


@click.command(epilog=examples(("usersync subscriptions test crm", "exit code 1: failed")))
@click.argument("name", metavar="NAME")
@common_options
def test(call: Call, name: str) -> View:
    """Send a test event to a webhook or a stream.

    The event has the action usersync.test, and is not in the audit log. It is sent at once and from this
    machine, even if the subscription is paused.
    """
    from usersync.events.subscriptions import STREAM, stored  # noqa: PLC0415 - only if used

    found = call.run(stored(name))
    if found.kind == STREAM:
        from usersync.events.streams import subscription as streams  # noqa: PLC0415 - needs an extra

        error = streams.send_sample(found).error
        return TestView(name, found.config["url"], error, "the stream stored the test event")
    from usersync.events.webhooks import subscription as webhooks  # noqa: PLC0415 - needs an extra

    error = webhooks.send_sample(found).error
    return TestView(
        name, webhooks.Webhook.of(found).endpoint.url, error, "the receiver accepted the test event"
    )
