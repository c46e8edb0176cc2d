"""``usersync subscriptions test``: sends a test event to a webhook."""

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
    """What the receiver answered."""

    name: str
    url: str
    error: str | None

    @property
    def exit_code(self) -> int:
        return 1 if self.error else 0

    def lines(self, width: int) -> Iterator[str]:  # noqa: ARG002 - an error is never shortened
        found = (
            bad(f"failed: {plain(self.error)}")
            if self.error
            else good("the receiver accepted the test event")
        )
        yield f"{bold(plain(self.name))}  {plain(self.url)}  {found}"

    def data(self) -> dict[str, Any]:
        return {"subscription": self.name, "url": self.url, "error": self.error}


@click.command(epilog=examples(("usersync subscriptions test crm", "exit code 1: failed")))
@click.argument("name", metavar="NAME")
@common_options
def test(call: Call, name: str) -> View:
    """Send a test event to a webhook, and show what the receiver answers.

    The event has the action usersync.test, and is not in the audit log. It is sent at once and from this
    machine, even if the subscription is paused.
    """
    from usersync.events.subscriptions import stored  # noqa: PLC0415 - only if used
    from usersync.events.webhooks.subscription import Webhook, send_sample  # noqa: PLC0415 - needs an extra

    found = call.run(stored(name))
    outcome = send_sample(found)
    return TestView(name, Webhook.of(found).endpoint.url, outcome.error)
