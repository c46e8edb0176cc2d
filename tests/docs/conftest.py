"""The projects and the environment in which the code blocks of the documentation run."""

from __future__ import annotations

import os
from collections import deque

import pytest
from procedure_pages import Procedure, blocks, build, test_name

from auth_stand_in import AuthServer
from hooks_skips import skip_without
from usersync import UserSync


@pytest.fixture
def database(cluster, regime):
    """A project with usersync and a few tables of an application."""
    database = cluster.clone(cluster.template(f"procedures_{regime}", regime=regime, build=build))
    yield database
    cluster.drop(database)


@pytest.fixture
def sync(database):
    with UserSync(database.dsn()) as sync:
        yield sync


@pytest.fixture
def shell(database, server, monkeypatch, tmp_path):
    """An empty directory, an environment with the connection string, and PostgreSQL's programs."""
    for variable in ("DATABASE_URL", "SUPABASE_URL", "SUPABASE_SECRET_KEY", "SUPABASE_SERVICE_ROLE_KEY"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("SUPABASE_DB_URL", database.dsn())
    monkeypatch.setenv("USERSYNC_SPOOL_DIR", str(tmp_path / "spool"))
    monkeypatch.setenv("PATH", f"{server.bin_dir}:{os.environ['PATH']}")
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def procedure(database, shell, capsys, request):
    """The section of the page with the name of this test. Fails if the test does not run every block."""
    name = request.node.function.__name__
    (text,) = [text for heading, text in request.module.SECTIONS.items() if test_name(heading) == name]
    with AuthServer(database, "secret") as auth_server:
        procedure = Procedure(deque(blocks(text)), database, auth_server, capsys)
        yield procedure
    assert not procedure.blocks


@pytest.fixture
def dumps(server):
    if not (server.bin_dir / "pg_dump").exists():
        skip_without("pg_dump", f"none in {server.bin_dir}")


@pytest.fixture
def other_project(cluster, regime):
    """A second project, which is empty."""
    database = cluster.create(regime=regime)
    yield database
    cluster.drop(database)
