"""Check the key column: its type, its collation and its values."""

from __future__ import annotations

from typing import TYPE_CHECKING

from usersync.config.key_type import parse_key_type
from usersync.config.mapping import quote
from usersync.errors import SettingsError
from usersync.models import Finding
from usersync.transports.steps import query, query_row

if TYPE_CHECKING:
    from usersync.config.settings import Settings
    from usersync.transports.steps import Steps


def type_misfit(settings: Settings, column_type: str) -> Finding | None:
    """A finding if the column's type is not the one in the settings."""
    table, key = settings.users_table, settings.key
    try:
        found = parse_key_type(column_type, "key_type")
    except SettingsError as error:
        return Finding(
            "D012",
            f"column {table}.{key}",
            f"{table}.{key} cannot be the key: {_reason(error)}",
            "-- Set key to a unique column that holds the auth id: uuid, text, varchar, char(36) or citext. "
            f"Or add one:\nalter table {table.quoted} add column auth_id uuid unique;",
            level="error",
        )
    if found == settings.key_type:
        return None
    return Finding(
        "D012",
        f"column {table}.{key}",
        f"{table}.{key} is of type {found}, and key_type is {settings.key_type}",
        f"-- Write the type of the column into usersync.toml: key_type = '{found}'",
        level="error",
    )


def _reason(error: SettingsError) -> str:
    return str(error).partition(": ")[2]


def key_findings(settings: Settings) -> Steps[tuple[Finding, ...]]:
    """Findings about the values and the collation of a key that holds the id as text."""
    if settings.key_type.is_uuid:
        return ()
    wrong_collation = yield from _wrong_collation(settings)
    in_upper_case = yield from _in_upper_case(settings)
    return tuple(each for each in (wrong_collation, in_upper_case) if each)


_COLLATION = """
    select format('%%I.%%I', collnamespace::regnamespace::name, collname) as name
    from pg_attribute join pg_collation on pg_collation.oid = attcollation
    where attrelid = to_regclass(%(table)s) and attname = %(key)s
"""

# All pairs of digits of an id, in the order of a collation: Danish sorts "aa" after "z".
_IS_ORDER_OF_IDS = """
    select array_agg(pair order by pair collate {collation}) = array_agg(pair order by pair collate "C")
        as same
    from (
        select '0' || one || other || '0' as pair
        from unnest(string_to_array('0123456789abcdef', null)) as one
        cross join unnest(string_to_array('0123456789abcdef', null)) as other
    ) as pairs
"""


def _wrong_collation(settings: Settings) -> Steps[Finding | None]:
    """A finding if the collation sorts ids differently from uuid: usersync compares ranges of ids."""
    table, key = settings.users_table, settings.key
    found = yield from query(_COLLATION, table=table.quoted, key=key)
    if not found or (yield from query_row(_IS_ORDER_OF_IDS.format(collation=found[0]["name"])))["same"]:
        return None
    collation = found[0]["name"]
    return Finding(
        "D012",
        f"column {table}.{key}",
        f"usersync cannot compare the tables page by page: {table}.{key} has the collation {collation}, "
        "which sorts ids in another order than a uuid",
        '-- Give the column the collation "C". This locks the table while it runs. Columns that refer to '
        f"it need the same collation:\nalter table {table.quoted} alter column {quote(key)} "
        f'type {settings.key_type.sql} collate "C";',
        level="error",
    )


def _in_upper_case(settings: Settings) -> Steps[Finding | None]:
    """A finding about rows with a user's id in upper case: usersync would create a second row."""
    table, column, kind = settings.users_table, quote(settings.key), settings.key_type
    key = f"target.{column}"
    in_upper_case = f"{kind.holds_id(f'lower({key}::text)')} and not ({kind.holds_id(key)})"
    statement = (
        f"select count(*) as rows from {table.quoted} as target where {in_upper_case} and exists ("
        f'select from {settings.source_table.quoted} as source where source."id" = {key}::text::uuid)'
    )
    rows = (yield from query_row(statement))["rows"]
    if not rows:
        return None
    return Finding(
        "D012",
        f"column {table}.{settings.key}",
        f"{table} holds {rows:,} {'id' if rows == 1 else 'ids'} of auth users in upper case: usersync "
        "compares ids in lower case, as the auth server writes them, and would create a second row for each",
        "-- Change the ids to lower case, and have the application write them in lower case. Columns that "
        "refer to the ids change too only with ON UPDATE CASCADE, so look at them first:\n"
        f"-- update {table.quoted} as target set {column} = lower({key}::text) where {in_upper_case};",
        level="error",
    )
