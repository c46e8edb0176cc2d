"""Whether every migration was applied unchanged, and its tables still exist."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from usersync.doctor.context import Context, Definition, Verdict, number
from usersync.errors import MigrationChangedError, VersionMismatchError
from usersync.models import Finding
from usersync.transports.steps import query

if TYPE_CHECKING:
    from collections.abc import Iterator

    from usersync.transports.steps import Steps

#: The script can run again at any time, and creates what is missing.
RUN_ALL = 'usersync sql | psql --set ON_ERROR_STOP=1 "$SUPABASE_DB_URL"'

_MISSING = """
    select tables.name from unnest(%(names)s::text[]) as tables (name) where to_regclass(tables.name) is null
"""


def look(context: Context) -> Steps[Verdict]:
    scripts = [context.bundle.bootstrap, *(migration.up for migration in context.bundle.migrations)]
    tables = [name for text in scripts for name in re.findall(r"create table if not exists (\S+)", text)]
    missing = yield from query(_MISSING, names=tables)
    return Verdict(
        f"{number(len(context.bundle.migrations), 'migration')} applied and unchanged",
        (*(_history(context) or _tables([row["name"] for row in missing])), *_storage(context)),
    )


def _storage(context: Context) -> Iterator[Finding]:
    for table in context.inspection.catalog["unlogged"]:
        yield Finding(
            "D003",
            f"table {table}",
            f"{table} is UNLOGGED: a crash of the server empties it, and a standby does not have it",
            f"alter table {table} set logged;",
        )
    for sequence in context.inspection.catalog["exhausted_sequences"]:
        yield Finding(
            "D003",
            f"sequence {sequence}",
            f"the sequence {sequence} has no numbers left: no row that needs one can be stored",
            f"alter sequence {sequence} no maxvalue;",
        )


def _history(context: Context) -> tuple[Finding, ...]:
    return tuple(_changed(context))


def _changed(context: Context) -> Iterator[Finding]:
    if isinstance(context.planned, VersionMismatchError):
        yield Finding("D003", "migrations", str(context.planned), context.planned.hint or "")
    elif isinstance(context.planned, MigrationChangedError):
        yield Finding(
            "D003",
            "migrations",
            f"{context.planned}: the file in this library or the checksum in the database was changed",
            "Install this release of usersync again.",
        )
    else:
        for change in context.changes("migration"):
            yield Finding(
                "D003",
                change.subject,
                f"{change.subject} is not applied: {change.reason}",
                "usersync apply",
                safe=True,
            )


def _tables(missing: list[str]) -> Iterator[Finding]:
    if missing:
        yield Finding("D003", ", ".join(missing), f"missing: {', '.join(missing)}", RUN_ALL, safe=True)


CHECK = Definition("D003", "Migrations", look)
