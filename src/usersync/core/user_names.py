"""Finds users by their name in the users table: with an index, or in the first rows of the table."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from uuid import UUID

from usersync.config.mapping import quote
from usersync.core.paging import QUERY_CANCELED
from usersync.errors import DatabaseError
from usersync.transports.steps import in_transaction, query, query_row

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from usersync.config.settings import Settings
    from usersync.transports.steps import Steps

#: The largest number of users in a result, and of rows that are read without an index.
MOST_FOUND = 20
MOST_READ = 20_000
#: The shortest part of a name, and the time limit of a search by index.
_SHORTEST = 2
_LIMIT_MS = 500

#: Conditions that an index may support, the most general one first: a trigram index supports the first.
#: {column} is the name of the column. The parameters are in ``_patterns()``.
_CONDITIONS = (
    "{column} ilike %(within)s",
    "lower({column}) like lower(%(beginning)s)",
    "{column} like %(beginning)s",
    "lower({column}) = lower(%(text)s)",
    "{column} = %(text)s",
)


@dataclass(frozen=True)
class NamedUser:
    """A user, and the name that matched."""

    user_id: UUID
    name: str


@dataclass(frozen=True)
class NamedUsers:
    """The users that were found by name, at most 20."""

    users: tuple[NamedUser, ...]
    #: How many rows of the table were read. None if an index was used.
    read: int | None
    #: Whether the table has more rows than were read.
    is_cut: bool
    #: How the name matches: "contains", "begins with" or "is".
    matches: str = "contains"


def note(found: NamedUsers) -> str:
    """What was searched, in a sentence."""
    if found.is_cut:
        return f"No index supports this search: only the first {found.read:,} rows of the table were read."
    if found.read is None:
        return f"Searched with an index: a name matches if it {found.matches} the text."
    return "All rows of the table were read: a name matches if it contains the text."


def find_by_name(settings: Settings, text: str) -> Steps[NamedUsers | None]:
    """Users whose name matches. None if no mapped column is a name, or the text is too short.

    A name is a mapped text column with ``name`` in its own name. An index decides how a name matches: it
    contains the text, begins with it, or is equal to it. Without an index, it reads the first 20,000 rows.
    """
    columns = yield from _name_columns(settings)
    if not columns or len(text) < _SHORTEST or "\0" in text:
        return None
    for number, condition in enumerate(_CONDITIONS):
        statement = _by_index(settings, columns, condition)
        try:
            found = yield from in_transaction(_search_by_index(statement, columns, text))
        except DatabaseError as error:
            if error.sqlstate != QUERY_CANCELED:
                raise
            continue  # A short text matches too many entries of the index.
        if found is not None:
            matches = ("contains", "begins with", "begins with", "is", "is")[number]
            return NamedUsers(_users(found), None, is_cut=False, matches=matches)
    row = yield from query_row(_in_part(settings, columns), **_patterns(text), most=MOST_READ + 1)
    read = min(row["read"], MOST_READ)
    return NamedUsers(_users(row["found"] or ()), read, is_cut=row["read"] > MOST_READ)


def _name_columns(settings: Settings) -> Steps[list[str]]:
    wanted = [column.name for column in settings.columns if "name" in column.name.lower()]
    rows = yield from query(
        "select attname::text as name from pg_attribute join pg_type on pg_type.oid = atttypid "
        "where attrelid = to_regclass(%(table)s) and attname = any(%(names)s) and not attisdropped "
        "and typcategory = 'S'",
        table=settings.users_table.quoted,
        names=wanted,
    )
    found = {row["name"] for row in rows}
    return [name for name in wanted if name in found]


def _patterns(text: str) -> dict[str, str]:
    escaped = text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
    return {"text": text, "beginning": f"{escaped}%", "within": f"%{escaped}%"}


def _by_index(settings: Settings, columns: Sequence[str], condition: str) -> str:
    """One part for each column, so that each can use its own index."""
    return " union all ".join(
        f"(select {_id(settings)} as id, {name}::text as name from {_table(settings)} as target "
        f"where {condition.format(column=name)} limit {MOST_FOUND})"
        for name in map(_column, columns)
    )


def _search_by_index(statement: str, columns: Sequence[str], text: str) -> Steps[list[Any] | None]:
    """The rows; None if not every column has an index for the condition."""
    patterns = {name: value for name, value in _patterns(text).items() if f"%({name})s" in statement}
    # So that the planner uses an index also for a small table.
    yield from query("set transaction read only; set local enable_seqscan = off")
    yield from query(f"set local statement_timeout = {_LIMIT_MS}")
    plan = (yield from query_row(f"explain (format json) {statement}", **patterns))["QUERY PLAN"]
    scans = list(_scans(plan[0]["Plan"]))
    if len([scan for scan in scans if scan]) < len(columns) or not all(scans):
        return None
    return list((yield from query(statement, **patterns)))


def _scans(node: dict[str, Any]) -> Iterator[bool]:
    """For each scan in the plan: whether it uses an index condition."""
    if node["Node Type"] != "Bitmap Heap Scan" and ("Relation Name" in node or "Index Name" in node):
        yield "Index Cond" in node
    for child in node.get("Plans", ()):
        yield from _scans(child)


def _in_part(settings: Settings, columns: Sequence[str]) -> str:
    names = ", ".join(f"{name}::text as name{number}" for number, name in enumerate(map(_column, columns)))
    each = [f"name{number}" for number in range(len(columns))]
    matching = " or ".join(f"{name} ilike %(within)s" for name in each)
    shown = f"case {' '.join(f'when {name} ilike %(within)s then {name}' for name in each)} end"
    return (
        f"with part as materialized (select {_id(settings)} as id, {names} from {_table(settings)} as target "
        "limit %(most)s) "
        "select (select count(*) from part) as read, (select jsonb_agg(jsonb_build_object('id', id, "
        f"'name', name)) from (select id, {shown} as name from part where {matching} "
        f"limit {MOST_FOUND}) as found) as found"
    )


def _users(rows: Sequence[Any]) -> tuple[NamedUser, ...]:
    found: dict[UUID, NamedUser] = {}
    for row in rows:
        with suppress(ValueError):  # A row that is not of a user, for example of a bot or a team.
            user_id = UUID(row["id"])
            found.setdefault(user_id, NamedUser(user_id, row["name"]))
    return tuple(found.values())[:MOST_FOUND]


def _id(settings: Settings) -> str:
    return f"target.{_column(settings.key)}::text"


def _column(name: str) -> str:
    return quote(name).replace("%", "%%")


def _table(settings: Settings) -> str:
    return settings.users_table.quoted.replace("%", "%%")
