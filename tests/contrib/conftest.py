"""An auth server that signs tokens, and a database with usersync, for web applications."""

from __future__ import annotations

import logging
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

import pytest
from auth_server import AuthServer

from audit_settings import with_audit_log
from fixtures_project import clone_installed
from usersync import AuditLog
from usersync.contrib import ensuring
from usersync.testing import GoTrue
from waiting import until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    import psycopg

    from usersync.testing import SupabaseCluster, SupabaseDatabase


@pytest.fixture(autouse=True)
def _patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Requests wait for a row for a minute, and flushes longer, except where a test passes a time limit."""
    init = ensuring._Ensurer.__init__

    def wait_longer(self: Any, timeout: float = ensuring.TIMEOUT_S) -> None:
        init(self, 60.0 if timeout == ensuring.TIMEOUT_S else timeout)

    monkeypatch.setattr(ensuring._Ensurer, "__init__", wait_longer)
    monkeypatch.setattr(AuditLog.flush, "__defaults__", (90.0,))


@pytest.fixture
def auth_server() -> Iterator[AuthServer]:
    with AuthServer() as server:
        yield server


@dataclass(frozen=True)
class Backend:
    """A project: its database, its owner's connection, and its auth server's statements and tokens."""

    database: SupabaseDatabase
    owner: psycopg.Connection[Any]
    auth: GoTrue
    tokens: AuthServer

    @property
    def dsn(self) -> str:
        return self.database.dsn()

    def sign_up(self) -> UUID:
        """A user with a row."""
        return self.auth.sign_up_email()

    def sign_up_unseen(self) -> UUID:
        """A user without a row, as after a restore without triggers."""
        user_id = uuid4()
        with self.database.connect("supabase_admin") as superuser:
            superuser.execute("set session_replication_role = replica")
            superuser.execute(
                "insert into auth.users (id, email, created_at) values (%s, %s, now())",
                [user_id, f"{user_id}@example.com"],
            )
        return user_id

    def has_row(self, user_id: UUID) -> bool:
        found = self.owner.execute("select 1 from public.users where id = %s", [user_id])
        return found.fetchone() is not None

    def bearer(self, user_id: UUID | None = None, **claims: Any) -> dict[str, str]:
        """The headers of a request of this user."""
        return {"Authorization": f"Bearer {self.tokens.token(user_id or self.sign_up(), **claims)}"}

    def events(self) -> list[dict[str, Any]]:
        """All events, in the order in which they were recorded."""
        rows = self.owner.execute("select to_jsonb(log) from public.audit_logs as log order by id").fetchall()
        return [row[0] for row in rows]


@pytest.fixture
def backend(cluster: SupabaseCluster, auth_server: AuthServer, _tidy: None) -> Iterator[Backend]:
    database = clone_installed(cluster, with_audit_log())
    with (
        database.connect() as owner,
        GoTrue(database.dsn("supabase_auth_admin")) as auth,
    ):
        yield Backend(database, owner, auth, auth_server)
    cluster.drop(database)


@pytest.fixture
def audit(backend: Backend, tmp_path: Path) -> Iterator[AuditLog]:
    with AuditLog(backend.dsn, spool_dir=tmp_path / "spool", project="test") as log:
        yield log


@pytest.fixture
def events(audit: AuditLog, backend: Backend) -> Callable[[], list[dict[str, Any]]]:
    """The events, once they are in the database."""

    def read() -> list[dict[str, Any]]:
        assert audit.flush()
        return backend.events()

    return read


@pytest.fixture(name="eventually")
def _eventually() -> Callable[..., Any]:
    return until


@pytest.fixture
def _tidy(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """No thread outlives the test, and only warnings are kept."""
    caplog.set_level(logging.WARNING, "usersync")
    yield
    ours = {"usersync-audit", "usersync-background"}
    until(lambda: not [each for each in threading.enumerate() if each.name in ours])
