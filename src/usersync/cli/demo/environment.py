"""The environment of the demo: an embedded PostgreSQL, the auth server, and an inventory application.

The application is ``examples/inventory`` of the repository. This package contains it as ``inventory``.
"""

from __future__ import annotations

import logging
from contextlib import ExitStack, contextmanager
from importlib.resources import as_file, files
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from psycopg import sql
from psycopg.rows import dict_row

from usersync.audit import AuditLog
from usersync.cli.demo.inventory import app, handwritten
from usersync.client import UserSync
from usersync.config.dsn import describe_target
from usersync.config.settings import load_settings
from usersync.embedded import EmbeddedPostgres, without_libpq_variables
from usersync.errors import UsersyncError
from usersync.gotrue import GoTrue
from usersync.testing.shape import (
    SupabaseCluster,
    SupabaseDatabase,
    create_supabase_database,
    shape_database,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from uuid import UUID

    from usersync.config.settings import Settings

DATABASE = "demo"
_COMPLETE = "usersync demo: complete"

# The commit timestamp shows that two rows were written in one transaction.
_SERVER = {"fsync": "off", "synchronous_commit": "off", "track_commit_timestamp": "on"}

_HERE = files("usersync.cli.demo")


def _settings() -> Settings:
    with as_file(_HERE.joinpath("inventory/usersync.toml")) as path:
        return load_settings(path)


#: The settings of the application's usersync.toml.
SETTINGS = _settings()


class DemoFailedError(UsersyncError):
    """A step of the demo had an unexpected result."""


def expect(condition: object, expectation: str) -> None:
    """Raise ``DemoFailedError`` if the condition is false."""
    if not condition:
        raise DemoFailedError(f"a step of the demo had an unexpected result: expected that {expectation}")


class DemoEnvironment:
    """The server, the auth server, the application and its audit log."""

    def __init__(self, server: EmbeddedPostgres, database: SupabaseDatabase, spool_dir: Path) -> None:
        self.server = server
        self.server_version = server.version
        self.database = database
        self.spool_dir = spool_dir
        self.people: dict[str, UUID] = {}
        #: The application's audit log: at first the hand-written log, later the log of usersync.
        self.audit: Any = handwritten.HandWrittenLog()
        self._connect()

    def _connect(self) -> None:
        self.auth = GoTrue(self.database.dsn("supabase_auth_admin"))
        self.owner = self.database.connect(prepare_threshold=None)
        self.client = UserSync(self.url)

    def close(self) -> None:
        """Close the audit log and all connections."""
        if isinstance(self.audit, AuditLog):
            self.audit.close(timeout=1)
        self._disconnect()

    def _disconnect(self) -> None:
        self.client.close()
        self.owner.close()
        self.auth.close()

    def stop_server(self) -> None:
        """Stop the database server."""
        self._disconnect()
        self.server.stop()

    def start_server(self) -> None:
        """Start the database server."""
        self.server.start()
        self._connect()

    @property
    def url(self) -> str:
        """The connection string for psql, with the password: the server is the demo's own."""
        return self.database.dsn()

    @property
    def target(self) -> str:
        """Host, port and database, without the password."""
        return describe_target(self.url)

    def rows(self, statement: str, *params: object) -> list[dict[str, Any]]:
        """Run a statement as ``postgres``, the application's owner."""
        with self.owner.cursor(row_factory=dict_row) as cursor:
            cursor.execute(statement.encode(), params)
            return cursor.fetchall() if cursor.description else []

    def value(self, statement: str, *params: object) -> Any:
        """The one value that a query returns."""
        return next(iter(self.rows(statement, *params)[0].values()))

    def script(self, name: str) -> None:
        """Run a script of this package."""
        self.owner.execute(_HERE.joinpath(name).read_bytes())

    def use_audit_log(self) -> None:
        """Switch the application's audit log to usersync."""
        # The demo reports the outage itself, without the library's warnings.
        logging.getLogger("usersync.audit").addHandler(logging.NullHandler())
        self.audit = AuditLog(self.url, spool_dir=self.spool_dir, project="inventory")

    def take_bolts(self, person: str, number: int) -> None:
        """Change the stock, record the movement and the audit event, in one transaction."""
        with self.audit.context(actor_id=self.people[person]):
            app.adjust_stock(self.owner, self.audit, 1, -number)

    def count_bolts(self, person: str, times: int) -> list[str | None]:
        """Record one event for each scan at the shelf. Return the ids of the accepted events."""
        with self.audit.context(actor_id=self.people[person]):
            return [app.report_count(self.audit, 1, each) for each in range(times)]

    @property
    def stock(self) -> int:
        return int(app.list_products(self.owner)[0]["stock"])

    def counts(self) -> tuple[int, int]:
        """The number of rows in auth.users and in public.users."""
        row = self.rows(
            "select (select count(*) from auth.users) as a, (select count(*) from public.users) as b"
        )
        return row[0]["a"], row[0]["b"]


@contextmanager
def open_environment(directory: Path | None) -> Iterator[tuple[DemoEnvironment, bool]]:
    """Start the server. Yield the environment, and whether the directory has a complete demo already."""
    with ExitStack() as stack:
        stack.enter_context(without_libpq_variables())
        server = stack.enter_context(EmbeddedPostgres(directory, settings=_SERVER))
        cluster = stack.enter_context(SupabaseCluster.on(server))
        database = SupabaseDatabase(DATABASE, cluster.host, cluster.port, cluster.passwords)
        complete = _is_complete(cluster)
        if not complete:
            _build(cluster, database)
        spool_dir = Path(stack.enter_context(TemporaryDirectory(prefix="usersync-demo-")))
        env = DemoEnvironment(server, database, spool_dir)
        stack.callback(env.close)
        yield env, complete
        if not complete:
            _mark_complete(database)


def _build(cluster: SupabaseCluster, database: SupabaseDatabase) -> None:
    cluster.drop(database)  # of a demo that was interrupted
    create_supabase_database(cluster.maintenance, database.name)
    with database.connect("supabase_admin") as superuser:
        shape_database(superuser)


def _is_complete(cluster: SupabaseCluster) -> bool:
    found = cluster.maintenance.execute(
        "select shobj_description(oid, 'pg_database') from pg_database where datname = %s", [DATABASE]
    ).fetchone()
    return found is not None and found[0] == _COMPLETE


def _mark_complete(database: SupabaseDatabase) -> None:
    statement = sql.SQL("comment on database {} is {}")
    with database.connect("supabase_admin") as superuser:
        superuser.execute(statement.format(sql.Identifier(DATABASE), sql.Literal(_COMPLETE)))
