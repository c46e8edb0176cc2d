"""``usersync audit hold``: the table of its subcommands."""

from __future__ import annotations

import click

from usersync.cli.lazy import GROUP_OPTIONS, Entry, Sections, lazy_group, show_help

_PACKAGE = "usersync.cli.audit.hold"

SECTIONS: Sections = {
    "Commands": (
        Entry("add", "Keep the events of a tenant or an entity.", _PACKAGE),
        Entry("list", "List the legal holds.", _PACKAGE),
        Entry("remove", "Remove a legal hold.", _PACKAGE),
    )
}

_EPILOG = "'usersync audit hold COMMAND --help' shows the options and examples."


@click.group(cls=lazy_group(SECTIONS, _EPILOG), **GROUP_OPTIONS)
@click.pass_context
def hold(ctx: click.Context) -> None:
    """Keep the events of a tenant or an entity (legal hold).

    'usersync audit prune' does not delete these events, and 'usersync erase' does not change them. Both
    report how many they have kept. The audit log records each hold and each removal.
    """
    show_help(ctx)
