"""Fixtures for tests of AuditLog: a database, audit logs, and a proxy between them."""

from __future__ import annotations

import logging
import threading
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from audit_settings import with_audit_log
from fixtures_project import clone_installed
from proxy import Proxy
from usersync import AuditLog
from waiting import until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    import psycopg

    from usersync.testing import SupabaseCluster, SupabaseDatabase


@dataclass(frozen=True)
class Store:
    """The database that receives events, and its content."""

    database: SupabaseDatabase
    owner: psycopg.Connection[Any]

    @property
    def dsn(self) -> str:
        return self.database.dsn()

    def ids(self) -> list[str]:
        """The ids of all events, in no order. An id that is stored twice is listed twice."""
        return [str(row[0]) for row in self.owner.execute("select id from public.audit_logs").fetchall()]

    def events(self) -> list[dict[str, Any]]:
        rows = self.owner.execute("select to_jsonb(log) from public.audit_logs as log order by id").fetchall()
        return [row[0] for row in rows]

    def event(self) -> dict[str, Any]:
        """The only event."""
        (event,) = self.events()
        assert event["db_role"] == "postgres"
        return event


@pytest.fixture
def audit_database(cluster: SupabaseCluster) -> Iterator[SupabaseDatabase]:
    database = clone_installed(cluster, with_audit_log())
    yield database
    cluster.drop(database)


@pytest.fixture
def store(audit_database: SupabaseDatabase) -> Iterator[Store]:
    with audit_database.connect() as owner:
        yield Store(audit_database, owner)


@pytest.fixture
def spool_dir(tmp_path: Path) -> Path:
    return tmp_path / "spool"


@pytest.fixture
def make_log(spool_dir: Path) -> Iterator[Callable[..., AuditLog]]:
    """A function that creates a log with its spool in ``spool_dir``.

    The log is closed at the end of the test.
    """
    with ExitStack() as logs:

        def make(source: Any = None, **options: Any) -> AuditLog:
            options = {"spool_dir": spool_dir, "project": "test", **options}
            log = AuditLog.recording_only(**options) if source is None else AuditLog(source, **options)
            logs.callback(log.close, timeout=0.2)
            return log

        yield make


@pytest.fixture
def log(store: Store, make_log: Callable[..., AuditLog]) -> AuditLog:
    return make_log(store.dsn)


@pytest.fixture
def offline(make_log: Callable[..., AuditLog]) -> AuditLog:
    """A log that only records."""
    return make_log(None)


@pytest.fixture
def proxy(store: Store) -> Iterator[Proxy]:
    with Proxy(store.database.host, store.database.port) as proxy:
        yield proxy


@pytest.fixture(name="eventually")
def _eventually() -> Callable[..., Any]:
    return until


@pytest.fixture(autouse=True)
def _no_writer_left() -> Iterator[None]:
    yield
    until(lambda: not [each for each in threading.enumerate() if each.name == "usersync-audit"])


@pytest.fixture(autouse=True)
def _patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a slow machine, events may take longer than the ten seconds for which applications wait."""
    monkeypatch.setattr(AuditLog.flush, "__defaults__", (90.0,))


@pytest.fixture(autouse=True)
def _no_unexpected_warnings(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, "usersync.audit")


@pytest.fixture
def audit_enabled() -> bool:
    return True
