"""A group of commands, each of which is imported when it is called.

Its table holds a line of help for each, so that ``--help`` imports none of them; a test compares the lines
with the commands' own.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any, NoReturn

import click

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping


@dataclass(frozen=True)
class Entry:
    """One subcommand: its name is that of its module and of the command in it, where ``-`` is ``_``."""

    name: str
    help: str
    package: str = "usersync.cli"

    def load(self) -> click.Command:
        """Import it."""
        name = self.name.replace("-", "_")
        found = getattr(import_module(f"{self.package}.{name}"), name)
        if not isinstance(found, click.Command):
            raise TypeError(f"{self.package}.{name}.{name} is no command")
        return found


Sections = dict[str, tuple[Entry, ...]]


class LazyGroup(click.Group):
    """Imports a subcommand when it is called, and knows what somebody meant who mistyped."""

    sections: Sections
    last_words: str

    @property
    def entries(self) -> Mapping[str, Entry]:
        """The subcommands by name."""
        return {entry.name: entry for entries in self.sections.values() for entry in entries}

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        return list(self.entries)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        entry = self.entries.get(cmd_name)
        return entry.load() if entry else None

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in self.entries:
            self._refuse(args[0], ctx)
        return super().resolve_command(ctx, args)

    def _refuse(self, word: str, ctx: click.Context) -> NoReturn:
        if word.startswith("-"):
            raise click.UsageError(f"no option {word} before the command; options go after it", ctx)
        near = difflib.get_close_matches(word, self.entries, n=1)
        suggestion = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(self.entries)}"
        raise click.UsageError(f"no command {word!r}; {suggestion}", ctx)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        for title, entries in self.sections.items():
            with formatter.section(title):
                formatter.write_dl([(f"{entry.name:9}", entry.help) for entry in entries])

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        formatter.write_paragraph()
        for line in self.last_words.splitlines():
            formatter.write(f"{line}\n")


def lazy_group(sections: Sections, last_words: str) -> type[LazyGroup]:
    """The class of a group with these subcommands; for ``@click.group(cls=…)``."""
    return type("Commands", (LazyGroup,), {"sections": sections, "last_words": last_words})


#: What every group is made with: it says what it has when it is called without a subcommand.
GROUP_OPTIONS: dict[str, Any] = {
    "invoke_without_command": True,
    "context_settings": {"help_option_names": ["-h", "--help"], "max_content_width": 88},
}


def show_help(context: click.Context) -> None:
    """What a group does that was called without a subcommand."""
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


def walk(group: LazyGroup, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Entry]]:
    """Every command below a group with the words that lead to it; a group comes before what is in it."""
    for name, entry in group.entries.items():
        yield (*path, name), entry
        command = entry.load()
        if isinstance(command, LazyGroup):
            yield from walk(command, (*path, name))
