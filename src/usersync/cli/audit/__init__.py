"""``usersync audit``: the table of its subcommands, one module each."""

from __future__ import annotations

import click

from usersync.cli.lazy import GROUP_OPTIONS, Entry, Sections, lazy_group, show_help


def _entry(name: str, text: str) -> Entry:
    return Entry(name, text, "usersync.cli.audit")


SECTIONS: Sections = {
    "Read": (
        _entry("tail", "Show the newest events, then follow."),
        _entry("search", "Find events, the newest first, page by page."),
        _entry("show", "Show one event, whole."),
        _entry("history", "What happened to one entity, field by field."),
        _entry("stats", "Count events by day and action, and draw them."),
        _entry("export", "Write events out: JSON Lines, CSV or Parquet."),
    ),
    "Set up": (_entry("enable", "Create the audit log, and enable it in the settings file."),),
    "Keep in order": (
        _entry("spool", "What waits on this machine to be stored; deliver it."),
        _entry("rejects", "Events the database could not store, and why; try again."),
        _entry("prune", "Delete audit events and rejected events that are older than --keep."),
    ),
    "Record without code": (
        _entry("track", "Record every change of a table's rows from now on."),
        _entry("untrack", "Stop recording the changes of a table."),
        _entry("tracked", "The tables whose changes are recorded."),
    ),
}

_EPILOG = """\
Times are in UTC. Exit codes are those of 'usersync --help'.
'usersync audit COMMAND --help' has the options and an example of each."""


@click.group(cls=lazy_group(SECTIONS, _EPILOG), **GROUP_OPTIONS)
@click.pass_context
def audit(ctx: click.Context) -> None:
    """The audit log: follow, search, export, keep, and what waits for it.

    Who did what to what, and how it ended. Applications record with usersync.AuditLog, tables with 'track'.
    """
    show_help(ctx)
