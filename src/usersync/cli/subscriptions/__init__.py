"""``usersync subscriptions``: the table of its subcommands."""

from __future__ import annotations

import click

from usersync.cli.lazy import GROUP_OPTIONS, Entry, Sections, lazy_group, show_help

_PACKAGE = "usersync.cli.subscriptions"

SECTIONS: Sections = {
    "Commands": (
        Entry("list", "List the subscriptions: lag, events in flight, parked and dead.", _PACKAGE),
        Entry("add", "Send events to a webhook, or publish them to a stream.", _PACKAGE),
        Entry("sync", "Register the handlers of an application.", _PACKAGE),
        Entry("show", "Show one subscription, its parked events and its last attempts.", _PACKAGE),
        Entry("attempts", "List attempts to handle events: time, duration, answer or error.", _PACKAGE),
        Entry("pause", "Stop handling the events of a subscription. They wait.", _PACKAGE),
        Entry("resume", "Continue a paused or held subscription where it stopped.", _PACKAGE),
        Entry("dead", "List the dead events: all their attempts failed.", _PACKAGE),
        Entry("retry", "Retry dead and waiting events now.", _PACKAGE),
        Entry("replay", "Handle past events again.", _PACKAGE),
        Entry("test", "Send a test event to a webhook or a stream.", _PACKAGE),
        Entry("set-url", "Change the URL of a webhook.", _PACKAGE),
        Entry("rotate-secret", "Give a webhook a new secret, and print it.", _PACKAGE),
        Entry("remove", "Delete a subscription with its position and its parked events.", _PACKAGE),
    )
}

_EPILOG = """\
Times are in UTC. Exit codes are those of 'usersync --help'.
'usersync subscriptions COMMAND --help' shows the options and examples."""


@click.group(cls=lazy_group(SECTIONS, _EPILOG), **GROUP_OPTIONS)
@click.pass_context
def subscriptions(ctx: click.Context) -> None:
    """Subscriptions: which events of the audit log are handled, and how far.

    'usersync worker' calls the handlers. An event that fails is parked, and retried after seconds, minutes,
    hours. After its last attempt it is dead. Later events of the same entity wait for it, other events do
    not. These commands require the role that owns usersync.
    """
    show_help(ctx)
