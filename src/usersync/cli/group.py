"""The command ``usersync``: the table of its subcommands."""

from __future__ import annotations

import click

from usersync.cli.lazy import GROUP_OPTIONS, Entry, Sections, lazy_group, show_help
from usersync.version import __version__

SECTIONS: Sections = {
    "Inspect": (
        Entry("demo", "Show in seconds what usersync does, on an embedded database."),
        Entry("doctor", "Run all checks. Each problem comes with its fix."),
        Entry("why", "Explain one user: both rows, their differences, and what a sync would do."),
        Entry("delete-plan", "Show which rows a user's deletion would delete or change. Changes nothing."),
        Entry("console", "Show users, events and problems in the browser."),
        Entry("explain", "Explain an error (US301), a doctor check (D004) or a setting (on_delete)."),
    ),
    "Set up": (
        Entry("init", "Inspect the database, and write usersync.toml."),
        Entry("plan", "Show what apply would change. Changes nothing."),
        Entry("apply", "Install or upgrade, then sync the existing users."),
        Entry("rollback", "Remove usersync from the database. The users table stays."),
        Entry("sql", "Print the SQL of apply, without a connection."),
        Entry("config", "Show each setting, connection string and key, and its source."),
        Entry("completion", "Print the script for tab completion in bash, zsh or fish."),
    ),
    "Run": (
        Entry("status", "Count the users of both tables, and the differences."),
        Entry("sync", "Write the missing and stale rows, page by page."),
        Entry("failures", "List sync failures: the user, the SQLSTATE, the reason."),
        Entry("retry", "Retry the users of the failures table."),
        Entry("pause", "Pause the triggers. Sign-ups succeed; no user is synced until resume."),
        Entry("resume", "End the pause, and sync the users who changed during it."),
        Entry("erase", "Erase the personal data of a deleted user. The events stay."),
        Entry("metrics", "Export metrics of both users tables and of this machine's audit spool."),
        Entry("worker", "Handle events and run the periodic tasks, until the process is stopped."),
        Entry("subscriptions", "Subscriptions: which events of the audit log are handled, and how far."),
        Entry("audit", "The audit log: follow, search, export, prune, track tables, deliver events."),
    ),
}

_EPILOG = """\
Exit codes: 0 success, 1 a problem, 2 wrong usage or settings, 3 no connection.
'usersync COMMAND --help' shows the options and examples."""


@click.group(cls=lazy_group(SECTIONS, _EPILOG), **GROUP_OPTIONS)
@click.version_option(__version__, prog_name="usersync", message="%(prog)s %(version)s")
@click.pass_context
def usersync(ctx: click.Context) -> None:
    """Keeps your application's users in sync with Supabase Auth.

    Copies every change of auth.users to public.users in the same transaction. A failure to copy never fails
    the sign-up.

    New here? 'usersync demo' shows what usersync does, 'usersync init' inspects your project.
    """
    show_help(ctx)
