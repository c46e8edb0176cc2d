"""A project with a tracked table of products, and SQLAlchemy engines for it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import create_engine, event

from audit_settings import with_audit_log
from fixtures_project import clone_installed
from usersync import AuditLog
from usersync.audit.tracking import operations as tracking
from usersync.audit.tracking.state import TrackOptions
from usersync.config.redaction import Redactor
from usersync.transports.run import run

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    import psycopg
    from sqlalchemy import Engine

    from usersync.testing import SupabaseCluster, SupabaseDatabase


@dataclass(frozen=True)
class Shop:
    """A database with a tracked table of products."""

    database: SupabaseDatabase
    owner: psycopg.Connection[Any]

    def url(self, driver: str = "psycopg", dsn: str | None = None) -> str:
        return (dsn or self.database.dsn()).replace("postgresql://", f"postgresql+{driver}://")

    def events(self, fields: str) -> list[Any]:
        """These fields of all events in their order; single values for one field."""
        rows = self.owner.execute(
            f"select {fields} from public.audit_logs order by occurred_at, id"
        ).fetchall()
        return [row[0] for row in rows] if rows and len(rows[0]) == 1 else rows

    def actors(self) -> list[tuple[str, str]]:
        """Of each event: the action, the product, the actor."""
        return self.events("changes -> 'name' ->> 1, actor_id")


@pytest.fixture
def shop_database(cluster: SupabaseCluster) -> Iterator[SupabaseDatabase]:
    database = clone_installed(cluster, with_audit_log())
    yield database
    cluster.drop(database)


@pytest.fixture
def shop(shop_database: SupabaseDatabase) -> Iterator[Shop]:
    with shop_database.connect() as owner:
        owner.execute(
            "create table public.products (id int generated always as identity primary key, "
            "name text not null, stock int not null default 0)"
        )
        plan = tracking.track(with_audit_log(), "public.products", TrackOptions(), Redactor().is_secret)
        run(plan, owner)
        yield Shop(shop_database, owner)


@pytest.fixture
def audit(tmp_path: Path) -> Iterator[AuditLog]:
    """A log that only records, in the transactions of its callers."""
    with AuditLog.recording_only(spool_dir=tmp_path, exit_timeout=0) as log:
        yield log


@pytest.fixture
def make_engine(shop: Shop) -> Iterator[Callable[..., Engine]]:
    """Create an engine; it is disposed of at the end of the test."""
    engines: list[Engine] = []

    def make(url: str | None = None, **options: Any) -> Engine:
        engines.append(create_engine(url or shop.url(), **options))
        return engines[-1]

    yield make
    for engine in engines:
        engine.dispose()


@pytest.fixture
def statements() -> Callable[[Engine], list[str]]:
    """The statements of an engine from here on, except those that begin and end transactions."""

    def listen(engine: Engine) -> list[str]:
        sent: list[str] = []
        event.listen(engine, "before_cursor_execute", lambda *given: sent.append(given[2]))
        return sent

    return listen
