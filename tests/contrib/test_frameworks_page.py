"""The blocks of docs/frameworks.md, run as written; and the tests that the page names exist."""

from __future__ import annotations

import asyncio
import io
import logging
import re
import sys
from importlib.metadata import version
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import create_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from audit_settings import with_audit_log
from postgrest_server import SERVICE_KEY
from usersync import AuditLog, UserSync
from usersync.audit.tracking import operations as tracking
from usersync.audit.tracking.state import TrackOptions
from usersync.config.redaction import Redactor
from usersync.contrib.auth import bearer_token
from usersync.transports.run import run

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/frameworks.md").read_text("utf-8")


class Base(DeclarativeBase):
    pass


class Order(Base):
    """The reader's own model."""

    __tablename__ = "orders"
    id: Mapped[int] = mapped_column(primary_key=True)
    search_vector: Mapped[str]


@pytest.fixture
def shown(backend, monkeypatch, tmp_path):
    """A module with the first Python block of a section, or another one."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SUPABASE_URL", backend.tokens.url)
    monkeypatch.setenv("SUPABASE_DB_URL", backend.dsn)
    monkeypatch.setenv("USERSYNC_SPOOL_DIR", str(tmp_path / "spool"))
    module = ModuleType("shown")
    monkeypatch.setitem(sys.modules, "shown", module)

    def run(section, block=0):
        text = PAGE.split(f"\n## {section}\n")[1].split("\n## ")[0]
        code = re.findall(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)[block]
        exec(compile(code, "docs/frameworks.md", "exec"), vars(module))  # noqa: S102 - our own page
        return module

    run.module = module
    yield run
    module.audit.close()


@pytest.mark.newest_server
def test_fastapi(shown, backend):
    page, user_id = shown("FastAPI and Starlette"), backend.sign_up_unseen()
    with TestClient(page.app) as client:
        assert client.get("/whoami").status_code == 401
        assert client.get("/whoami", headers=backend.bearer(user_id)).json() == str(user_id)
        assert client.get("/user-sync/status", headers=backend.bearer(user_id)).status_code == 403
        assert client.get("/audit/events", headers=backend.bearer(user_id)).status_code == 403
        assert page.audit.flush()
        admin = backend.bearer(user_id, app_metadata={"role": "admin"})
        (event,) = client.get("/audit/events", headers=admin).json()["events"]
        assert event["actor_id"] == str(user_id)
    assert [each["actor_id"] for each in backend.events()] == [str(user_id)]


@pytest.mark.newest_server
def test_flask(shown, backend):
    page, user_id = shown("Flask"), backend.sign_up_unseen()
    app = page.create_app()
    assert app.test_client().get("/whoami").status_code == 401
    assert app.test_client().get("/whoami", headers=backend.bearer(user_id)).text == str(user_id)
    assert page.audit.flush()
    assert app.test_client().get("/audit/events", headers=backend.bearer(user_id)).status_code == 403
    admin = backend.bearer(user_id, app_metadata={"role": "admin"})
    (event,) = app.test_client().get("/audit/events", headers=admin).json["events"]
    assert event["actor_id"] == str(user_id)
    assert [each["actor_id"] for each in backend.events()] == [str(user_id)]
    page.users.close(app)


@pytest.mark.newest_server
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of supabase-py's own calls
@pytest.mark.skipif(version("supabase") < "2.34", reason="needs a newer httpx than the lowest")
def test_supabase(serve, shown, backend):
    backend.owner.execute("create table products (id int generated always as identity, name text)")
    backend.owner.execute("grant insert, select on products to service_role")
    run(tracking.track(with_audit_log(), "products", TrackOptions(), Redactor().is_secret), backend.owner)
    user, audit = SimpleNamespace(id=backend.sign_up()), AuditLog(backend.dsn)
    vars(shown.module).update(
        url=serve(backend.database).url, secret_key=SERVICE_KEY, audit=audit, user=user, request_id="r"
    )
    shown("supabase-py").client.postgrest.aclose()
    (event,) = backend.events()
    assert (event["action"], event["actor_id"], event["request_id"]) == (
        "products.inserted",
        str(user.id),
        "r",
    )


@pytest.mark.newest_server
def test_asyncpg(shown, backend, tmp_path):
    backend.owner.execute("create table products (id int primary key, name text)")
    backend.owner.execute("insert into products values (42, 'Bolt')")
    run(tracking.track(with_audit_log(), "products", TrackOptions(), Redactor().is_secret), backend.owner)
    user_id = backend.sign_up()
    vars(shown.module).update(dsn=backend.dsn, audit=AuditLog.recording_only(spool_dir=tmp_path))
    asyncio.run(shown("asyncpg").rename_product(user_id))
    shown.module.audit.close()
    (event,) = backend.events()
    assert (event["changes"], event["user_id"]) == ({"name": ["Bolt", "Nut"]}, str(user_id))
    with TestClient(shown("asyncpg", 1).app) as client:
        assert client.portal.call(shown.module.app.state.pool.fetchval, "select 1") == 1


@pytest.mark.newest_server
def test_any_framework(shown, backend):
    user_id = backend.sign_up_unseen()
    with UserSync(backend.dsn) as sync, AuditLog(backend.dsn) as audit:
        vars(shown.module).update(
            audit=audit, sync=sync, bearer_token=bearer_token, headers=backend.bearer(user_id),
            token=backend.tokens.token(user_id), create_engine=create_engine, Order=Order,
            url=backend.dsn.replace("postgresql://", "postgresql+psycopg://"),
        )  # fmt: skip
        with audit.new_context():
            for section in ("Who is asking", "What a context holds", "SQLAlchemy", "Other frameworks"):
                shown(section)
            audit.record("somebody.asked")
        shown.module.engine.dispose()
        assert audit.flush()
        assert sync.user_exists(user_id)
    assert [each["actor_id"] for each in backend.events()] == [str(user_id)]


def test_log_lines(shown, monkeypatch):
    monkeypatch.setattr(logging.getLogger(), "handlers", [])
    shown.module.audit = AuditLog("postgresql://nobody@127.0.0.1:1/none")
    handler = shown("Traces and log lines").handler
    handler.setStream(io.StringIO())
    with shown.module.audit.context(request_id="r-1"):
        logging.getLogger("shop").error("out of stock")
    assert handler.stream.getvalue() == "ERROR [r-1] out of stock\n"


def test_every_block_is_run():
    blocks = {section.partition("\n")[0]: section.count("\n```") // 2 for section in PAGE.split("\n## ")[1:]}
    assert {section: count for section, count in blocks.items() if count} == {
        "Who is asking": 1, "What a context holds": 1, "FastAPI and Starlette": 1, "Flask": 1,
        "Django": 3,  # tests/contrib/django/test_django_page.py
        "SQLAlchemy": 1, "asyncpg": 2, "supabase-py": 1, "Traces and log lines": 1,
        "Other frameworks": 1,
    }  # fmt: skip


def test_every_test_that_the_page_names_exists():
    files = {path.name: path for path in ROOT.glob("tests/**/test_*.py")}
    texts = "\n".join(path.read_text("utf-8") for path in files.values())
    named = re.findall(r"`(?:tests/[\w/]+/)?(test_\w+(?:\.py)?)`", PAGE)
    assert named
    assert [name for name in named if name not in files and f"def {name}(" not in texts] == []
