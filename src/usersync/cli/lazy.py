"""A group of commands. Each command is imported when it is called.

The group's table has the first help line of each command, so that ``--help`` imports no command. A test
compares these lines with the commands' docstrings.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any, NoReturn

import click

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from click.shell_completion import CompletionItem


#: For tab completion, a shell calls the command with this variable.
COMPLETION_VARIABLE = "_USERSYNC_COMPLETE"


@dataclass(frozen=True)
class Entry:
    """One subcommand. Its module and its function have the same name, with ``_`` for ``-``."""

    name: str
    help: str
    package: str = "usersync.cli"

    def load(self) -> click.Command:
        """Import the command."""
        name = self.name.replace("-", "_")
        found = getattr(import_module(f"{self.package}.{name}"), name)
        if not isinstance(found, click.Command):
            raise TypeError(f"{self.package}.{name}.{name} is not a command")
        return found


Sections = dict[str, tuple[Entry, ...]]


class LazyGroup(click.Group):
    """Imports a subcommand when it is called, and suggests a command for a mistyped one."""

    sections: Sections
    epilog_text: str

    @property
    def entries(self) -> Mapping[str, Entry]:
        """The subcommands by name."""
        return {entry.name: entry for entries in self.sections.values() for entry in entries}

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        return list(self.entries)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        entry = self.entries.get(cmd_name)
        return entry.load() if entry else None

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """The subcommands, and their help, without importing them."""
        from click.shell_completion import CompletionItem  # noqa: PLC0415 - only if a shell asks

        if incomplete.startswith("-"):
            return super().shell_complete(ctx, incomplete)
        return [
            CompletionItem(name, help=entry.help)
            for name, entry in self.entries.items()
            if name.startswith(incomplete)
        ]

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in self.entries:
            self._raise_usage_error(args[0], ctx)
        return super().resolve_command(ctx, args)

    def _raise_usage_error(self, word: str, ctx: click.Context) -> NoReturn:
        if word.startswith("-"):
            raise click.UsageError(f"option {word} is before the command; options go after it", ctx)
        near = difflib.get_close_matches(word, self.entries, n=1)
        suggestion = f"did you mean {near[0]!r}?" if near else f"commands: {', '.join(self.entries)}"
        raise click.UsageError(f"unknown command {word!r}; {suggestion}", ctx)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        for title, entries in self.sections.items():
            with formatter.section(title):
                formatter.write_dl([(f"{entry.name:9}", entry.help) for entry in entries])

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        formatter.write_paragraph()
        for line in self.epilog_text.splitlines():
            formatter.write(f"{line}\n")


def nearest_option(command: click.Command, name: str) -> str | None:
    """The option of a command that a mistyped one resembles, or None."""
    known = {option: option.lstrip("-") for each in command.params for option in each.opts}
    word = name.lstrip("-")
    begun = [option for option, bare in known.items() if word and bare.startswith(f"{word}-")]
    near = difflib.get_close_matches(word, known.values(), n=1, cutoff=0.7)
    return next((option for option, bare in known.items() if option in begun or bare in near), None)


def lazy_group(sections: Sections, epilog_text: str) -> type[LazyGroup]:
    """The class of a group with these subcommands; for ``@click.group(cls=…)``."""
    return type("Commands", (LazyGroup,), {"sections": sections, "epilog_text": epilog_text})


#: Arguments of every group's decorator. A group called without a subcommand prints its help.
GROUP_OPTIONS: dict[str, Any] = {
    "invoke_without_command": True,
    "context_settings": {"help_option_names": ["-h", "--help"], "max_content_width": 88},
}


def show_help(context: click.Context) -> None:
    """Print the help of a group that was called without a subcommand."""
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


def walk(group: LazyGroup, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Entry]]:
    """Every command of a group and of its subgroups, with its path. A group precedes its commands."""
    for name, entry in group.entries.items():
        yield (*path, name), entry
        command = entry.load()
        if isinstance(command, LazyGroup):
            yield from walk(command, (*path, name))
