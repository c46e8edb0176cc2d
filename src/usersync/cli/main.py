"""Runs the command, and turns its errors into a message and an exit code."""

from __future__ import annotations

import contextlib
import errno
import os
import sys
import traceback
from functools import partial
from typing import TYPE_CHECKING

import click

from usersync.cli.group import usersync
from usersync.cli.lazy import COMPLETION_VARIABLE, LazyGroup, nearest_option
from usersync.cli.output import Output, shortened
from usersync.errors import SettingsError, UsersyncError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from usersync.cli.options import HostProgram

#: The pipe is closed, the disk is full, or standard output was closed at the start.
_OUTPUT_ERRORS = {errno.EPIPE, errno.ENOSPC, errno.EBADF}

INTERRUPTED, PIPE_CLOSED = 130, 141  # what a shell reports for SIGINT and SIGPIPE


def run(arguments: Sequence[str], *, name: str = "usersync", host_program: HostProgram | None = None) -> int:
    """Run ``usersync`` with these arguments and return its exit code. Raises nothing.

    ``name`` is the command's name in help texts.
    """
    # Read before parsing: wrong arguments are reported as JSON too.
    output = Output(as_json="--json" in arguments, verbose="--verbose" in arguments)
    try:
        code = _run_guarded(partial(_invoke, list(arguments), name, host_program), arguments, output)
        _flush()
    except BrokenPipeError:
        _discard_output()
        return PIPE_CLOSED
    except OSError as error:
        _discard_output()
        output.error(SettingsError(f"cannot write the output: {error.strerror}"))
        return SettingsError.exit_code
    except KeyboardInterrupt:
        return INTERRUPTED
    return code


def _run_guarded(invoke: Callable[[], int], arguments: Sequence[str], output: Output) -> int:
    try:
        return invoke()
    except UsersyncError as error:
        _reraise_interrupt(error)
        output.error(error)
        return error.exit_code
    except click.ClickException as error:
        output.error(_usage_error(error, arguments))
        return error.exit_code if isinstance(error, click.UsageError) else SettingsError.exit_code
    except KeyboardInterrupt:
        raise
    except Exception as error:
        _reraise_interrupt(error)
        if isinstance(error, OSError) and error.errno in _OUTPUT_ERRORS:
            raise
        output.error(_unexpected(error))
        return UsersyncError.exit_code


def _invoke(arguments: list[str], name: str, host_program: HostProgram | None) -> int:
    """Like ``usersync.main``, but Ctrl-C and closed pipes are left to the caller."""
    if os.environ.get(COMPLETION_VARIABLE):
        usersync.main(arguments, prog_name="usersync")  # a shell asks for completions
    try:
        with usersync.make_context(name, arguments, obj=host_program) as context:
            usersync.invoke(context)
    except click.exceptions.Exit as end:
        return end.exit_code
    return 0


def _reraise_interrupt(error: BaseException) -> None:
    """Raise KeyboardInterrupt if the error was raised by the clean-up after one."""
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, KeyboardInterrupt):
            raise KeyboardInterrupt from error
        seen = seen.__cause__ or seen.__context__


def _usage_error(error: click.ClickException, arguments: Sequence[str]) -> SettingsError:
    context = error.ctx if isinstance(error, click.UsageError) else None
    path = context.command_path if context else _command_path(arguments)
    if isinstance(error, click.NoSuchOption) and context is not None:
        near = nearest_option(context.command, error.option_name)
        suggestion = f"; did you mean {near!r}?" if near else ""
        message = f"{path} has no option {error.option_name!r}{suggestion}"
        if isinstance(context.command, LazyGroup) and error.option_name in _common_options():
            hint = f"Options come after the command: {path} COMMAND {error.option_name} …"
            return SettingsError(shortened(message), hint=hint)
    else:
        message = error.format_message()
    return SettingsError(shortened(message), hint=f"See: {path} --help")


def _common_options() -> set[str]:
    """The options that every command has."""
    status = usersync.entries["status"].load()
    return {
        name
        for name in ("--config", "--dsn", "--json", "--verbose")
        for each in status.params
        if name in each.opts
    }


def _command_path(arguments: Sequence[str]) -> str:
    """The command with its groups. Click does not name the command whose option lacks a value."""
    words = ["usersync"]
    command: click.Command = usersync
    for word in arguments:
        if not isinstance(command, LazyGroup) or word not in command.entries:
            break
        words.append(word)
        command = command.entries[word].load()
    return " ".join(words)


def _unexpected(error: Exception) -> UsersyncError:
    last = traceback.extract_tb(error.__traceback__)[-1]
    where = f"{os.path.basename(last.filename)}:{last.lineno}"  # noqa: PTH119 - only the name is shown
    found = UsersyncError(
        f"{type(error).__name__}: {error} ({where})",
        hint="This is a bug in usersync. Run the command again with --verbose, and report the output.",
    )
    found.__cause__ = error
    return found


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        if stream is not None and not stream.closed:
            stream.flush()


def _discard_output() -> None:
    """Redirect standard output to /dev/null, so that the last flush of the interpreter does not fail."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
