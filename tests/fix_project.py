"""A project with usersync in it: the database, the auth server, and questions about users.

Every test that asks for ``project`` runs on each PostgreSQL, and once more under hostile names.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from uuid import UUID

import psycopg
import pytest
from psycopg import sql
from psycopg.rows import dict_row
from psycopg.types.uuid import UUIDDumper

from fix_lacking import skip_without
from logged import logged
from usersync import UserSync
from usersync.config.mapping import DEFAULT_COLUMNS
from usersync.config.settings import Settings, parse_settings
from usersync.testing import GoTrue
from usersync.testing.install import install

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from usersync.models import Failure
    from usersync.testing import Regime, SupabaseCluster, SupabaseDatabase

#: What each column of the default mapping is called under hostile names: quotes, keywords, dots, spaces,
#: names of variables in our own functions, 63 bytes.
HOSTILE_COLUMNS = {
    "email": 'e"mail',
    "phone": "ids",
    "full_name": "full; drop table x --",
    "avatar_url": "ünï.cödé",
    "is_anonymous": "select",
    "email_confirmed_at": "user_id",
    "phone_confirmed_at": "c" * 63,
    "banned_until": "reason",
    "created_at": "source",
    "deleted_at": "it's",
}

CITEXT_SCHEMA = '"ext""ensions"'

NAMES = {
    "plain": ({}, {name: name for name in DEFAULT_COLUMNS}),
    "hostile": (
        {
            "users_table": '"we""ird; schema"."us.ers \'x"',
            "key": "key",
            "columns": {HOSTILE_COLUMNS[name]: source for name, source in DEFAULT_COLUMNS.items()},
        },
        HOSTILE_COLUMNS,
    ),
    # Keys that hold the id as text.
    "text": ({"key_type": "text"}, {name: name for name in DEFAULT_COLUMNS}),
    "varchar": (
        {"users_table": 'public."User"', "key": "authId", "key_type": "varchar(36)"},
        {name: name for name in DEFAULT_COLUMNS},
    ),
    "citext": (
        {"key_type": f"{CITEXT_SCHEMA}.citext"},
        {name: name for name in DEFAULT_COLUMNS},
    ),
}


class _AsText(UUIDDumper):
    """A UUID of which PostgreSQL finds out the type, as of a literal."""

    oid = 0

    def dump(self, obj: UUID) -> bytes:
        return str(obj).encode()


def add_citext(database: SupabaseDatabase) -> None:
    """Make citext in a schema whose name has to be quoted; skips the test where the server lacks it."""
    with database.connect("supabase_admin") as superuser:
        available = "select from pg_available_extensions where name = 'citext'"
        if not superuser.execute(available).rowcount:
            skip_without("citext")
        superuser.execute(
            f"create schema {CITEXT_SCHEMA}; grant usage on schema {CITEXT_SCHEMA} to public; "
            f"create extension citext schema {CITEXT_SCHEMA}"
        )


@dataclass(frozen=True)
class Project:
    """A database with usersync installed, and everybody who works with it."""

    database: SupabaseDatabase
    settings: Settings
    columns: dict[str, str]
    auth: GoTrue
    #: Autocommit, as ``postgres``.
    owner: psycopg.Connection[Any]
    client: UserSync

    def connect(self) -> psycopg.Connection[Any]:
        """One more session as ``postgres``."""
        return _speaking(self.settings, self.database.connect("postgres"))

    @property
    def users(self) -> str:
        """The users table, quoted."""
        return self.settings.users_table.quoted

    def column(self, name: str) -> str:
        """A column of the default mapping under its name here, quoted."""
        return '"' + self.columns[name].replace('"', '""') + '"'

    def row(self, user_id: UUID) -> dict[str, Any] | None:
        """The user's row under the names of the default mapping, the key as ``id``; None if there is none."""
        statement = sql.SQL("select * from {} where {} = %s").format(
            sql.Identifier(self.settings.users_table.schema, self.settings.users_table.name),
            sql.Identifier(self.settings.key),
        )
        with self.owner.cursor(row_factory=dict_row) as cursor:
            found = cursor.execute(statement, [user_id]).fetchone()
        if found is None:
            return None
        usual = {here: name for name, here in self.columns.items()} | {self.settings.key: "id"}
        row = {usual.get(here, here): value for here, value in found.items()}
        return row | {"id": UUID(str(row["id"]))}

    def failure(self, user_id: UUID) -> Failure | None:
        """What the failures table says of the user."""
        return next((each for each in self.client.failures() if each.user_id == user_id), None)


@pytest.fixture
def names(request: pytest.FixtureRequest) -> str:
    return getattr(request, "param", "plain")


@pytest.fixture
def isolation(request: pytest.FixtureRequest) -> str:
    """The isolation level that each session's transactions have, unless they say otherwise."""
    return getattr(request, "param", "read committed")


@pytest.fixture
def every_isolation_level(isolation: str) -> str:
    """For a test that runs on each level, on the newest server."""
    return isolation


@pytest.fixture
def asks_for_log() -> bool:
    """Whether the settings ask for an audit log; a directory or a module may override this fixture."""
    return False


@pytest.fixture
def settings(names: str, asks_for_log: bool) -> Settings:
    """The settings that usersync is installed with; a module or a test may override this fixture."""
    return (logged if asks_for_log else parse_settings)(NAMES[names][0])


@pytest.fixture
def project(cluster: SupabaseCluster, names: str, settings: Settings, isolation: str) -> Iterator[Project]:
    """A project of the test's own, in which usersync was just installed."""
    database = clone_installed(cluster, settings)
    if isolation != "read committed":
        statement = sql.SQL("alter database {} set default_transaction_isolation = {}")
        cluster.maintenance.execute(statement.format(sql.Identifier(database.name), sql.Literal(isolation)))
    with (
        GoTrue(database.dsn("supabase_auth_admin")) as auth,
        database.connect("postgres") as owner,
        UserSync(database.dsn()) as client,
    ):
        yield Project(database, settings, NAMES[names][1], auth, _speaking(settings, owner), client)
    cluster.drop(database)


def _speaking(settings: Settings, connection: psycopg.Connection[Any]) -> psycopg.Connection[Any]:
    if not settings.key_type.is_uuid:
        connection.adapters.register_dumper(UUID, _AsText)
    return connection


def clone_installed(
    cluster: SupabaseCluster, settings: Settings, sql: str = "", *, regime: Regime = "old"
) -> SupabaseDatabase:
    """A new database in which ``postgres`` ran ``sql``, and then installed usersync with ``settings``.

    The caller drops it. An installation takes ten times as long as a clone, so the first call with these
    arguments makes a template, for all processes of the run.
    """

    def build(database: SupabaseDatabase) -> None:
        if settings.key_type.schema is not None:
            add_citext(database)
        if sql:
            with database.connect() as owner:
                owner.execute(sql)
        install(database, settings)

    made_with = repr((settings, sql, regime)).encode()
    name = f"installed_{hashlib.sha256(made_with).hexdigest()[:16]}"
    return cluster.clone(cluster.template(name, regime=regime, build=build))


@pytest.fixture
def vanish(project: Project) -> Callable[..., None]:
    """Delete users with triggers off, as a restore would."""

    def delete(*user_ids: Any) -> None:
        with project.database.connect("supabase_admin") as superuser:
            superuser.execute("set session_replication_role = replica")
            superuser.execute("delete from auth.users where id = any(%s)", [list(user_ids)])

    return delete


@pytest.fixture
def appear(project: Project) -> Callable[[int], list[Any]]:
    """Make users with triggers off, as a restore would, and return their ids."""

    def insert(count: int) -> list[Any]:
        with project.database.connect("supabase_admin") as superuser:
            superuser.execute("set session_replication_role = replica")
            rows = superuser.execute(
                "insert into auth.users (id, email, created_at) "
                "select gen_random_uuid(), n || '@example.com', now() "
                "from generate_series(1, %s) as n returning id",
                [count],
            ).fetchall()
        return sorted(row[0] for row in rows)

    return insert
