"""The mapping as SQL expressions. Only this module reads values of the auth server's table."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from usersync.config.mapping import SOURCE_TYPES, Column, Default, ValueSource, quote
from usersync.config.redaction import Redactor

if TYPE_CHECKING:
    from collections.abc import Iterable

    from usersync.config.settings import OnDelete, Settings


def literal(value: Default) -> str:
    """A Python value as an SQL literal."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return str(value)
    quoted = "'" + value.replace("'", "''") + "'"
    # The E syntax does not depend on standard_conforming_strings.
    return "E" + quoted.replace("\\", "\\\\") if "\\" in value else quoted


def literals(values: Iterable[Default]) -> str:
    """Python values as SQL literals, separated by commas."""
    return ", ".join(map(literal, values))


def expression(column: Column, row: str) -> str:
    """The value of ``column`` in ``row``, an alias of the auth server's table, in the column's type."""
    value = _value(column, row)
    return f"({value})::{column.type}" if column.type else value


#: Types in which the value of an instant depends on the time zone.
_ZONELESS = re.compile(r"timestamp(\(\d\))?( without time zone)?|date|time(\(\d\))?( without time zone)?")


def _value(column: Column, row: str) -> str:
    if column.expression is not None:
        # In a subquery, so that a name can only be a column of the auth server's table.
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
    # As JSON: a key with the value null counts as present. As text it would count as absent.
    found = [_json(source, row) for source in sources]
    if column.type in {"json", "jsonb"}:
        return f"coalesce({', '.join([*found, *_json_default(default)])})"
    if default is not None:
        found.append(f"to_jsonb({literal(default)}{'::text' if isinstance(default, str) else ''})")
    return f"coalesce({', '.join(found)}) #>> '{{}}'"


def _type(source: ValueSource) -> str:
    return "jsonb" if source.path else SOURCE_TYPES[source.column]


def _zoneless(column: Column, row: str) -> str:
    """The time in UTC, whatever the session's time zone."""
    found = [_text(source, row) for source in column.sources]
    if column.default is not None:
        found.append(literal(column.default))
    return f"coalesce({_join(found)}) at time zone 'UTC'"


def _array(column: Column, row: str) -> str:
    """A JSON array as the text of an SQL array. Any other value stays and is invalid for the array type."""
    found = f"coalesce({_join(_json(source, row) for source in column.sources)})"
    text = (
        "(select case jsonb_typeof(found.value) when 'array' "
        "then array(select jsonb_array_elements_text(found.value))::text else found.value #>> '{}' end "
        f"from (select {found}) as found (value))"
    )
    if column.default is None:
        return text
    # As for other types: a key with the value null is null.
    return f"case when {found} is null then {literal(column.default)} else {text} end"


def _json_default(default: Default) -> list[str]:
    """The default of a JSON column. A text is parsed as JSON."""
    if default is None:
        return []
    return [f"{literal(default)}::jsonb" if isinstance(default, str) else f"to_jsonb({literal(default)})"]


def _text(source: ValueSource, row: str) -> str:
    column = f"{row}.{quote(source.column)}"
    if not source.path:
        return column
    if len(source.path) == 1:
        return f"{column} ->> {literal(source.path[0])}"
    return f"{column} #>> {_path(source)}"


def _json(source: ValueSource, row: str) -> str:
    column = f"{row}.{quote(source.column)}"
    if not source.path:
        return f"to_jsonb({column})"
    if len(source.path) == 1:
        return f"{column} -> {literal(source.path[0])}"
    return f"{column} #> {_path(source)}"


def _path(source: ValueSource) -> str:
    return f"array[{', '.join(literal(key) for key in source.path)}]"


def as_text(column: Column, row: str) -> str:
    """The value before its cast, as text."""
    return f"({_value(column, row)})::text"


def comparable(column: Column, row: str) -> str:
    """The stored value in a type with an equality operator (``json`` has none)."""
    stored = f"{row}.{quote(column.name)}"
    return f"{stored}::text::jsonb" if column.type == "json" else stored


def _fitting(column: Column) -> str:
    """The value, or null if it is not valid for its type, so that it does not raise.

    One user's invalid value must not stop a page of a run. Writing the row reports it.
    """
    value = expression(column, "source")
    if not column.type:
        return value
    is_valid = f"usersync.is_valid_input({as_text(column, 'source')}, {literal(column.type)})"
    return f"case when {is_valid} then {value} end"


def _with_equality(value: str, column: Column) -> str:
    return f"({value})::text::jsonb" if column.type == "json" else value


def differs(column: Column) -> str:
    """Whether a value in ``target`` (the users table's row) differs from the mapped value of ``source``.

    Requires ``known.defaults`` in scope, the result of usersync.column_defaults().
    """
    return f"{comparable(column, 'target')} is distinct from {_wanted(column)}"


def _or_default(column: Column, value: str, otherwise: str) -> str:
    """``value``, or ``otherwise`` if the user has no value and the column has a DEFAULT."""
    if not column.takes_table_default:
        return value
    has_default = f"known.defaults -> {literal(column.name)} is not null"
    return f"coalesce({value}, case when {has_default} then {otherwise} end)"


def _constant_default(column: Column) -> str:
    """The current DEFAULT of the column; null if it is not a constant."""
    return f"(known.defaults ->> {literal(column.name)})::{column.sql_type}"


def _fresh_default(column: Column) -> str:
    return f"usersync.column_default({literal(column.name)})::{column.sql_type}"


def _stored(column: Column) -> str:
    """The value of the row ``target``. It stays if the user has no value."""
    return f"target.{quote(column.name)}"


def _wanted(column: Column) -> str:
    """The value that the row ``target`` should have, for a comparison."""
    return _with_equality(_or_default(column, _fitting(column), _stored(column)), column)


def _wanted_alone(column: Column) -> str:
    """The same without reading the row: a guess if the user has no value and the column has a DEFAULT."""
    return _with_equality(_or_default(column, _fitting(column), _constant_default(column)), column)


def inserted(column: Column) -> str:
    """The value of a new row."""
    default = f"coalesce({_constant_default(column)}, {_fresh_default(column)})"
    return _or_default(column, expression(column, "source"), default)


def assigned(column: Column) -> str:
    """The value that an existing row is updated to."""
    return _or_default(column, expression(column, "source"), _stored(column))


def inserted_alone(column: Column) -> str:
    """The value of a new row, without ``known.defaults`` in scope."""
    value = expression(column, "source")
    return f"coalesce({value}, {_fresh_default(column)})" if column.takes_table_default else value


class Fragments:
    """The lists for the placeholders of SQL files, made from the mapping.

    A list of columns starts with the key, so that it is never empty. Lists of columns to set do not contain
    the key: setting it, even to the same value, takes a lock that waits for every session that has just
    referenced the row.
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
        self._is_secret = Redactor().is_secret
        self._on_delete, self._on_soft_delete = settings.on_delete, settings.on_soft_delete

    def names(self) -> dict[str, str]:
        """Lists in the place of identifiers."""
        return {
            "key": self._key,
            "columns": self._names(self._all),
            "auth_columns": self._set(self._auth),
            "removed_columns": self._set(self._removed(self._on_delete)),
            "soft_removed_columns": self._set(self._removed(self._on_soft_delete)),
        }

    def values(self) -> dict[str, str]:
        """Lists in the place of a literal."""
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
            "has_arrived": self._arrived(),
            "assigned_auth_values": _join(assigned(column) for column in self._auth) or f"target.{self._key}",
            "removed_values": self._removed_values(self._on_delete),
            "soft_removed_values": self._removed_values(self._on_soft_delete),
            "is_removed": self._is_removed(),
            "is_soft_removed": self._is_result_of(self._on_soft_delete),
            "is_current": self._is_current() or 'owner."id" is not null',
            "is_taken_for_current": self._is_current() or "false",
            "differing_columns": self._differing(),
            "mapped_row": self._mapped_row(),
            "mirrored_columns": _join(literal(column.name) for column in self._auth),
            "secret_columns": _join(literal(c.name) for c in self._all if self._is_secret(c.name)),
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
        # deleted_at decides about the row even if it is not mirrored. Without casts: sync_users reports a
        # value that cannot be cast, and the comparison must not raise for it.
        values = [_value(column, row) for column in self._auth]
        if self._tombstone not in self._auth:
            values.append(f'{row}."deleted_at"')
        return _join([f'{row}."id"', *values])

    def _arrived(self) -> str:
        """Whether this UPDATE brings a first value for an app-owned column, which may have refused null."""
        sources = {
            quote(source.column)
            for column in self._all
            if column.owner == "app"
            for source in column.sources
            if not source.path
        }
        return (
            " or ".join(f"old.{each} is null and new.{each} is not null" for each in sorted(sources))
            or "false"
        )

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
        """The columns whose value the auth server has just removed, and which are set to their DEFAULT."""
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
        # Text is assigned to every string type without a cast; other types need one.
        return placeholder if column.sql_type == "text" else f"{placeholder}::{column.sql_type}"

    def _is_removed(self) -> str:
        """Whether the row of a deleted user is as ``on_delete`` makes it, or was anonymized before."""
        result = self._is_result_of(self._on_delete)
        if self._on_delete == "delete" and self._on_soft_delete == "anonymize" and self._tombstone:
            return self._is_result_of("anonymize")
        return result

    def _is_result_of(self, policy: OnDelete) -> str:
        """Whether a row is as this policy makes it."""
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
        """Whether a row itself shows that its user is not deleted; None if deletions do not mark rows.

        It may be wrong, which costs a second query, see compare_tables.sql.
        """
        policies = {self._on_delete, self._on_soft_delete}
        if policies == {"delete"}:
            return "true"
        if "keep" not in policies and self._tombstone in self._auth:
            return f"target.{quote(self._tombstone.name)} is null"
        return None

    def _mapped_row(self) -> str:
        """The mapped columns of the row ``target`` as JSON."""
        columns = [
            f"target.{quote(c.name)}{'::text' if c.type == 'json' else ''} as {quote(c.name)}"
            for c in self._all
        ]
        return f"(select to_jsonb(mapped) from (select {_join(columns)}) as mapped)"

    def _differing(self) -> str:
        return _join(f"case when {differs(column)} then {literal(column.name)} end" for column in self._auth)


def _typed(column: Column) -> str:
    """The value in the column's type for a new table. The database derives the type of an expression."""
    value = expression(column, "source")
    return value if column.expression is not None else f"({value})::{column.sql_type}"


def _join(parts: Iterable[str]) -> str:
    return ", ".join(parts)
