"""What docs/frameworks.md shows, run as it is shown; and that what it says is tested is."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from types import ModuleType

import pytest
from fastapi.testclient import TestClient

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/frameworks.md").read_text("utf-8")


@pytest.fixture
def shown(backend, monkeypatch, tmp_path):
    """A module with the first piece of Python of a section in it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SUPABASE_URL", backend.tokens.url)
    monkeypatch.setenv("SUPABASE_DB_URL", backend.dsn)
    monkeypatch.setenv("USERSYNC_SPOOL_DIR", str(tmp_path / "spool"))
    module = ModuleType("shown")
    monkeypatch.setitem(sys.modules, "shown", module)

    def run(section):
        text = PAGE.split(f"\n## {section}\n")[1].split("\n## ")[0]
        code = re.search(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)[1]
        exec(compile(code, "docs/frameworks.md", "exec"), vars(module))  # noqa: S102 - our own page
        return module

    yield run
    module.audit.close()


@pytest.mark.newest_server
def test_fastapi(shown, backend):
    page, user_id = shown("FastAPI and Starlette"), backend.sign_up_unseen()
    with TestClient(page.app) as client:
        assert client.get("/whoami").status_code == 401
        assert client.get("/whoami", headers=backend.bearer(user_id)).json() == str(user_id)
        assert client.get("/user-sync/status", headers=backend.bearer(user_id)).status_code == 403
    assert [each["actor_id"] for each in backend.events()] == [str(user_id)]


@pytest.mark.newest_server
def test_flask(shown, backend):
    page, user_id = shown("Flask"), backend.sign_up_unseen()
    app = page.create_app()
    assert app.test_client().get("/whoami").status_code == 401
    assert app.test_client().get("/whoami", headers=backend.bearer(user_id)).text == str(user_id)
    assert page.audit.flush()
    assert [each["actor_id"] for each in backend.events()] == [str(user_id)]
    page.users.close(app)


def test_every_test_that_the_page_names_exists():
    files = {path.name: path for path in ROOT.glob("tests/**/test_*.py")}
    texts = "\n".join(path.read_text("utf-8") for path in files.values())
    named = re.findall(r"`(?:tests/[\w/]+/)?(test_\w+(?:\.py)?)`", PAGE)
    assert named
    assert [name for name in named if name not in files and f"def {name}(" not in texts] == []
