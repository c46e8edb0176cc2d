"""The tables that a transaction has written to, and a user's rows in them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from usersync.config.mapping import quote
from usersync.transports.steps import query

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from usersync.transports.steps import Row, Steps

Counts = tuple[int, int, int]

# Within a transaction, this shows the rows that its statements and their triggers have inserted, updated and
# deleted. It may include earlier work of the session: subtract a baseline.
# The view pg_stat_xact_user_tables has the same numbers, and takes longer. Ids below 16384 are those of
# PostgreSQL's own objects.
_WRITTEN = """
    select coalesce(pg_partition_root(oid)::oid, oid)::bigint as id,
        sum(inserted)::bigint as inserted, sum(updated)::bigint as updated, sum(deleted)::bigint as deleted
    from (
        select pg_class.oid,
            pg_stat_get_xact_tuples_inserted(pg_class.oid) as inserted,
            pg_stat_get_xact_tuples_updated(pg_class.oid) as updated,
            pg_stat_get_xact_tuples_deleted(pg_class.oid) as deleted
        from pg_class
        where relkind in ('r', 'm', 'p') and pg_class.oid >= 16384
            and relnamespace not in (select oid from pg_namespace where nspname in ('auth', 'usersync'))
    ) as counted
    where inserted + updated + deleted > 0
    group by 1
"""

#: The maximum size in bytes of a table that is searched without an index.
_SMALL = 1024 * 1024
#: The maximum number of rows that are read from one table.
_MOST_ROWS = 50
#: The maximum length of a chain of references from a row to the user.
_MOST_STEPS = 3

_TABLES = """
    select
        pg_class.oid::bigint as id,
        nspname as schema,
        relname as name,
        coalesce((select sum(pg_relation_size(relid)) from pg_partition_tree(pg_class.oid)),
            pg_relation_size(pg_class.oid)) <= %(small)s as small,
        has_table_privilege(pg_class.oid, 'SELECT') as readable,
        (
            select jsonb_agg(jsonb_build_object(
                'name', attname,
                'type', format_type(atttypid, -1),
                'kind', case when atttypid = 'uuid'::regtype then 'uuid'
                    when typcategory = 'S' then 'text' else 'other' end,
                'indexed', exists (
                    select from pg_index
                    where indrelid = attrelid and indkey[0] = attnum and indisvalid and indpred is null
                )
            ) order by attnum)
            from pg_attribute
            join pg_type on pg_type.oid = atttypid
            where attrelid = pg_class.oid and attnum > 0 and not attisdropped
        ) as columns,
        array(
            select attname::text from pg_index
            join pg_attribute on attrelid = indrelid and attnum = any(indkey)
            where indrelid = pg_class.oid and indisprimary
        ) as primary_key,
        (
            select coalesce(jsonb_agg(jsonb_build_object(
                'column', own.attname, 'table', confrelid::bigint, 'referenced', parent.attname
            )), '[]')
            from pg_constraint
            join pg_attribute as own on own.attrelid = conrelid and own.attnum = conkey[1]
            join pg_attribute as parent on parent.attrelid = confrelid and parent.attnum = confkey[1]
            where conrelid = pg_class.oid and contype = 'f' and cardinality(conkey) = 1
        ) as references
    from pg_class
    join pg_namespace on pg_namespace.oid = relnamespace
    where pg_class.oid = any(%(ids)s::bigint[]::oid[])
"""


@dataclass(frozen=True)
class Table:
    """A table of the application."""

    id: int
    name: str
    quoted: str
    small: bool
    readable: bool
    #: By name: the type, ``kind`` and whether the column has an index.
    columns: Mapping[str, Row]
    primary_key: tuple[str, ...]
    references: tuple[Row, ...]


@dataclass(frozen=True)
class User:
    """The values by which a user's rows are found."""

    id: str
    #: The user's e-mail addresses and phone numbers.
    contacts: tuple[str, ...]
    #: Part of all values that the trial invents for the user.
    token: str

    @property
    def texts(self) -> list[str]:
        return [self.id, *self.contacts]


#: A user's rows by table; None if no key refers to the user.
Found = dict[int, list[dict[str, Any]] | None]


def written_tables() -> Steps[Mapping[int, Counts]]:
    """The numbers of rows that the session has inserted, updated and deleted, by table."""
    rows = yield from query(_WRITTEN)
    return {row["id"]: (row["inserted"], row["updated"], row["deleted"]) for row in rows}


def minus(now: Mapping[int, Counts], then: Mapping[int, Counts]) -> dict[int, Counts]:
    """The counts since ``then``."""
    none = (0, 0, 0)
    difference = {
        table: (
            counts[0] - then.get(table, none)[0],
            counts[1] - then.get(table, none)[1],
            counts[2] - then.get(table, none)[2],
        )
        for table, counts in now.items()
    }
    return {table: counts for table, counts in difference.items() if any(counts)}


def describe(ids: Iterable[int]) -> Steps[dict[int, Table]]:
    """The tables with these ids."""
    rows = yield from query(_TABLES, ids=list(ids), small=_SMALL)
    return {row["id"]: _table(row) for row in rows}


def _table(row: Row) -> Table:
    return Table(
        row["id"],
        f"{row['schema']}.{row['name']}",
        f"{quote(row['schema'])}.{quote(row['name'])}",
        row["small"],
        row["readable"],
        {each["name"]: each for each in row["columns"] or ()},
        tuple(row["primary_key"]),
        tuple(row["references"]),
    )


def rows_of(user: User, tables: Sequence[Table]) -> Steps[Found]:
    """The user's rows in these tables, by the user's id or address, or by a reference to such a row.

    A table without a suitable index is searched if it is small.
    """
    found: Found = {}
    for _ in range(_MOST_STEPS):
        before = dict(found)
        for table in tables:
            if not found.get(table.id):
                found[table.id] = yield from _rows(user, table, found)
        if found == before:
            break
    return found


def _rows(user: User, table: Table, found: Found) -> Steps[list[dict[str, Any]] | None]:
    if not table.readable:
        return None
    conditions: list[str] = []
    values: dict[str, Any] = {}
    for number, (left, right, value) in enumerate(_conditions(user, table, found)):
        conditions.append(f"{left} %(v{number})s{right}")
        values[f"v{number}"] = value
    if not conditions:
        return None
    rows = yield from query(
        f"select to_jsonb(each) as row from {_bindable(table.quoted)} as each "
        f"where {' or '.join(conditions)} limit {_MOST_ROWS}",
        **values,
    )
    return [row["row"] for row in rows]


def _conditions(user: User, table: Table, found: Found) -> Iterator[tuple[str, str, Any]]:
    """The SQL before a value, the SQL after it, and the value."""
    if table.small:
        parts = [f"%{value}%" for value in (*user.texts, user.token)]
        yield "to_jsonb(each)::text like any(", "::text[])", parts
    else:
        for column in table.columns.values():
            if column["indexed"] and column["kind"] == "uuid":
                yield f"each.{_bindable(quote(column['name']))} =", "::uuid", user.id
            elif column["indexed"] and column["kind"] == "text":
                yield *_any_of(column), user.texts
    for reference in table.references:
        column = table.columns[reference["column"]]
        keys = [row[reference["referenced"]] for row in found.get(reference["table"]) or ()]
        keys = [str(key) for key in keys if key is not None]
        if keys and (table.small or column["indexed"]):
            yield *_any_of(column), keys


def _any_of(column: Row) -> tuple[str, str]:
    return (
        f"each.{_bindable(quote(column['name']))} = any(",
        f"::text[]::{_bindable(column['type'])}[])",
    )


def _bindable(sql: str) -> str:
    return sql.replace("%", "%%")
