"""Where the demo plays: a PostgreSQL of its own, the auth server, and an inventory application."""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from importlib.resources import files
from typing import TYPE_CHECKING, Any

import psycopg
from psycopg import sql
from psycopg.rows import dict_row

from usersync.client import UserSync
from usersync.connecting import describe_target
from usersync.embedded import EmbeddedPostgres
from usersync.errors import UsersyncError
from usersync.settings import parse_settings
from usersync.testing.gotrue import GoTrue
from usersync.testing.shape import (
    SupabaseCluster,
    SupabaseDatabase,
    create_supabase_database,
    shape_database,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from uuid import UUID

DATABASE = "demo"
_COMPLETE = "usersync demo: complete"

# The commit timestamp shows that two rows were written in one transaction.
_SERVER = {"fsync": "off", "synchronous_commit": "off", "track_commit_timestamp": "on"}

#: What usersync.toml of the demo's application would say.
SETTINGS = parse_settings(
    {
        "columns": {
            "email": "email",
            "full_name": {"from": ["user_metadata.full_name", "user_metadata.name"]},
            "is_anonymous": "is_anonymous",
            "deleted_at": "deleted_at",
        }
    }
)


class DemoFailedError(UsersyncError):
    """A step of the demo did not turn out as it is told."""


def expect(condition: object, told: str) -> None:
    """Raise :class:`DemoFailedError` unless what is told is so."""
    if not condition:
        raise DemoFailedError(f"the demo did not turn out as told: expected that {told}")


class Stage:
    """Everybody who acts in the demo."""

    def __init__(
        self,
        server_version: int,
        database: SupabaseDatabase,
        auth: GoTrue,
        owner: psycopg.Connection[Any],
        client: UserSync,
    ) -> None:
        self.server_version = server_version
        self.database = database
        self.auth = auth
        self.owner = owner
        self.client = client
        self.people: dict[str, UUID] = {}

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
        self.owner.execute(files("usersync.cli.demo").joinpath(name).read_bytes())

    def take_bolts(self, user_id: UUID, number: int) -> None:
        """The inventory operation: the stock and its audit row, in one transaction."""
        with self.owner.transaction():
            self.rows("update public.products set stock = stock - %s where id = 1", number)
            self.rows(
                "insert into public.audit_logs (user_id, action, detail) values (%s, 'stock.adjusted', %s)",
                user_id,
                f"bolt M8: -{number}",
            )

    @property
    def stock(self) -> int:
        return int(self.value("select stock from public.products"))

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
        server = stack.enter_context(EmbeddedPostgres(directory, settings=_SERVER))
        cluster = stack.enter_context(SupabaseCluster.on(server))
        database = SupabaseDatabase(DATABASE, cluster.host, cluster.port, cluster.passwords)
        complete = _is_complete(cluster)
        if not complete:
            _build(cluster, database)
        yield (
            Stage(
                server.version,
                database,
                stack.enter_context(GoTrue(database.dsn("supabase_auth_admin"))),
                stack.enter_context(database.connect(prepare_threshold=None)),
                stack.enter_context(UserSync(database.dsn())),
            ),
            complete,
        )
        if not complete:
            _mark_complete(cluster)


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


def _mark_complete(cluster: SupabaseCluster) -> None:
    statement = sql.SQL("comment on database {} is {}")
    cluster.maintenance.execute(statement.format(sql.Identifier(DATABASE), sql.Literal(_COMPLETE)))
