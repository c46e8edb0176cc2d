"""``usersync audit``: the table of its subcommands."""

from __future__ import annotations

import click

from usersync.cli.lazy import GROUP_OPTIONS, Entry, Sections, lazy_group, show_help


def _entry(name: str, text: str) -> Entry:
    return Entry(name, text, "usersync.cli.audit")


SECTIONS: Sections = {
    "Read": (
        _entry("tail", "Show the newest events, then follow."),
        _entry("search", "Find events, the newest first, page by page."),
        _entry("show", "Show one event with all its fields."),
        _entry("history", "Show the events of one entity, or its fields at a time."),
        _entry("stats", "Count events by day and action."),
        _entry("export", "Export events as JSON Lines, CSV or Parquet."),
    ),
    "Set up": (_entry("enable", "Create the audit log, and enable it in the settings file."),),
    "Maintain": (
        _entry("spool", "Show and deliver the spooled events of this machine."),
        _entry("rejects", "Show and retry rejected events."),
        _entry("prune", "Delete audit events and rejected events that are older than the retention."),
        _entry("hold", "Keep the events of a tenant or an entity (legal hold)."),
    ),
    "Record without code": (
        _entry("track", "Record every change of a table's rows from now on."),
        _entry("untrack", "Stop recording the changes of a table."),
        _entry("tracked", "List the tables whose changes are recorded."),
    ),
}

_EPILOG = """\
Times are in UTC. Exit codes are those of 'usersync --help'.
'usersync audit COMMAND --help' shows the options and examples."""


@click.group(cls=lazy_group(SECTIONS, _EPILOG), **GROUP_OPTIONS)
@click.pass_context
def audit(ctx: click.Context) -> None:
    """The audit log: follow, search, export, prune, track tables, deliver events.

    An event has an actor, an action, an entity, a time and an outcome. Applications record events with
    usersync.AuditLog. 'track' records the changes of a table.
    """
    show_help(ctx)
