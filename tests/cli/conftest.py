"""Fixtures that call the command in this process, or start it as another process."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from command_result import CommandResult
from usersync.cli.main import run

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

_ADDRESSES = (
    *("SUPABASE_DB_URL", "DATABASE_URL", "SUPABASE_URL", "SUPABASE_SECRET_KEY", "SUPABASE_SERVICE_ROLE_KEY"),
    "SUPABASE_AUTH_URL",
)
_REMOVED_VARIABLES = (*_ADDRESSES, "NO_COLOR", "FORCE_COLOR", "COLUMNS", "TERM")


Usersync = "Callable[..., CommandResult]"


@pytest.fixture(autouse=True)
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory, and an environment without usersync's variables."""
    monkeypatch.chdir(tmp_path)
    for name in _REMOVED_VARIABLES:
        monkeypatch.delenv(name, raising=False)
    return tmp_path


@pytest.fixture(autouse=True)
def _short_trials(few_rounds: None) -> None:
    """Commands of these tests try the auth server's flows only for what they show."""


@pytest.fixture
def usersync(capsys: pytest.CaptureFixture[str]) -> Callable[..., CommandResult]:
    """Call the command in this process, without a terminal."""

    def call(*arguments: object) -> CommandResult:
        capsys.readouterr()
        code = run([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return CommandResult(code, captured.out, captured.err)

    return call


@pytest.fixture
def spawn() -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Start the command as a process, which is killed at the end of the test."""
    started = []

    def start(*arguments: object, **options: Any) -> subprocess.Popen[str]:
        pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        env = os.environ | options.pop("env", {})
        process = subprocess.Popen(
            [sys.executable, "-m", "usersync", *map(str, arguments)], text=True, env=env, **(pipes | options)
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()
