"""A fixture that plans, applies and rolls back the schema."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from audit_settings import with_audit_log
from fixtures_project import clone_installed
from usersync.schema import installation
from usersync.transports.run import run

if TYPE_CHECKING:
    from collections.abc import Iterator

    import psycopg

    from usersync.config.settings import Settings
    from usersync.models import SchemaPlan
    from usersync.testing import SupabaseCluster, SupabaseDatabase


class Schema:
    """The schema runner, over one connection as ``postgres``."""

    def __init__(self, connection: psycopg.Connection[Any], dsn: str) -> None:
        self.connection = connection
        self.dsn = dsn

    def plan(self, settings: Settings) -> SchemaPlan:
        return run(installation.plan(settings), self.connection)

    def apply(self, settings: Settings) -> SchemaPlan:
        return run(installation.apply(settings), self.connection)

    def rollback(self, settings: Settings, **options: Any) -> SchemaPlan:
        return run(installation.rollback(settings, **options), self.connection)

    def subjects(self, settings: Settings) -> list[str]:
        """The kind and the subject of each planned change."""
        return [f"{change.kind} {change.subject}" for change in self.plan(settings).changes]


@pytest.fixture
def installer(database: SupabaseDatabase) -> Iterator[Schema]:
    with database.connect("postgres") as connection:
        yield Schema(connection, database.dsn())


@pytest.fixture
def installed(cluster: SupabaseCluster) -> Iterator[Schema]:
    """The schema runner for a database where usersync is installed with the audit log."""
    database = clone_installed(cluster, with_audit_log())
    with database.connect("postgres") as connection:
        yield Schema(connection, database.dsn())
    cluster.drop(database)
