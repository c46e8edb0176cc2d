"""The command itself: its table of subcommands, each of which is imported when it is called.

The table holds a line of help for each, so that ``usersync --help`` imports none of them; a test compares
the lines with the commands' own.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from importlib import import_module
from typing import NoReturn

import click

from usersync.version import __version__


@dataclass(frozen=True)
class Entry:
    """One subcommand: its name is that of its module and of the command in it."""

    name: str
    help: str

    def load(self) -> click.Command:
        """Import it."""
        found = getattr(import_module(f"usersync.cli.{self.name}"), self.name)
        if not isinstance(found, click.Command):
            raise TypeError(f"usersync.cli.{self.name}.{self.name} is no command")
        return found


SECTIONS: dict[str, tuple[Entry, ...]] = {
    "Look around": (
        Entry("demo", "The whole story in seconds, on a database of its own."),
        Entry("doctor", "Check everything that can be wrong, each with its fix."),
        Entry("explain", "Explain an error (US301) or a check of the doctor (D004)."),
    ),
    "Set up": (
        Entry("plan", "Show what apply would change. Changes nothing."),
        Entry("apply", "Install or upgrade, then sync the users that exist already."),
        Entry("rollback", "Take everything back. The users table stays."),
        Entry("sql", "Print what apply would run, without a connection."),
    ),
    "Run": (
        Entry("status", "Count users on both sides, and what differs."),
        Entry("sync", "Bring the users table in line, page by page."),
        Entry("failures", "Show who could not be synced, or not completely, and why."),
        Entry("retry", "Try the users of the ledger again."),
    ),
}

ENTRIES = {entry.name: entry for entries in SECTIONS.values() for entry in entries}

_EPILOG = """\
Exit codes: 0 fine, 1 a problem, 2 wrong usage or settings, 3 no connection.
'usersync COMMAND --help' has the options and an example of each."""


class LazyGroup(click.Group):
    """Imports a subcommand when it is called, and knows what somebody meant who mistyped."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        return list(ENTRIES)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        entry = ENTRIES.get(cmd_name)
        return entry.load() if entry else None

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in ENTRIES:
            refuse(args[0], ctx)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        for title, entries in SECTIONS.items():
            with formatter.section(title):
                formatter.write_dl([(f"{entry.name:9}", entry.help) for entry in entries])

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        formatter.write_paragraph()
        for line in _EPILOG.splitlines():
            formatter.write(f"{line}\n")


def refuse(word: str, ctx: click.Context) -> NoReturn:
    """Raise a usage error for a word that is no command."""
    if word.startswith("-"):
        raise click.UsageError(f"no option {word} before the command; options go after it", ctx)
    near = difflib.get_close_matches(word, ENTRIES, n=1)
    suggestion = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(ENTRIES)}"
    raise click.UsageError(f"no command {word!r}; {suggestion}", ctx)


@click.group(
    cls=LazyGroup,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 88},
)
@click.version_option(__version__, prog_name="usersync", message="%(prog)s %(version)s")
@click.pass_context
def usersync(ctx: click.Context) -> None:
    """Keeps your application's users in step with Supabase Auth.

    Who signs up, changes or leaves in auth.users arrives in public.users, in the same transaction, and a
    sign-up never fails for it.

    New here? 'usersync demo' shows it, 'usersync plan' looks at your project.
    """
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help())
