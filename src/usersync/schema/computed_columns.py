"""Check expressions of [columns] and constants of users_where: the database plans each with EXPLAIN."""

from __future__ import annotations

from typing import TYPE_CHECKING

from usersync.config.mapping import quote
from usersync.errors import DatabaseError
from usersync.models import Finding
from usersync.sql.expressions import expression
from usersync.transports.steps import PIN_SEARCH_PATH, Steps, query

if TYPE_CHECKING:
    from usersync.config.mapping import Column
    from usersync.config.settings import Settings


def computed_findings(settings: Settings, *, has_users_table: bool) -> Steps[tuple[Finding, ...]]:
    """An error for the first expression or constant that the database rejects. Makes no change."""
    for column in (*settings.users_where, *(each for each in settings.columns if each.expression)):
        try:
            yield from query(_planned(settings, column, has_users_table=has_users_table))
        except DatabaseError as error:
            # Only the first: an error aborts the transaction.
            return (
                Finding(
                    "D012",
                    f"column {settings.users_table}.{column.name}",
                    f"{'columns' if column.expression else 'users_where'}.{column.name}: the database "
                    f"rejects {column.origin}: {error}",
                    f"-- Use columns of {settings.source_table}, and name functions and types outside of "
                    "pg_catalog with their schema. Where only the type differs, add type = …",
                    "error",
                ),
            )
    return ()


def _planned(settings: Settings, column: Column, *, has_users_table: bool) -> str:
    """EXPLAIN of a statement that writes the column, with the search_path of usersync's functions."""
    into = f"insert into {settings.users_table.quoted} ({quote(column.name)}) " if has_users_table else ""
    value, table = expression(column, "source"), settings.source_table.quoted
    return f"{PIN_SEARCH_PATH}explain {into}select {value} from {table} as source where false"
