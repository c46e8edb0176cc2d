"""A project with usersync installed: its database, its auth server, and helpers that read users.

``fixtures_servers.py`` says on which PostgreSQL versions a test with ``project`` runs. One in three also
runs with hostile names of tables and columns: with quotes, keywords, dots or spaces.
"""

from __future__ import annotations

import hashlib
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from uuid import UUID

import psycopg
import pytest
from psycopg import sql
from psycopg.rows import dict_row
from psycopg.types.uuid import UUIDDumper

from audit_settings import with_audit_log
from hooks_skips import skip_without
from usersync import UserSync
from usersync.config.mapping import DEFAULT_COLUMNS
from usersync.config.settings import Settings, parse_settings
from usersync.testing import GoTrue
from usersync.testing.install import install

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from usersync.models import Failure
    from usersync.testing import Regime, SupabaseCluster, SupabaseDatabase

#: The hostile name of each column of the default mapping: quotes, keywords, dots, spaces, names of variables
#: in usersync's functions, and a length of 63 bytes.
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
    # Key columns that store the id as text.
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
    """Sends a UUID without a type, so that PostgreSQL infers the type as for a literal."""

    oid = 0

    def dump(self, obj: UUID) -> bytes:
        return str(obj).encode()


def add_citext(database: SupabaseDatabase) -> None:
    """Create the extension citext in a schema whose name needs quotes.

    Skips the test if the server lacks citext.
    """
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
    """A database with usersync installed, with the auth server, the owner's connection and a client."""

    database: SupabaseDatabase
    settings: Settings
    columns: dict[str, str]
    auth: GoTrue
    #: Autocommit, as ``postgres``.
    owner: psycopg.Connection[Any]
    client: UserSync

    def connect(self) -> psycopg.Connection[Any]:
        """Open another connection as ``postgres``."""
        return _with_key_dumper(self.settings, self.database.connect("postgres"))

    @property
    def users(self) -> str:
        """The quoted name of the users table."""
        return self.settings.users_table.quoted

    def column(self, name: str) -> str:
        """The quoted name that a column of the default mapping has in this project."""
        return '"' + self.columns[name].replace('"', '""') + '"'

    def row(self, user_id: UUID) -> dict[str, Any] | None:
        """The user's row with the column names of the default mapping and the key as ``id``.

        None without a row.
        """
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
        """The user's row in the failures table, or None."""
        return next((each for each in self.client.failures() if each.user_id == user_id), None)


@pytest.fixture
def names(request: pytest.FixtureRequest) -> str:
    return getattr(request, "param", "plain")


@pytest.fixture
def isolation(request: pytest.FixtureRequest) -> str:
    """The default isolation level of each session."""
    return getattr(request, "param", "read committed")


@pytest.fixture
def every_isolation_level(isolation: str) -> str:
    """For tests that run at each isolation level, on the newest server."""
    return isolation


@pytest.fixture
def audit_enabled() -> bool:
    """Whether the settings enable the audit log. A directory or a module may override this fixture."""
    return False


@pytest.fixture
def settings(names: str, audit_enabled: bool) -> Settings:
    """The settings that usersync is installed with. A module or a test may override this fixture."""
    return (with_audit_log if audit_enabled else parse_settings)(NAMES[names][0])


@pytest.fixture
def project(cluster: SupabaseCluster, names: str, settings: Settings, isolation: str) -> Iterator[Project]:
    """A project for this test alone, in which usersync was just installed."""
    database = clone_installed(cluster, settings)
    if isolation != "read committed":
        statement = sql.SQL("alter database {} set default_transaction_isolation = {}")
        cluster.maintenance.execute(statement.format(sql.Identifier(database.name), sql.Literal(isolation)))
    with opened(database, settings, names) as project:
        yield project
    cluster.drop(database)


@contextmanager
def opened(database: SupabaseDatabase, settings: Settings, names: str) -> Iterator[Project]:
    """The project in a database in which usersync is installed with these settings."""
    with (
        GoTrue(database.dsn("supabase_auth_admin")) as auth,
        database.connect("postgres") as owner,
        UserSync(database.dsn()) as client,
    ):
        yield Project(database, settings, NAMES[names][1], auth, _with_key_dumper(settings, owner), client)


def _with_key_dumper(settings: Settings, connection: psycopg.Connection[Any]) -> psycopg.Connection[Any]:
    if not settings.key_type.is_uuid:
        connection.adapters.register_dumper(UUID, _AsText)
    return connection


def clone_installed(
    cluster: SupabaseCluster, settings: Settings, sql: str = "", *, regime: Regime = "old"
) -> SupabaseDatabase:
    """A new database in which ``postgres`` ran ``sql`` and then installed usersync with ``settings``.

    The caller drops it. An installation takes ten times as long as a clone, so the first call with these
    arguments makes a template, which all processes of the run use.
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
def few_rounds(monkeypatch: pytest.MonkeyPatch) -> None:
    """A trial measures its flows twice instead of six times."""
    monkeypatch.setattr("usersync.schema.trial.timing.ROUNDS", 2)


@pytest.fixture
def delete_without_triggers(project: Project) -> Callable[..., None]:
    """Delete users with triggers disabled, as a restore does."""

    def delete(*user_ids: Any) -> None:
        with project.database.connect("supabase_admin") as superuser:
            superuser.execute("set session_replication_role = replica")
            superuser.execute("delete from auth.users where id = any(%s)", [list(user_ids)])

    return delete


@pytest.fixture
def insert_without_triggers(project: Project) -> Callable[[int], list[Any]]:
    """Insert users with triggers disabled, as a restore does. Returns their ids."""

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
