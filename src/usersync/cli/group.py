"""The command itself: the table of its subcommands."""

from __future__ import annotations

import click

from usersync.cli.lazy import GROUP_OPTIONS, Entry, Sections, lazy_group, show_help
from usersync.version import __version__

SECTIONS: Sections = {
    "Look around": (
        Entry("demo", "The whole story in seconds, on a database of its own."),
        Entry("doctor", "Check everything that can be wrong, each with its fix."),
        Entry("why", "Explain one user: both rows, where they differ, and what a sync would do."),
        Entry("delete-plan", "Show what would go or change if this user were deleted. Changes nothing."),
        Entry("explain", "Explain an error (US301) or a check of the doctor (D004)."),
    ),
    "Set up": (
        Entry("init", "Look at the database, explain it, and write usersync.toml."),
        Entry("plan", "Show what apply would change. Changes nothing."),
        Entry("apply", "Install or upgrade, then sync the users that exist already."),
        Entry("rollback", "Remove usersync from the database. The users table stays."),
        Entry("sql", "Print what apply would run, without a connection."),
        Entry("config", "Show each setting, address and key, and where it comes from."),
    ),
    "Run": (
        Entry("status", "Count the users of both tables, and their differences."),
        Entry("sync", "Write the rows that are missing or differ, page by page."),
        Entry("failures", "Show who could not be synced, or not completely, and why."),
        Entry("retry", "Try the users of the failures table again."),
        Entry("pause", "Pause the triggers. Sign-ups succeed; no user is synced until resume."),
        Entry("resume", "End the pause, and sync the users who changed during it."),
        Entry("erase", "Erase the personal data of a user who was deleted. What they did stays."),
        Entry("metrics", "Export metrics of both tables of users and of the audit spool of this machine."),
        Entry("audit", "The audit log: follow, search, export, keep, and what waits for it."),
    ),
}

_EPILOG = """\
Exit codes: 0 fine, 1 a problem, 2 wrong usage or settings, 3 no connection.
'usersync COMMAND --help' has the options and an example of each."""


@click.group(cls=lazy_group(SECTIONS, _EPILOG), **GROUP_OPTIONS)
@click.version_option(__version__, prog_name="usersync", message="%(prog)s %(version)s")
@click.pass_context
def usersync(ctx: click.Context) -> None:
    """Keeps your application's users in sync with Supabase Auth.

    Who signs up, changes or leaves in auth.users arrives in public.users, in the same transaction, and a
    sign-up never fails for it.

    New here? 'usersync demo' shows it, 'usersync init' looks at your project.
    """
    show_help(ctx)
