"""``usersync audit enable``: enables the audit log in the settings file, and creates it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import click

from usersync.cli.apply import ApplyView, install
from usersync.cli.options import Call, examples, schema_options
from usersync.cli.settings_file import SettingsFile
from usersync.cli.text import good, plain, typed
from usersync.config.mapping import parse_name
from usersync.core.app_migrations import migrations_that_create
from usersync.core.installed import settings_in_database
from usersync.errors import ConflictError, SettingsError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from usersync.cli.output import View
    from usersync.config.mapping import TableName


@dataclass(frozen=True)
class EnabledView:
    """The log, and the settings file that enables it."""

    applied: ApplyView
    table: TableName
    path: Path
    exit_code: int = 0

    def lines(self, width: int) -> Iterator[str]:  # noqa: ARG002 - a path is never wrapped
        yield f"{good('Written:')} {self.path}, with [audit] enabled = true"
        yield f"The audit log is {plain(self.table)}."
        yield f"Next:  {typed('usersync audit track TABLE')}, or usersync.AuditLog in the application"

    def data(self) -> dict[str, Any]:
        return self.applied.data() | {"audit_table": str(self.table), "written": self.path}


@click.command(
    epilog=examples(
        ("usersync audit enable", "asks before it changes anything"),
        ("usersync audit enable --yes", "for CI: does not ask"),
        ("usersync audit enable --table app.events", "if public.audit_logs is taken"),
    )
)
@click.option("--table", metavar="NAME", help="The name of the log. Default: the name in the settings file.")
@click.option("--yes", is_flag=True, help="Do not ask. Required without a terminal.")
@schema_options
def enable(call: Call, *, table: str | None, yes: bool) -> View:
    """Create the audit log, and enable it in the settings file.

    Shows the pending changes and asks, as apply does. Makes all of them. Changes nothing if a table of the
    application has the log's name, or if a migration file creates such a table. In that case, name the log
    with --table.
    """
    call.require_consent(yes=yes)
    if call.host_program is not None and call.config is None:
        raise SettingsError(
            f"the settings are in {call.settings_source}, and this command edits settings files only",
            hint='Set "audit": {"enabled": True} there, then run usersync apply.',
        )
    named = parse_name(table, "--table") if table else None
    audit = call.settings.audit
    if not audit.is_own:
        raise SettingsError(
            f"usersync creates no audit log: [audit.columns] maps the application's table {audit.table}",
            hint="No action is needed: events are stored in that table.",
        )
    name = named or audit.table
    file = SettingsFile.of(call.config)
    text = file.with_log(named)
    refuse_taken(name)
    settings = replace(call.settings, audit=replace(audit, enabled=True, table=name))
    is_installed = call.run(settings_in_database()) is not None
    view = install(replace(call, given=settings, file_settings=call.settings), yes=yes, no_sync=is_installed)
    if not isinstance(view, ApplyView):
        return view
    file.write(text)
    return EnabledView(view, name, file.path)


def refuse_taken(name: TableName) -> None:
    """Raise ``ConflictError`` if a migration of the application creates a table of this name."""
    if found := migrations_that_create(name):
        raise ConflictError(
            f"the audit log cannot be called {name}: {found[0]} creates a table of this name",
            hint="Choose another name: usersync audit enable --table public.audit_events",
        )
