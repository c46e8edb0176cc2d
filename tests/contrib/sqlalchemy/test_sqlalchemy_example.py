"""examples/sqlalchemy as in its README."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from usersync.testing import GoTrue

pytestmark = [pytest.mark.newest_server, pytest.mark.slow]

EXAMPLE = Path(__file__).parents[3] / "examples/sqlalchemy"


@pytest.fixture
def run(shop_database, tmp_path):
    """Run a command of the README; returns its output."""
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path),
        "SUPABASE_DB_URL": shop_database.dsn(),
        "USERSYNC_SPOOL_DIR": str(tmp_path),
    }

    def call(*command, code=0):
        process = subprocess.run(
            [sys.executable, "-W", "error", *command],
            cwd=EXAMPLE, env=environment, capture_output=True, text=True, check=False, timeout=60,
        )  # fmt: skip
        assert process.returncode == code, process.stdout + process.stderr
        return process.stdout + process.stderr

    return call


def moved(number, quantity):
    return {"id": [None, number], "product_id": [None, 1], "quantity": [None, quantity]}


def test_the_example_as_its_readme_says(run, shop_database):
    with GoTrue(shop_database.dsn("supabase_auth_admin")) as auth:
        user_id = auth.sign_up_email("ada@example.com")
    ada = ("app.py", "--user", str(user_id))
    run("app.py", "init")
    run("-m", "usersync", "audit", "track", "public.products")
    assert "10  bolt M8" in run(*ada, "add", "bolt M8", "10")
    assert " 7  bolt M8" in run(*ada, "move", "1", "-3", "for the roof")
    assert "CheckViolation" in run(*ada, "move", "1", "-8", code=1)
    with shop_database.connect() as owner:
        owner.execute("update products set stock = 70")
        assert " 7  bolt M8" in run(*ada, "recount")
        found = owner.execute(
            "select action, actor_id, source, changes from audit_logs"
            " where source <> 'sync' order by occurred_at, id"
        ).fetchall()
    ours = str(user_id)
    added = {"id": [None, 1], "name": [None, "bolt M8"], "stock": [None, 0]}
    assert found == [
        ("products.inserted", ours, "trigger", added),
        ("products.updated", ours, "trigger", {"stock": [0, 10]}),
        ("movements.inserted", ours, "app", moved(1, 10)),
        ("products.updated", ours, "trigger", {"stock": [10, 7]}),
        ("movements.inserted", ours, "app", moved(2, -3)),
        ("products.updated", "postgres", "trigger", {"stock": [7, 70]}),
        ("products.updated", ours, "trigger", {"stock": [70, 7]}),
    ]
    assert "movements.inserted" in run("-m", "usersync", "audit", "search", "--actor", ours)
