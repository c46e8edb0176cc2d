"""``manage.py usersync``: the command ``usersync`` on a database of this project."""

from __future__ import annotations

import sys
from argparse import REMAINDER, ArgumentParser
from contextlib import redirect_stderr, redirect_stdout
from functools import partial
from typing import Any

from django.core.management.base import BaseCommand, CommandError, handle_default_options
from django.db import connections

from usersync.cli.main import run
from usersync.cli.options import HostProgram
from usersync.contrib.django.config import config
from usersync.contrib.django.connection_strings import dsn_of
from usersync.errors import SettingsError


class Command(BaseCommand):
    """Runs ``usersync`` with the connection and the settings of this project."""

    help = "The command usersync on a database of this project: manage.py usersync --help"
    # It has to run when system checks fail.
    requires_system_checks: list[str] = []  # noqa: RUF012 - as Django does it

    def run_from_argv(self, argv: list[str]) -> None:
        """Run from the shell. Ends the process with the command's exit code."""
        self._called_from_command_line = True
        code = _run(argv[2:], f"{argv[0]} {argv[1]}")
        connections.close_all()
        sys.exit(code)

    def print_help(self, prog_name: str, subcommand: str) -> None:
        """``manage.py help usersync``."""
        _run(["--help"], f"{prog_name} {subcommand}")

    def add_arguments(self, parser: ArgumentParser) -> None:
        """For ``call_command("usersync", "status", "--json")``."""
        parser.add_argument("arguments", nargs=REMAINDER)
        parser.add_argument("--database")

    def handle(self, *_: object, **options: Any) -> None:
        """Run from Python. Raises ``CommandError`` if the exit code is not 0."""
        given = list(options["arguments"])
        if options.get("database"):
            given += ["--database", options["database"]]
        with redirect_stdout(self.stdout), redirect_stderr(self.stderr):
            code = _run(given, "manage.py usersync")
        if code:
            raise CommandError(f"usersync {' '.join(given)}: exit code {code}", returncode=code)


def _run(arguments: list[str], name: str) -> int:
    # All arguments except these options of Django go to usersync.
    ours = ArgumentParser(add_help=False, allow_abbrev=False)
    for option in ("--database", "--settings", "--pythonpath"):
        ours.add_argument(option)
    options, rest = ours.parse_known_args(arguments)
    handle_default_options(options)
    host_program = HostProgram(
        partial(_address, options.database),
        lambda: config().schema_settings(),
        _settings_source(),
    )
    return run(rest, name=name, host_program=host_program)


def _address(alias: str | None) -> str:
    alias = alias or config().database
    if alias is None:
        raise SettingsError(
            'USERSYNC["DATABASE"] is None: no database of this project has usersync',
            hint="Name one with --database or --dsn.",
        )
    return dsn_of(alias)


def _settings_source() -> str:
    try:
        return config().settings_source
    except SettingsError:
        # A command that needs the settings reports the error.
        return "USERSYNC"
