"""The command and the clients work in a directory that was removed, with settings from the environment."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

pytestmark = pytest.mark.newest_server

STATUS = """
import os, sys
from usersync.cli.main import run
os.rmdir(os.getcwd())
sys.exit(run(["status"]))
"""

CLIENTS = """
import asyncio, os
from usersync import AsyncUserSync, AuditLog, UserSync
os.rmdir(os.getcwd())
with UserSync.from_env() as sync, AuditLog.from_env(durability="memory") as audit:
    assert sync.status().in_step
    assert audit.record("a.b")
    assert audit.flush(30), audit.stats()

async def story():
    async with AsyncUserSync.from_env() as sync:
        assert (await sync.status()).in_step

asyncio.run(story())
"""


@pytest.fixture
def audit_enabled():
    return True


@pytest.mark.slow
@pytest.mark.parametrize("code", [STATUS, CLIENTS], ids=["status", "from_env"])
def test_a_removed_working_directory_causes_no_error(project, tmp_path, code):
    here = tmp_path / "gone"
    here.mkdir()
    environment = {"PATH": os.environ["PATH"], "SUPABASE_DB_URL": project.database.dsn()}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=here, env=environment, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
