"""``usersync completion``: the script with which a shell completes commands and options."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from usersync.cli.lazy import COMPLETION_VARIABLE
from usersync.cli.options import Call, examples, output_options
from usersync.errors import SettingsError

SHELLS = ("bash", "zsh", "fish")


@click.command(
    epilog=examples(
        ('eval "$(usersync completion bash)"', "in ~/.bashrc"),
        ('eval "$(usersync completion zsh)"', "in ~/.zshrc"),
        ("usersync completion fish | source", "in config.fish"),
    )
)
@click.argument("shell", type=click.Choice(SHELLS))
@output_options
def completion(call: Call, shell: str) -> None:
    """Print the script for tab completion in bash, zsh or fish."""
    found = get_completion_class(shell)
    if found is None:
        raise SettingsError(f"no completion for {shell}", hint=f"Shells: {', '.join(SHELLS)}.")
    command = click.get_current_context().find_root().command
    call.output.raw(found(command, {}, "usersync", COMPLETION_VARIABLE).source())
