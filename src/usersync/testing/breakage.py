"""Ways in which an application's users table refuses a user, each of which can be undone.

For tests that check that the sign-up succeeds, that the failures table has the reason, and that a retry
works.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import psycopg
from psycopg import sql

from usersync.config.mapping import TableName

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

USERS = TableName("public", "users")


@dataclass(frozen=True, slots=True)
class Breakage:
    """Two scripts, to break and to repair, and the result of a user's INSERT in between.

    In a script ``{table}`` is the qualified table, ``{bare}`` its name alone, ``{column}`` the
    column with the address, ``{kept}`` and ``{hook}`` names that are free.
    """

    sqlstate: str | None
    broken: str
    repaired: str


_TRIGGER = """
    create function {hook}() returns trigger language plpgsql set search_path = '' as $$
    begin %s end $$;
    create trigger usersync_breakage before insert or update on {table}
      for each row execute function {hook}();
"""
_NO_TRIGGER = "drop function {hook}() cascade"
_NO_CONSTRAINT = "alter table {table} drop constraint usersync_breakage"

BREAKAGES: Mapping[str, Breakage] = {
    "missing": Breakage(
        "42P01",
        "create schema {kept}; alter table {table} set schema {kept}",
        "alter table {kept}.{bare} set schema {schema}; drop schema {kept}",
    ),
    "renamed": Breakage(
        "42P01",
        "alter table {table} rename to {kept}",
        "alter table {schema}.{kept} rename to {bare}",
    ),
    "column_renamed": Breakage(
        "42703",
        "alter table {table} rename column {column} to {kept}",
        "alter table {table} rename column {kept} to {column}",
    ),
    "bad_type": Breakage(
        "22P02",
        "alter table {table} rename column {column} to {kept};"
        "alter table {table} add column {column} integer",
        "alter table {table} drop column {column}; alter table {table} rename column {kept} to {column}",
    ),
    "not_null": Breakage(
        "23502",
        # The default fills the existing rows, and is dropped before the next row is inserted.
        "alter table {table} add column {kept} text not null default '';"
        "alter table {table} alter column {kept} drop default",
        "alter table {table} drop column {kept}",
    ),
    "unique_email": Breakage(
        "23505",
        "alter table {table} add constraint usersync_breakage unique ({column})",
        _NO_CONSTRAINT,
    ),
    "deferred_unique_email": Breakage(
        "23505",
        "alter table {table} add constraint usersync_breakage unique ({column})"
        " deferrable initially deferred",
        _NO_CONSTRAINT,
    ),
    "check": Breakage(
        "23514",
        "alter table {table} add constraint usersync_breakage check (false) not valid",
        _NO_CONSTRAINT,
    ),
    "trigger_raises": Breakage("P0001", _TRIGGER % "raise exception 'the application says no';", _NO_TRIGGER),
    # ASSERT is one of two errors that `exception when others` lets through.
    "trigger_asserts": Breakage("P0004", _TRIGGER % "assert false, 'the application says no';", _NO_TRIGGER),
    # No error at all, and no row either.
    "trigger_skips": Breakage(None, _TRIGGER % "return null;", _NO_TRIGGER),
    # Held by an ALTER TABLE in another session that has not been committed.
    "locked": Breakage("55P03", "", ""),
}
"""Every way that there is, by name. ``unique_email`` refuses only an address that is taken already."""


@contextmanager
def broken_users_table(
    dsn: str, how: str, *, table: TableName = USERS, column: str = "email"
) -> Iterator[None]:
    """Break the users table while the block runs, and repair it afterwards.

    ``dsn`` must log in as the table's owner, on a session or direct connection. Blocks,
    for at most 10 s, until no other session uses the table, because it needs an exclusive lock.
    """
    if how not in BREAKAGES:
        raise ValueError(f"unknown breakage {how!r}; known: {', '.join(BREAKAGES)}")
    names = _names(table, column)
    with psycopg.connect(dsn, autocommit=True, options="-c lock_timeout=10s") as connection:
        if how == "locked":
            with _locked(connection, names):
                yield
            return
        connection.execute(sql.SQL(BREAKAGES[how].broken).format(**names))
        try:
            yield
        finally:
            connection.execute(sql.SQL(BREAKAGES[how].repaired).format(**names))


@contextmanager
def _locked(connection: psycopg.Connection[Any], names: Mapping[str, sql.Composable]) -> Iterator[None]:
    with connection.transaction(force_rollback=True):
        connection.execute(sql.SQL("alter table {table} add column {kept} text").format(**names))
        yield


def _names(table: TableName, column: str) -> dict[str, sql.Composable]:
    return {
        "table": sql.Identifier(table.schema, table.name),
        "schema": sql.Identifier(table.schema),
        "bare": sql.Identifier(table.name),
        "column": sql.Identifier(column),
        "kept": sql.Identifier("usersync_breakage_kept"),
        "hook": sql.Identifier(table.schema, "usersync_breakage_hook"),
    }
