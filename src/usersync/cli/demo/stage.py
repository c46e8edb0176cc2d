"""Where the demo plays: a PostgreSQL of its own, the auth server, and an inventory application.

The application is ``examples/inventory`` of the repository, which lies in this package as ``inventory``.
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


#: What the application's usersync.toml says.
SETTINGS = _settings()


class DemoFailedError(UsersyncError):
    """A step of the demo did not turn out as it is told."""


def expect(condition: object, told: str) -> None:
    """Raise ``DemoFailedError`` unless what is told is so."""
    if not condition:
        raise DemoFailedError(f"the demo did not turn out as told: expected that {told}")


class Stage:
    """Everybody who acts in the demo."""

    def __init__(self, server: EmbeddedPostgres, database: SupabaseDatabase, spool_dir: Path) -> None:
        self.server = server
        self.server_version = server.version
        self.database = database
        self.spool_dir = spool_dir
        self.people: dict[str, UUID] = {}
        #: The application's audit log: written by hand at first.
        self.audit: Any = handwritten.HandWrittenLog()
        self._connect()

    def _connect(self) -> None:
        self.auth = GoTrue(self.database.dsn("supabase_auth_admin"))
        self.owner = self.database.connect(prepare_threshold=None)
        self.client = UserSync(self.url)

    def close(self) -> None:
        """Let go of everything."""
        if isinstance(self.audit, AuditLog):
            self.audit.close(timeout=1)
        self._disconnect()

    def _disconnect(self) -> None:
        self.client.close()
        self.owner.close()
        self.auth.close()

    def stop_server(self) -> None:
        """Take the database away."""
        self._disconnect()
        self.server.stop()

    def start_server(self) -> None:
        """Bring the database back."""
        self.server.start()
        self._connect()

    @property
    def url(self) -> str:
        """The address for psql; the server, its password included, is the demo's own."""
        return self.database.dsn()

    @property
    def target(self) -> str:
        """Where it is, without the password."""
        return describe_target(self.url)

    def rows(self, statement: str, *params: object) -> list[dict[str, Any]]:
        """Ask as ``postgres``, the application's owner."""
        with self.owner.cursor(row_factory=dict_row) as cursor:
            cursor.execute(statement.encode(), params)
            return cursor.fetchall() if cursor.description else []

    def value(self, statement: str, *params: object) -> Any:
        """The one value that a query returns."""
        return next(iter(self.rows(statement, *params)[0].values()))

    def script(self, name: str) -> None:
        """Run a script that lies beside this module."""
        self.owner.execute(_HERE.joinpath(name).read_bytes())

    def use_audit_log(self) -> None:
        """From now on the application records with usersync."""
        # It warns in the log while the database is away, and the demo tells of that itself.
        logging.getLogger("usersync.audit").addHandler(logging.NullHandler())
        self.audit = AuditLog(self.url, spool_dir=self.spool_dir, project="inventory")

    def take_bolts(self, person: str, number: int) -> None:
        """The inventory's operation: the stock, its movement and the audit event, in one transaction."""
        with self.audit.context(actor_id=self.people[person]):
            app.adjust_stock(self.owner, self.audit, 1, -number)

    def count_bolts(self, person: str, times: int) -> list[str | None]:
        """Scans at the shelf, which are events and nothing else; the ids of those that were accepted."""
        with self.audit.context(actor_id=self.people[person]):
            return [app.report_count(self.audit, 1, each) for each in range(times)]

    @property
    def stock(self) -> int:
        return int(app.list_products(self.owner)[0]["stock"])

    def counts(self) -> tuple[int, int]:
        """How many users there are in auth.users and in public.users."""
        row = self.rows(
            "select (select count(*) from auth.users) as a, (select count(*) from public.users) as b"
        )
        return row[0]["a"], row[0]["b"]


@contextmanager
def open_stage(directory: Path | None) -> Iterator[tuple[Stage, bool]]:
    """Start the server; yield the stage, and whether a demo that was kept here is complete."""
    with ExitStack() as stack:
        stack.enter_context(without_libpq_variables())
        server = stack.enter_context(EmbeddedPostgres(directory, settings=_SERVER))
        cluster = stack.enter_context(SupabaseCluster.on(server))
        database = SupabaseDatabase(DATABASE, cluster.host, cluster.port, cluster.passwords)
        complete = _is_complete(cluster)
        if not complete:
            _build(cluster, database)
        spool_dir = Path(stack.enter_context(TemporaryDirectory(prefix="usersync-demo-")))
        stage = Stage(server, database, spool_dir)
        stack.callback(stage.close)
        yield stage, complete
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
