"""Queries about users tables and the auth server's metadata. Writes nothing."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from usersync.config.key_type import KeyType, parse_key_type
from usersync.config.mapping import TableName
from usersync.core.foreign_keys import foreign_keys
from usersync.errors import ConnectionFailedError, SettingsError, UsersyncError
from usersync.schema.trigger_parser.values import is_key
from usersync.sql.render import read_sql, render_survey
from usersync.transports.steps import Steps, query, query_row, read_only

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from usersync.config.settings import Settings
    from usersync.core.foreign_keys import ForeignKeys

#: Usual names of users tables, most likely first.
USUAL_NAMES = ("users", "profiles", "user", "profile", "members", "accounts", "people", "user_profiles")

#: The time limit of a query. Its result is then unknown.
_TIME_LIMIT = "set local statement_timeout = '15s'"


@dataclass(frozen=True)
class Key:
    """A unique column of a type that can hold an id."""

    name: str
    type: KeyType
    is_primary: bool
    #: The foreign key from the column to the auth server's table, if any, and its action on delete, as in
    #: ``pg_constraint``.
    reference: str | None
    on_delete: str | None
    #: Other tables of the application that this column refers to.
    parents: tuple[str, ...] = ()

    @property
    def refers(self) -> bool:
        return self.reference is not None


@dataclass(frozen=True)
class Candidate:
    """A table that may hold the application's users."""

    table: TableName
    rows: int
    keys: tuple[Key, ...]
    primary_key: tuple[str, ...]
    referrers: int
    refers: bool
    is_readable: bool


@dataclass(frozen=True)
class Presence:
    """How many values of a column are ids of auth users, counted in a sample."""

    values: int
    #: Values that are ids of auth users.
    known: int
    #: Rows without a value.
    without_key: int
    users: int
    #: Auth users who have a row.
    with_row: int


@dataclass(frozen=True)
class Metadata:
    """What a sample of auth users has in its metadata."""

    sampled: int = 0
    without_email: int = 0
    #: How many users have each key, by its name in the settings: ``user_metadata.full_name``.
    keys: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Fit:
    """How well a mapping fits a sample of users: how many of ``tried`` have each problem."""

    tried: int = 0
    failed: Mapping[str, int] = field(default_factory=dict)

    def times(self, what: str, name: str) -> int:
        """How often a column is ``absent``, ``misfit``, ``taken``; a constraint ``refused``, ``untried``."""
        return self.failed.get(f"{what} {name}", 0)


def find_candidates(source: TableName, named: tuple[TableName, ...] = ()) -> Steps[tuple[Candidate, ...]]:
    """The tables that may hold the application's users, and the tables ``named``."""

    def look() -> Steps[tuple[Candidate, ...]]:
        rows = yield from query(
            read_sql("survey/candidates.sql"),
            source_table=source.quoted,
            usual_names=f"^({'|'.join(USUAL_NAMES)})$",
            named=[f"{table.schema}.{table.name}" for table in named],
        )
        return tuple(_candidate(row) for row in rows)

    return read_only(look())


def _candidate(row: Mapping[str, Any]) -> Candidate:
    return Candidate(
        TableName(row["schema"], row["name"]),
        row["rows"],
        tuple(_keys(row["keys"])),
        tuple(row["primary_key"]),
        row["referrers"],
        row["refers"],
        row["is_readable"],
    )


def _keys(rows: Iterable[Mapping[str, Any]]) -> Iterator[Key]:
    """The columns of a type that can hold an id of the auth server."""
    for row in rows:
        with suppress(SettingsError):
            kind = parse_key_type(row["type"], "key_type")
            yield Key(**{**row, "type": kind, "parents": tuple(row["parents"])})


def count_ids(
    source: TableName, keys: Sequence[tuple[TableName, Key]]
) -> Steps[Mapping[tuple[TableName, str], Presence]]:
    """How many ids of auth users each column holds. Columns that took too long are left out."""
    wanted = [{"table": table.quoted, "column": key.name, "type": key.type.sql} for table, key in keys]

    def look() -> Steps[list[Mapping[str, int] | None]]:
        yield from set_time_limit()
        yield from query(
            "select set_config('usersync.survey', %(wanted)s, true), "
            "set_config('usersync.source', %(source)s, true)",
            wanted=json.dumps(wanted),
            source=source.quoted,
        )
        return (yield from query_row(read_sql("survey/key_coverage.sql")))["found"]  # type: ignore[no-any-return]

    found = (yield from or_none(read_only(look()))) or []
    return {
        (table, key.name): Presence(**counted)
        for (table, key), counted in zip(keys, found, strict=False)
        if counted is not None
    }


def describe_table(settings: Settings) -> Steps[Mapping[str, Any] | None]:
    """The users table's columns, constraints and referrers; None if it does not exist."""

    def look() -> Steps[Mapping[str, Any] | None]:
        rows = yield from query(
            read_sql("survey/table.sql"),
            users_table=settings.users_table.quoted,
            source_table=settings.source_table.quoted,
        )
        if not rows:
            return None
        about: Mapping[str, Any] = rows[0]["about"]
        return {**about, "referrers": _referrers((yield from foreign_keys(settings)))}

    return read_only(look())


def _referrers(keys: ForeignKeys) -> list[Mapping[str, Any]]:
    """The application's foreign keys to the users table, then those to the auth server's table."""
    return [
        {
            "name": key.name,
            "table": key.child_name,
            "columns": list(key.columns),
            "to": to,
            "on_delete": key.action,
        }
        for to, table in (("users", keys.users), ("auth", keys.source))
        for key in keys.to(table)
        if key.child != keys.users and key.child_schema not in {"auth", "usersync"}
    ]


def sample_metadata(settings: Settings) -> Steps[Metadata | None]:
    """The metadata of a sample of auth users; None if the query failed or took too long."""

    def look() -> Steps[Metadata]:
        yield from set_time_limit()
        found = (yield from query_row(render_survey("metadata", settings)))["metadata"]
        keys = {
            f"{entry['source']}.{entry['key']}": entry["times"]
            for entry in found["keys"]
            if is_key(entry["key"])
        }
        return Metadata(found["sampled"], found["without_email"], keys)

    return or_none(read_only(look()))


def try_mapping(settings: Settings) -> Steps[Fit | None]:
    """How well these settings fit a sample of users; None if the query failed or took too long."""

    def look() -> Steps[Fit]:
        yield from set_time_limit()
        # The function that reads a DEFAULT from the table is not installed yet.
        columns = tuple(replace(column, absent="null") for column in settings.columns)
        found = (yield from query_row(render_survey("mapping_check", replace(settings, columns=columns))))[
            "trial"
        ]
        return Fit(found["tried"], found["failed"])

    return or_none(read_only(look()))


def set_time_limit() -> Steps[None]:
    """Set the time limit in the current transaction."""
    yield from query(_TIME_LIMIT)


def or_none(steps: Steps[Any]) -> Steps[Any]:
    """The result of the steps; None if the database refused a query or took too long."""
    try:
        return (yield from steps)
    except ConnectionFailedError:
        raise
    except UsersyncError:
        return None
