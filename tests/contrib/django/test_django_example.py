"""examples/django as in its README: migrated, and served by Django's own server."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import urllib.error
import urllib.request
from contextlib import contextmanager
from pathlib import Path

import pytest

from usersync.testing import GoTrue

pytestmark = [pytest.mark.newest_server, pytest.mark.slow]

EXAMPLE = Path(__file__).parents[3] / "examples/django"


class Project:
    """The example on the test's database, in separate processes."""

    def __init__(self, database, tokens, spool):
        self.tokens = tokens
        self.environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(spool),
            "PYTHONUNBUFFERED": "1",
            "SUPABASE_DB_URL": database.dsn(),
            "SUPABASE_URL": tokens.url,
            "USERSYNC_SPOOL_DIR": str(spool),
        }

    def manage(self, *arguments, code=0):
        process = subprocess.run(
            [sys.executable, "-W", "error", EXAMPLE / "manage.py", *arguments],
            env=self.environment, capture_output=True, text=True, check=False, timeout=60,
        )  # fmt: skip
        assert process.returncode == code, process.stdout + process.stderr
        return process.stdout + process.stderr

    @contextmanager
    def served(self):
        """Django's own server on a free port; yields its URL."""
        command = [sys.executable, EXAMPLE / "manage.py", "runserver", "--noreload", "127.0.0.1:0"]
        with subprocess.Popen(
            command, env=self.environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            text=True,
        ) as process:  # fmt: skip
            try:
                said = []
                for line in process.stdout:
                    said.append(line)
                    if found := re.search(r"at (http://127\.0\.0\.1:[1-9]\d*)/", line):
                        break
                else:
                    raise AssertionError("".join(said))
                yield found[1]
            finally:
                process.kill()


def ask(url, token=None, data=None, **headers):
    headers |= {"Authorization": f"Bearer {token}"} if token else {}
    body = json.dumps(data).encode() if data is not None else None
    request = urllib.request.Request(url, body, headers)  # noqa: S310 - ours
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:  # noqa: S310
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.headers.get("WWW-Authenticate")


@pytest.fixture
def database(cluster):
    database = cluster.clone(cluster.template("supabase_old", regime="old"))
    yield database
    cluster.drop(database)


@pytest.fixture
def project(database, auth_server, tmp_path):
    return Project(database, auth_server, tmp_path)


def test_the_example_as_its_readme_says(project, database, eventually):
    with GoTrue(database.dsn("supabase_auth_admin")) as auth:
        user_id = auth.sign_up_email("ada@example.com")
    assert "Applying shop.0002_usersync... OK" in project.manage("migrate")
    assert "no issues" in project.manage("check", "--database", "default", "--fail-level", "WARNING")
    assert "No changes detected" in project.manage("makemigrations", "--check")
    assert "1 user" in project.manage("usersync", "sync")
    token = project.tokens.token(user_id)
    with project.served() as url, database.connect() as owner:
        assert ask(f"{url}/products") == (401, "Bearer")
        assert ask(f"{url}/products", project.tokens.token(user_id, exp=1)) == (401, "Bearer")
        assert ask(f"{url}/products", token, {"name": "bolt", "stock": 10}) == (201, {"id": 1})
        assert ask(f"{url}/products", token, {"name": "bolt", "stock": 10})[0] == 409
        assert ask(f"{url}/products", token, ["nonsense"])[0] == 400
        assert ask(f"{url}/products/1/adjust", token, {"quantity": -3}) == (200, {"stock": 7})
        assert ask(f"{url}/products/1/adjust", token, {"quantity": -8})[0] == 409
        assert ask(f"{url}/products/2/adjust", token, {"quantity": 1})[0] == 404
        spoofed = {"X-Forwarded-For": "10.0.0.1", "X-Request-ID": "r-1", "User-Agent": "curl"}
        assert ask(f"{url}/products/1/count", token, **spoofed) == (200, {"stock": 7})
        created = {"id": [None, 1], "name": [None, "bolt"], "stock": [None, 10]}
        rows = "select action, actor_id, user_id, changes from audit_logs order by id"
        found = eventually(lambda: len(all_of := owner.execute(rows).fetchall()) == 3 and all_of)
        assert found == [
            ("product.created", str(user_id), user_id, created),
            ("stock.adjusted", str(user_id), user_id, {"stock": [10, 7]}),
            ("stock.counted", str(user_id), user_id, None),
        ]
        facts = "select host(ip), request_id, user_agent from audit_logs where action = 'stock.counted'"
        assert owner.execute(facts).fetchone() == ("127.0.0.1", "r-1", "curl")
    assert "stock.adjusted" in project.manage("usersync", "audit", "history", "product/1")
    project.manage("migrate", "shop", "0001")
    with database.connect() as owner:
        assert owner.execute("select to_regnamespace('usersync'), count(*) from users").fetchone() == (
            None,
            1,
        )
