"""Databases shaped like a Supabase project's: its roles, its ``auth`` schema, its default privileges.

Source of every grant and default: facts of supabase/postgres and supabase/auth as of August 2026; the SQL
is in ``sql/`` beside this file. Works on PostgreSQL 15 to 18.
"""

from __future__ import annotations

import uuid
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.resources import files
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import quote, urlencode

import psycopg
from psycopg import sql

from usersync.testing.release import MARK

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from usersync.embedded import EmbeddedPostgres

Regime = Literal["old", "new"]
"""Which default privileges a project has: ``old``, made before 2026-05-30, or ``new``."""

SUPERUSER = "supabase_admin"
LOGIN_ROLES = ("postgres", "supabase_auth_admin", "authenticator")

# Roles that nobody logs in as: PostgREST logs in as authenticator, switches, and applies the timeout that
# the role has been given, because SET ROLE alone does not.
API_ROLES: Mapping[str, Mapping[str, str]] = {
    "anon": {"role": "anon", "statement_timeout": "3s"},
    "authenticated": {"role": "authenticated", "statement_timeout": "8s"},
    "service_role": {"role": "service_role"},
}


@dataclass(frozen=True, slots=True)
class SupabaseDatabase:
    """The connection parameters of such a database for each role."""

    name: str
    host: str
    port: int
    passwords: Mapping[str, str] = field(repr=False)

    def dsn(self, role: str = "postgres") -> str:
        """Return a URL that logs in as ``role``.

        For ``anon``, ``authenticated`` and ``service_role`` it logs in as ``authenticator`` and switches,
        as PostgREST does.
        """
        login = "authenticator" if role in API_ROLES else role
        if login not in self.passwords:
            raise KeyError(f"no password for role {login!r}; known: {', '.join(sorted(self.passwords))}")
        url = f"postgresql://{quote(login, safe='')}:{quote(self.passwords[login], safe='')}"
        url += f"@{self.host}:{self.port}/{quote(self.name, safe='')}"
        if role not in API_ROLES:
            return url
        options = " ".join(f"-c {key}={value}" for key, value in API_ROLES[role].items())
        return f"{url}?{urlencode({'options': options}, quote_via=quote)}"

    def connect(self, role: str = "postgres", **settings: Any) -> psycopg.Connection[Any]:
        """Open an autocommit connection as ``role``; the caller closes it."""
        return psycopg.connect(self.dsn(role), **{"autocommit": True, **settings})


@dataclass(frozen=True, slots=True)
class SupabaseCluster:
    """A server on which Supabase-shaped databases are made, through one connection as superuser.

    Not for use from several threads at once; several processes may each have one on the same server.
    """

    maintenance: psycopg.Connection[Any]
    host: str
    port: int
    passwords: Mapping[str, str] = field(repr=False)

    @classmethod
    @contextmanager
    def on(cls, server: EmbeddedPostgres) -> Iterator[SupabaseCluster]:
        """Create the roles on ``server`` and keep a superuser's connection to it while the block runs."""
        passwords = dict.fromkeys((SUPERUSER, *LOGIN_ROLES), server.password)
        dsn = server.dsn("postgres", user=server.superuser, password=server.password)
        with psycopg.connect(dsn, autocommit=True) as maintenance:
            create_supabase_roles(maintenance, passwords)
            yield cls(maintenance, server.host, server.port, passwords)

    def create(self, *, regime: Regime = "old") -> SupabaseDatabase:
        """Build a database from nothing, in about 40 ms with fsync off."""
        database = self._at(f"supabase_{uuid.uuid4().hex[:12]}")
        create_supabase_database(self.maintenance, database.name)
        with database.connect(SUPERUSER) as connection:
            shape_database(connection, regime=regime)
        return database

    def template(
        self, name: str, *, regime: Regime = "old", build: Callable[[SupabaseDatabase], None] | None = None
    ) -> SupabaseDatabase:
        """Return the database of this name, for ``clone``. The first call builds it.

        ``build`` adds to the bare shape, through connections that it closes. Nobody can connect to the
        result, because a database with a session in it cannot be cloned. Other processes that ask for the
        same name wait meanwhile.
        """
        with self._alone(name):
            known = "select from pg_catalog.pg_database where datname = %s"
            if not self.maintenance.execute(known, (name,)).rowcount:
                if build is None:
                    draft = self.create(regime=regime)
                else:
                    draft = self.clone(self.template(f"supabase_{regime}", regime=regime))
                    build(draft)
                self._alter(draft.name, sql.SQL("rename to {}").format(sql.Identifier(name)))
                self._alter(name, sql.SQL("with is_template true allow_connections false"))
        return self._at(name)

    def clone(self, template: SupabaseDatabase) -> SupabaseDatabase:
        """Copy a database that nobody is connected to, in about 20 ms with fsync off."""
        database = self._at(f"clone_{uuid.uuid4().hex[:12]}")
        create_supabase_database(self.maintenance, database.name, template=template.name)
        return database

    def drop(self, database: SupabaseDatabase) -> None:
        """Drop a database, ending the sessions that are still in it."""
        self.maintenance.execute(
            sql.SQL("drop database if exists {} with (force)").format(sql.Identifier(database.name))
        )

    @contextmanager
    def _alone(self, name: str) -> Iterator[None]:
        """Hold a lock for this name until the database is built. CREATE DATABASE cannot run in a
        transaction.
        """
        lock = "(hashtext('usersync.testing'), hashtext(%s))"
        self.maintenance.execute(f"select pg_advisory_lock{lock}", (name,))
        try:
            yield
        finally:
            self.maintenance.execute(f"select pg_advisory_unlock{lock}", (name,))

    def _alter(self, name: str, change: sql.Composable) -> None:
        alter = sql.SQL("alter database {} ").format(sql.Identifier(name))
        self.maintenance.execute(alter + change)

    def _at(self, name: str) -> SupabaseDatabase:
        return SupabaseDatabase(name, self.host, self.port, self.passwords)


def create_supabase_roles(superuser: psycopg.Connection[Any], passwords: Mapping[str, str]) -> None:
    """Create the roles of a project in a cluster, or reset existing ones.

    Can be repeated, and called by several processes at once: a lock on the shared catalogue of roles, which
    unlike an advisory lock holds across databases, makes one wait for the other. Roles without a password in
    ``passwords`` cannot log in.
    """
    if superuser.info.user == "postgres":
        raise ValueError(
            "the role `postgres` must not be the cluster's superuser: on Supabase it is not one. "
            "Start the server with another superuser, for example supabase_admin."
        )
    with superuser.transaction():
        superuser.execute("lock table pg_catalog.pg_authid in share row exclusive mode")
        _run(superuser, "roles.sql")
        if superuser.info.server_version >= 160000:  # noqa: PLR2004 - the version that has the setting
            # The passwords are random. With the default of 4096, each connection costs the client 2 ms.
            superuser.execute("set local scram_iterations = 1")
        for role, password in passwords.items():
            statement = sql.SQL("alter role {} password {}")
            superuser.execute(statement.format(sql.Identifier(role), sql.Literal(password)))


def create_supabase_database(
    superuser: psycopg.Connection[Any], name: str, *, template: str | None = None
) -> None:
    """Create a database as the platform has it: owned by ``postgres``, statements limited to 2 minutes.

    The connection must be in autocommit mode, and in another database. Without ``template`` the result is
    empty, for ``shape_database`` to fill.
    """
    create = sql.SQL("create database {} owner postgres template {} strategy file_copy")
    source = sql.Identifier(template or "template0")
    superuser.execute(create.format(sql.Identifier(name), source))
    # Settings and privileges of a database are not copied from its template.
    for rest in (
        "alter database {} set statement_timeout = '2min'",
        "grant create on database {} to supabase_auth_admin",
        "grant all on database {} to dashboard_user",
    ):
        superuser.execute(sql.SQL(rest).format(sql.Identifier(name)))


def shape_database(superuser: psycopg.Connection[Any], *, regime: Regime = "old") -> None:
    """Fill an empty database with the platform's schemas, tables, functions and default privileges."""
    with superuser.transaction():
        for name in ("schemas.sql", "auth_users.sql", "auth_tables.sql", "auth_functions.sql"):
            _run(superuser, name)
        superuser.execute(MARK)
        _run(superuser, "defaults_old.sql")
        if regime == "new":
            _run(superuser, "defaults_new.sql")


def _run(connection: psycopg.Connection[Any], name: str) -> None:
    text = files("usersync.testing").joinpath("sql", name).read_text("utf-8")
    connection.execute(text)
