"""The mapping as SQL expressions. This is the one place that knows how a value is fetched."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from usersync.mapping import SOURCE_TYPES, Column, Default, Source, quote

if TYPE_CHECKING:
    from collections.abc import Iterable

    from usersync.settings import OnDelete, Settings


def literal(value: Default) -> str:
    """A Python value as an SQL literal."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return str(value)
    quoted = "'" + value.replace("'", "''") + "'"
    # Read the same whatever the session's standard_conforming_strings.
    return "E" + quoted.replace("\\", "\\\\") if "\\" in value else quoted


def expression(column: Column, row: str) -> str:
    """The value of ``column`` in ``row``, an alias of the auth server's table, in the column's type."""
    value = _value(column, row)
    return f"({value})::{column.type}" if column.type else value


#: Types in which an instant is another one, depending on where one is.
_ZONELESS = re.compile(r"timestamp(\(\d\))?( without time zone)?|date|time(\(\d\))?( without time zone)?")


def _value(column: Column, row: str) -> str:
    if column.expression is not None:
        # In a query of its own, so that a name is a column of the auth server's table and of no other.
        return f"(select {column.expression} from (select {row}.*) as source)"
    return _mirrored(column, row) if column.sources else literal(column.value)


def _mirrored(column: Column, row: str) -> str:
    sources, default = column.sources, column.default
    if column.type and column.type.endswith("[]"):
        return _array(column, row)
    if _ZONELESS.fullmatch(column.type or "") and {_type(source) for source in sources} == {"timestamptz"}:
        return _zoneless(column, row)
    if len(sources) == 1 and default is None:
        as_json = column.type in {"json", "jsonb"}
        return _json(sources[0], row) if as_json else _text(sources[0], row)
    if not any(source.path for source in sources):
        cast = "::text" if len({_type(source) for source in sources}) > 1 else ""
        plain = [_text(source, row) + cast for source in sources]
        return f"coalesce({', '.join([*plain, literal(default)])})"
    # As JSON, a key that is there and holds null counts as present; as text it would count as absent.
    found = [_json(source, row) for source in sources]
    if column.type in {"json", "jsonb"}:
        return f"coalesce({', '.join([*found, *_json_default(default)])})"
    if default is not None:
        found.append(f"to_jsonb({literal(default)}{'::text' if isinstance(default, str) else ''})")
    return f"coalesce({', '.join(found)}) #>> '{{}}'"


def _type(source: Source) -> str:
    return "jsonb" if source.path else SOURCE_TYPES[source.column]


def _zoneless(column: Column, row: str) -> str:
    """The time as it is in UTC, wherever the session is."""
    found = [_text(source, row) for source in column.sources]
    if column.default is not None:
        found.append(literal(column.default))
    return f"coalesce({_join(found)}) at time zone 'UTC'"


def _array(column: Column, row: str) -> str:
    """A JSON array as the text of an SQL one; anything else as it is, which an array's type then refuses."""
    found = f"coalesce({_join(_json(source, row) for source in column.sources)})"
    text = (
        "(select case jsonb_typeof(found.value) when 'array' "
        "then array(select jsonb_array_elements_text(found.value))::text else found.value #>> '{}' end "
        f"from (select {found}) as found (value))"
    )
    if column.default is None:
        return text
    # As everywhere: a key that is there and holds null is null.
    return f"case when {found} is null then {literal(column.default)} else {text} end"


def _json_default(default: Default) -> list[str]:
    """A default for a JSON column is JSON where it is text."""
    if default is None:
        return []
    return [f"{literal(default)}::jsonb" if isinstance(default, str) else f"to_jsonb({literal(default)})"]


def _text(source: Source, row: str) -> str:
    column = f"{row}.{quote(source.column)}"
    if not source.path:
        return column
    if len(source.path) == 1:
        return f"{column} ->> {literal(source.path[0])}"
    return f"{column} #>> {_path(source)}"


def _json(source: Source, row: str) -> str:
    column = f"{row}.{quote(source.column)}"
    if not source.path:
        return f"to_jsonb({column})"
    if len(source.path) == 1:
        return f"{column} -> {literal(source.path[0])}"
    return f"{column} #> {_path(source)}"


def _path(source: Source) -> str:
    return f"array[{', '.join(literal(key) for key in source.path)}]"


def as_text(column: Column, row: str) -> str:
    """The value before its cast: what there is to be cast."""
    return f"({_value(column, row)})::text"


def comparable(column: Column, row: str) -> str:
    """The stored value in a form that has an equality operator (``json`` has none)."""
    stored = f"{row}.{quote(column.name)}"
    return f"{stored}::text::jsonb" if column.type == "json" else stored


def _fitting(column: Column) -> str:
    """The value in a form that cannot raise: what does not fit its type counts as null.

    One user's unfit value must not stop a page of the reconciler; writing it is what finds the fault.
    """
    value = expression(column, "source")
    if not column.type:
        return value
    is_valid = f"usersync.is_valid_input({as_text(column, 'source')}, {literal(column.type)})"
    return f"case when {is_valid} then {value} end"


def _with_equality(value: str, column: Column) -> str:
    return f"({value})::text::jsonb" if column.type == "json" else value


def differs(column: Column) -> str:
    """Whether the row of the users table, ``target``, holds another value than that of ``source``.

    ``known.defaults`` has to be in scope: what usersync.column_defaults() returns.
    """
    return f"{comparable(column, 'target')} is distinct from {_wanted(column)}"


def _or_default(column: Column, value: str, otherwise: str) -> str:
    """``value``; where the user has none, and the table has a DEFAULT for the column, ``otherwise``."""
    if not column.takes_table_default:
        return value
    has_default = f"known.defaults -> {literal(column.name)} is not null"
    return f"coalesce({value}, case when {has_default} then {otherwise} end)"


def _constant_default(column: Column) -> str:
    """The DEFAULT of the column as it is now; null where it is no constant."""
    return f"(known.defaults ->> {literal(column.name)})::{column.sql_type}"


def _fresh_default(column: Column) -> str:
    return f"usersync.column_default({literal(column.name)})::{column.sql_type}"


def _stored(column: Column) -> str:
    """What the row ``target`` holds, and goes on holding where the user has no value."""
    return f"target.{quote(column.name)}"


def _wanted(column: Column) -> str:
    """What the row ``target`` should hold, to be compared with what it holds."""
    return _with_equality(_or_default(column, _fitting(column), _stored(column)), column)


def _wanted_alone(column: Column) -> str:
    """The same without a look at the row: a guess where the user has no value, and the column a DEFAULT."""
    return _with_equality(_or_default(column, _fitting(column), _constant_default(column)), column)


def inserted(column: Column) -> str:
    """What a new row gets."""
    default = f"coalesce({_constant_default(column)}, {_fresh_default(column)})"
    return _or_default(column, expression(column, "source"), default)


def assigned(column: Column) -> str:
    """What a row that is there gets."""
    return _or_default(column, expression(column, "source"), _stored(column))


def inserted_alone(column: Column) -> str:
    """What a new row gets, where ``known.defaults`` is not in scope."""
    value = expression(column, "source")
    return f"coalesce({value}, {_fresh_default(column)})" if column.takes_table_default else value


class Fragments:
    """The lists that SQL files name with placeholders, made from the mapping.

    A list of columns begins with the key, so that none is ever empty, unless it is of columns to set: setting
    the key, even to what it is, asks for a lock that waits for everybody who has just referenced the row.
    """

    def __init__(self, settings: Settings) -> None:
        self._key_name = settings.key
        self._key = quote(settings.key)
        self._key_type = settings.key_type
        self._id_as_key = settings.key_type.of_id('source."id"')
        self._key_as_id = settings.key_type.to_id(f"target.{self._key}")
        self._source_table = settings.source_table.quoted
        self._users_table = literal(settings.users_table.quoted)
        self._tombstone = settings.tombstone
        self._all = (*settings.users_where, *settings.columns)
        self._fixed = {column.name for column in settings.users_where}
        self._auth = [column for column in settings.columns if column.owner == "auth"]
        self._personal = [column for column in settings.columns if column.personal]
        self._on_delete, self._on_soft_delete = settings.on_delete, settings.on_soft_delete

    def names(self) -> dict[str, str]:
        """Lists that stand where identifiers stand."""
        return {
            "key": self._key,
            "columns": self._names(self._all),
            "auth_columns": self._set(self._auth),
            "removed_columns": self._set(self._removed(self._on_delete)),
            "soft_removed_columns": self._set(self._removed(self._on_soft_delete)),
        }

    def values(self) -> dict[str, str]:
        """Lists that stand where a literal stands."""
        return {
            "created_values": _join(
                [
                    f"{self._id_as_key} as {self._key}",
                    *(f"{_typed(c)} as {quote(c.name)}" for c in self._all),
                ]
            ),
            "source_values": _join([self._id_as_key, *(inserted(column) for column in self._all)]),
            "plain_values": _join([self._id_as_key, *(expression(c, "source") for c in self._all)]),
            "lacks_default": self._lacks_default(),
            "defaultable_columns": _join(
                literal(column.name) for column in self._all if column.takes_table_default
            )
            or "null",
            "stored_auth_values": self._stored("target"),
            "source_auth_values": _join([self._id_as_key, *(_wanted(column) for column in self._auth)]),
            "emptied_columns": self._emptied(),
            "source_auth_values_alone": _join(
                [self._id_as_key, *(_wanted_alone(column) for column in self._auth)]
            ),
            "new_auth_values": self._watched("new"),
            "old_auth_values": self._watched("old"),
            "assigned_auth_values": _join(assigned(column) for column in self._auth) or f"target.{self._key}",
            "removed_values": self._removed_values(self._on_delete),
            "soft_removed_values": self._removed_values(self._on_soft_delete),
            "is_removed": self._is_removed(),
            "is_soft_removed": self._is_result_of(self._on_soft_delete),
            "is_current": self._is_current() or 'owner."id" is not null',
            "is_taken_for_current": self._is_current() or "false",
            "differing_columns": self._differing(),
            "is_row_of_source": literal(self._is_row_of('source."id"')),
            "is_row_of_given": literal(self._is_row_of("$1")),
            "mapped_columns": _join(literal(name) for name in [self._key_name, *(c.name for c in self._all)]),
            "mapped_owners": _join(
                ["'key'", *("'key'" if c.name in self._fixed else literal(c.owner) for c in self._all)]
            ),
            "mapped_policies": _join(["'degrade'", *(literal(c.on_conflict) for c in self._all)]),
            "mapped_expressions": _join(
                literal(value) for value in [self._id_as_key, *(inserted_alone(c) for c in self._all)]
            ),
        }

    def _names(self, columns: Iterable[Column]) -> str:
        return _join([self._key, *(quote(column.name) for column in columns)])

    def _is_row_of(self, user_id: str) -> str:
        """Whether ``target`` is the row of this user."""
        return self._key_type.matches(f"target.{self._key}", user_id)

    def _set(self, columns: list[Column]) -> str:
        return _join(quote(column.name) for column in columns) or self._key

    def _watched(self, row: str) -> str:
        # deleted_at decides what becomes of the row, whether or not it is mirrored. Casts are left out:
        # what cannot be cast is for sync_users to report, not a reason to overlook that it changed.
        values = [_value(column, row) for column in self._auth]
        if self._tombstone not in self._auth:
            values.append(f'{row}."deleted_at"')
        return _join([f'{row}."id"', *values])

    def _lacks_default(self) -> str:
        """Whether the user has no value for a column that has a DEFAULT."""
        return (
            " or ".join(
                f"({_value(column, 'source')}) is null and "
                f"usersync.has_default({self._users_table}::regclass, array[{literal(column.name)}])"
                for column in self._all
                if column.takes_table_default
            )
            or "false"
        )

    def _emptied(self) -> str:
        """The columns whose value the auth server has just taken away, and whose DEFAULT is to come back."""
        return _join(
            f"case when {_value(column, 'new')} is null and {_value(column, 'old')} is not null "
            f"then {literal(column.name)} end"
            for column in self._auth
            if column.takes_table_default
        )

    def _stored(self, row: str) -> str:
        return _join([f"{row}.{self._key}", *(comparable(column, row) for column in self._auth)])

    def _removed(self, policy: OnDelete) -> list[Column]:
        tombstone = [self._tombstone] if self._tombstone else []
        personal = self._personal if policy == "anonymize" else []
        return tombstone + personal

    def _removed_values(self, policy: OnDelete) -> str:
        return _join(self._removed_value(column) for column in self._removed(policy)) or f"target.{self._key}"

    def _removed_value(self, column: Column) -> str:
        if column.is_tombstone:
            deleted_at = (
                f'select source."deleted_at" from {self._source_table} as source where source."id" = '
            )
            return f"coalesce(target.{quote(column.name)}, ({deleted_at}{self._key_as_id}), now())"
        return self._placeholder(column)

    def _placeholder(self, column: Column) -> str:
        placeholder = f"usersync.placeholder({literal(column.name)}, {self._key_as_id})"
        # Text fits into every string type by assignment; anything else has to be said.
        return placeholder if column.sql_type == "text" else f"{placeholder}::{column.sql_type}"

    def _is_removed(self) -> str:
        """Whether a row whose user is gone is what ``on_delete`` makes of it, or was anonymized before."""
        result = self._is_result_of(self._on_delete)
        if self._on_delete == "delete" and self._on_soft_delete == "anonymize" and self._tombstone:
            return self._is_result_of("anonymize")
        return result

    def _is_result_of(self, policy: OnDelete) -> str:
        """Whether a row is what this policy makes of it."""
        if policy in {"keep", "delete"}:
            return literal(policy == "keep")
        conditions = [
            f"target.{name} is not null"
            if column.is_tombstone
            else f"(target.{name} is null or target.{name}::text = ({self._placeholder(column)})::text)"
            for column in self._removed(policy)
            for name in [quote(column.name)]
        ]
        return " and ".join(conditions) or "true"

    def _is_current(self) -> str | None:
        """Whether a row says itself that its user is alive: none does where nothing would have marked it.

        It may be wrong, which costs a second look; see compare_tables.sql.
        """
        policies = {self._on_delete, self._on_soft_delete}
        if policies == {"delete"}:
            return "true"
        if "keep" not in policies and self._tombstone in self._auth:
            return f"target.{quote(self._tombstone.name)} is null"
        return None

    def _differing(self) -> str:
        return _join(f"case when {differs(column)} then {literal(column.name)} end" for column in self._auth)


def _typed(column: Column) -> str:
    """The value in the type that a new table gives the column. The database knows that of an expression."""
    value = expression(column, "source")
    return value if column.expression is not None else f"({value})::{column.sql_type}"


def _join(parts: Iterable[str]) -> str:
    return ", ".join(parts)
