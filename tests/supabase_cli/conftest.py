"""The Supabase CLI, installed from npm, in a new project folder."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from hooks_skips import skip_without
from node_tools import node_tool

if TYPE_CHECKING:
    from pathlib import Path

    from usersync.testing import SupabaseDatabase


@dataclass(frozen=True)
class SupabaseProject:
    """A project folder, and the CLI in it. Uses neither Docker nor an account."""

    command: str
    folder: Path

    def __call__(self, *arguments: str, at: SupabaseDatabase | None = None) -> str:
        """Run the CLI, with a database if ``at`` is given. Returns its output."""
        remote = [f"--remote={self.url(at)}"] if at else []
        done = subprocess.run(
            [self.command, *arguments, *remote, "--yes"],
            cwd=self.folder, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False,
            env=os.environ | {"HOME": str(self.folder), "SUPABASE_TELEMETRY_DISABLED": "1", "NO_COLOR": "1"},
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def usersync(self, *arguments: str) -> str:
        """Run usersync in the same folder."""
        return subprocess.run(
            [sys.executable, "-m", "usersync", *arguments],
            cwd=self.folder, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=True,
        ).stdout  # fmt: skip

    def url(self, database: SupabaseDatabase) -> str:
        """The database's connection string with the option without which the CLI requires TLS."""
        return database.dsn() + "?sslmode=disable"

    def advice(self, at: SupabaseDatabase) -> list[dict[str, Any]]:
        """All findings of the advisors, of every level."""
        out = self("db", "advisors", "--level", "info", "--output-format", "json", at=at)
        return json.loads(out)["results"]


@pytest.fixture(scope="session")
def supabase_command() -> str:
    return node_tool("@supabase/cli-linux-x64/bin/supabase") or skip_without("the Supabase CLI")


@pytest.fixture(scope="session")
def supabase_folder(supabase_command: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project folder as ``supabase init`` makes it."""
    folder = tmp_path_factory.mktemp("supabase")
    SupabaseProject(supabase_command, folder)("init")
    return folder


@pytest.fixture(scope="session")
def supabase_migrations(
    supabase_command: str, supabase_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A project folder with usersync's migration."""
    folder = tmp_path_factory.mktemp("supabase")
    shutil.copytree(supabase_folder, folder, dirs_exist_ok=True)
    SupabaseProject(supabase_command, folder).usersync("sql", "--supabase")
    return folder


@pytest.fixture
def supabase(supabase_command: str, supabase_folder: Path, tmp_path: Path) -> SupabaseProject:
    """A copy of the project folder."""
    shutil.copytree(supabase_folder, tmp_path, dirs_exist_ok=True)
    return SupabaseProject(supabase_command, tmp_path)
