"""The command in a directory that was removed: the environment has all that it needs."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

pytestmark = pytest.mark.newest_server

CODE = """
import os, sys
from usersync.cli.main import run
os.rmdir(os.getcwd())
sys.exit(run(["status"]))
"""


def test_status_in_a_directory_that_is_gone(project, tmp_path):
    here = tmp_path / "gone"
    here.mkdir()
    environment = {"PATH": os.environ["PATH"], "SUPABASE_DB_URL": project.database.dsn()}
    done = subprocess.run(
        [sys.executable, "-c", CODE], cwd=here, env=environment, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
