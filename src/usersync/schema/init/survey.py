"""Getting to know a database: its tables of users, and what the auth server keeps. Writes nothing."""

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

#: What tables of users are called, best first.
USUAL_NAMES = ("users", "profiles", "user", "profile", "members", "accounts", "people", "user_profiles")

#: No look at a table takes longer: what it would have said is then not known.
_PATIENCE = "set local statement_timeout = '15s'"


@dataclass(frozen=True)
class Key:
    """A column that is unique for itself, and of a type that takes an id."""

    name: str
    type: KeyType
    is_primary: bool
    #: The foreign key by which it refers to the auth server's table, if it does; and as pg_constraint has it,
    #: what that does when a user is deleted there.
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
    """How the values of a column and the ids of auth users agree, counted on a sample of each."""

    values: int
    #: Those of them that are ids of auth users.
    known: int
    #: Rows without a value.
    without_key: int
    users: int
    #: Those of them who have a row.
    with_row: int


@dataclass(frozen=True)
class Metadata:
    """What a sample of users has in the auth server's table."""

    sampled: int = 0
    without_email: int = 0
    #: How many have each key, by the name that the settings know it by: ``user_metadata.full_name``.
    keys: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Fit:
    """How a sample of users fared with a mapping: how many of ``tried`` each thing happened to."""

    tried: int = 0
    tally: Mapping[str, int] = field(default_factory=dict)

    def times(self, what: str, name: str) -> int:
        """How often: a column ``absent``, ``misfit``, ``taken``; a constraint ``refused``, ``untried``."""
        return self.tally.get(f"{what} {name}", 0)


def find_candidates(source: TableName, named: tuple[TableName, ...] = ()) -> Steps[tuple[Candidate, ...]]:
    """The tables that may hold the application's users; ``named`` are looked at whatever they are called."""

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
    """Those of a type that can hold an id of the auth server."""
    for row in rows:
        with suppress(SettingsError):
            kind = parse_key_type(row["type"], "key_type")
            yield Key(**{**row, "type": kind, "parents": tuple(row["parents"])})


def count_ids(
    source: TableName, keys: Sequence[tuple[TableName, Key]]
) -> Steps[Mapping[tuple[TableName, str], Presence]]:
    """Which of these columns hold ids of auth users; those that could not be counted in time are left out."""
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
    """The users table's columns, constraints, and what refers to it; None if there is none."""

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
    """The foreign keys of the application that refer to a user in either table, those to the row first."""
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
    """What users have in the auth server's table, or None where that could not be read in time."""

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
    """How a sample of users would fare with these settings, or None where that could not be tried in time."""

    def look() -> Steps[Fit]:
        yield from set_time_limit()
        # None of our functions is installed here yet, as the one that reads a DEFAULT from the table.
        columns = tuple(replace(column, absent="null") for column in settings.columns)
        found = (yield from query_row(render_survey("mapping_check", replace(settings, columns=columns))))[
            "trial"
        ]
        return Fit(found["tried"], found["tally"])

    return or_none(read_only(look()))


def set_time_limit() -> Steps[None]:
    """Give a look at data its time-out, in the transaction that is open."""
    yield from query(_PATIENCE)


def or_none(plan: Steps[Any]) -> Steps[Any]:
    """What a look found; None where the database refused it or took too long."""
    try:
        return (yield from plan)
    except ConnectionFailedError:
        raise
    except UsersyncError:
        return None
