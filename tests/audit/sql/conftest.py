"""The audit log of a project, and further sessions for tests of concurrency."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from sql_log import HOSTILE_TABLE, Log

from audit_settings import with_audit_log
from fixtures_project import NAMES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import psycopg

    from fixtures_project import Project
    from usersync.config.settings import Settings
    from usersync.testing import SupabaseDatabase


@pytest.fixture
def settings(names: str) -> Settings:
    return with_audit_log(NAMES[names][0] | (HOSTILE_TABLE if names == "hostile" else {}))


@pytest.fixture
def log(project: Project, every_isolation_level: str) -> Log:
    project.owner.execute("set statement_timeout = '30s'")  # an unbounded wait fails instead of hanging
    return Log(project)


@pytest.fixture
def session(project: Project) -> Iterator[Callable[[], psycopg.Connection[Any]]]:
    """A function that opens further sessions as the owner. They end with the test."""
    opened = []

    def connect() -> psycopg.Connection[Any]:
        opened.append(project.connect())
        opened[-1].execute("set statement_timeout = '30s'")
        return opened[-1]

    yield connect
    for connection in opened:
        connection.close()


@pytest.fixture
def signed_in(database: SupabaseDatabase) -> Iterator[Callable[..., psycopg.Connection[Any]]]:
    """A function that opens sessions with the claims of a token, as PostgREST does.

    They end with the test.
    """
    opened = []

    def connect(claims: dict[str, Any], role: str = "authenticated") -> psycopg.Connection[Any]:
        opened.append(database.connect(role))
        opened[-1].execute("select set_config('request.jwt.claims', %s, false)", [json.dumps(claims)])
        return opened[-1]

    yield connect
    for connection in opened:
        connection.close()
