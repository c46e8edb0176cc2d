"""examples/django and examples/sqlmodel as their READMEs say, from the wheel in an empty environment."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from usersync.testing import GoTrue

pytestmark = [pytest.mark.newest_server, pytest.mark.timeout(400), pytest.mark.slow]

EXAMPLES = Path(__file__).parents[1] / "examples"


@pytest.fixture
def run(database, example_python, tmp_path):
    """Copy an example, and run programs of the environment in it; returns their output."""
    python = example_python("alembic,auth,django", "sqlmodel")
    environment = {
        "PATH": f"{python.parent}:/usr/bin:/bin",
        "HOME": str(tmp_path),
        "SUPABASE_DB_URL": database.dsn(),
        "SUPABASE_URL": "https://project.example.com",
        "USERSYNC_SPOOL_DIR": str(tmp_path / "spool"),
    }

    def call(example, program, *arguments):
        folder = tmp_path / example
        if not folder.exists():
            shutil.copytree(EXAMPLES / example, folder, ignore=shutil.ignore_patterns("__pycache__"))
        done = subprocess.run(
            [python.with_name(program), *arguments],
            cwd=folder, env=environment, capture_output=True, text=True, check=False, timeout=100,
        )  # fmt: skip
        said = done.stdout + done.stderr
        assert done.returncode == 0, said
        return said

    return call


def test_sqlmodel(run, database, auth):
    early = auth.sign_up_email("ada@example.com")
    run("sqlmodel", "alembic", "upgrade", "head")
    assert "1" in run("sqlmodel", "usersync", "sync")
    late = auth.sign_up_email("grace@example.com")
    for user in (early, late):
        assert "bolt M8" in run("sqlmodel", "python", "app.py", "order", str(user), "bolt M8")
    assert "No new upgrade operations" in run("sqlmodel", "alembic", "check")
    assert "order.created" in run("sqlmodel", "usersync", "audit", "search")
    run("sqlmodel", "alembic", "downgrade", "0001")
    with database.connect() as owner:
        assert owner.execute("select to_regnamespace('usersync'), count(*) from audit_logs").fetchone() == (
            None, 2,
        )  # fmt: skip


def test_django(run, database):
    with GoTrue(database.dsn("supabase_auth_admin")) as auth:
        user_id = auth.sign_up_email("ada@example.com")
    assert "Applying shop.0002_usersync... OK" in run("django", "python", "manage.py", "migrate")
    assert "1 user" in run("django", "python", "manage.py", "usersync", "sync")
    with database.connect() as owner:
        assert owner.execute("select id from users").fetchall() == [(user_id,)]
    checked = run(
        "django", "python", "manage.py", "check", "--database", "default", "--fail-level", "WARNING"
    )
    assert "no issues" in checked
    assert "No changes detected" in run("django", "python", "manage.py", "makemigrations", "--check")
    assert "Ran 6 tests" in run("django", "python", "manage.py", "test", "shop")
