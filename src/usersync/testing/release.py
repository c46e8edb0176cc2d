"""Test databases: what a database of tests may do that a real one may not."""

from __future__ import annotations

import re
from importlib.resources import files
from typing import TYPE_CHECKING, Any

import psycopg

from usersync.errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import Iterable

#: Marks a database that usersync.testing has made.
MARK = "comment on schema auth is 'usersync: for tests. Not an auth server.'"

_NEEDS_A_PROJECT = re.compile(r"^(set local role|reset role|grant|revoke)\b[^;]*;$", re.MULTILINE)


def read_shape(names: Iterable[str]) -> str:
    """The SQL files with the auth server's objects."""
    return "\n".join(files("usersync.testing").joinpath("sql", name).read_text("utf-8") for name in names)


def create_auth_schema(connection: psycopg.Connection[Any]) -> bool:
    """Create a stand-in for Supabase's schema ``auth`` in an empty test database. Blocks.

    It has ``auth.users`` and the functions that policies call; the connection's role owns it. Returns False
    and changes nothing if there is a schema ``auth`` already.
    """
    if connection.execute("select from pg_catalog.pg_namespace where nspname = 'auth'").rowcount:
        return False
    shape = read_shape(["auth_users.sql", "auth_functions.sql"])
    connection.execute(f"begin; create schema auth; {_NEEDS_A_PROJECT.sub('', shape)}; {MARK}; commit")
    return True


def is_test_database(connection: psycopg.Connection[Any]) -> bool:
    """Whether usersync.testing has made the database of this connection. Blocks."""
    found = connection.execute(
        "select obj_description(to_regnamespace('auth'), 'pg_namespace') like 'usersync: for tests. %'"
    ).fetchone()
    return bool(found and found[0])


def release_audit_log(connection: psycopg.Connection[Any]) -> None:
    """Let tests drop, truncate and create the tables of the application in any order. Blocks.

    ``drop_all()``, ``flush`` and TRUNCATE of the users table fail in a real database, because the audit log
    references that table, and because a view protects the log. This removes the foreign key and the view. So
    ``user_id`` of an event stays when its user is deleted, and may name a user without a row. ``connection``
    must be that of the owner. Raises ``SettingsError`` unless usersync.testing has made the database.
    """
    try:
        connection.execute(read_shape(["release_audit_log.sql"]))
    except psycopg.errors.ObjectNotInPrerequisiteState as error:
        raise SettingsError(
            "the audit log keeps its protection, because usersync.testing has not made this database",
            hint="Use the fixture usersync_database, or SupabaseCluster.",
        ) from error
