"""The type of the column that holds the auth server's id: ``uuid``, or one that holds the id's text."""

from __future__ import annotations

import re
from dataclasses import dataclass

from usersync.config.mapping import parse_name, quote
from usersync.errors import SettingsError

#: Whether a text is a uuid in the form that PostgreSQL and the auth server write. A single regular expression
#: takes six times as long. With COALESCE the planner assumes that half of the rows match; it assumes that a
#: regular expression hardly ever matches, and then avoids the index on the key.
_IS_ID = (
    "coalesce({key} like '________-____-____-____-____________' and length(replace({key}, '-', '')) = 32 "
    "and {key} ~ '^[-0-9a-f]+$', false)"
)

#: The number of characters of a uuid.
LENGTH = 36

_VARCHAR = re.compile(r"(?:varchar|character varying)(?: ?\(([0-9]{1,9})\))?")
_CHAR = re.compile(r"(?:char|character)(?: ?\(([0-9]{1,9})\))?")
_HINT = (
    'An id of the auth server is a uuid, which has 36 characters as text. key_type can be "uuid", "text", '
    '"varchar", "varchar(n)" with 36 or more, "char(36)", or citext with its schema, as in '
    '"extensions.citext".'
)


@dataclass(frozen=True)
class KeyType:
    """A type that can hold an id. Create it with ``parse_key_type()``."""

    #: The name in the settings and in the database.
    name: str
    #: The schema of citext and its operators, which are not in pg_catalog.
    schema: str | None = None

    def __str__(self) -> str:
        return self.name

    @property
    def is_uuid(self) -> bool:
        return self.name == "uuid"

    @property
    def sql(self) -> str:
        """The type as SQL."""
        return self.name if self.schema is None else f'{quote(self.schema)}."citext"'

    def operator(self, sign: str) -> str:
        """The operator for two keys, with its schema, so that the search_path does not matter."""
        return sign if self.schema is None else f"operator({quote(self.schema)}.{sign})"

    def of_id(self, value: str) -> str:
        """An id as a key. The key column itself is not cast, so that its index is used."""
        return value if self.is_uuid else f"{value}::{self.sql}"

    def to_id(self, key: str) -> str:
        """The id in a key. A key without an id is an error in the database."""
        return key if self.is_uuid else f"{key}::uuid"

    def matches(self, key: str, user_id: str) -> str:
        """A condition: the key is the key of this id."""
        return f"{key} {self.operator('=')} {self.of_id(user_id)}"

    def matches_bound(self, key: str) -> str:
        """``matches()`` for a statement with the parameter ``id``. The placeholder is NUL, which no name
        contains.
        """
        return self.matches(key, "\0").replace("%", "%%").replace("\0", "%(id)s")

    def holds_id(self, key: str) -> str | None:
        """A condition: the key holds an id. None if every key does."""
        # Regular expressions do not support every collation that the column may have.
        return None if self.is_uuid else _IS_ID.format(key=f'({key}::text collate "C")')

    def rewrite(self, template: str) -> str:
        """Replace the key's placeholders in an SQL file.

        ``::"@key_type"`` casts an id to a key, and ``"@key"::uuid`` a key to an id; for uuid keys both are
        removed. An operator after ``"@key"`` becomes the operator of the key's type.
        """
        if self.is_uuid:
            return _CAST.sub("", template)
        return _OPERATOR.sub(lambda found: f'"@key" {self.operator(found[1])} ', template)


_CAST = re.compile(r'(?<="@key")::uuid\b|::"@key_type"(\[\])?')
_OPERATOR = re.compile(r'"@key" ([<>]?=|[<>]) ')

UUID_KEY = KeyType("uuid")


def parse_key_type(value: object, where: str) -> KeyType:
    """Read the setting, or a column's type as the database names it. Raises ``SettingsError``."""
    if not isinstance(value, str):
        raise SettingsError(f"{where}: expected the name of a type, got {value!r}", hint=_HINT)
    if value in {"uuid", "text"}:
        return KeyType(value)
    if found := _VARCHAR.fullmatch(value):
        length = found[1]
        if length and int(length) < LENGTH:
            raise SettingsError(f"{where}: {value} is too short for ids of the auth server", hint=_HINT)
        return KeyType(f"character varying({length})" if length else "character varying")
    if found := _CHAR.fullmatch(value):
        if found[1] != str(LENGTH):
            raise SettingsError(f"{where}: {value} must be character(36), the length of an id", hint=_HINT)
        return KeyType(f"character({LENGTH})")
    if value != "citext" and re.search(r'\.("citext"|citext)$', value):
        name = parse_name(value, where)
        return KeyType(str(name), name.schema)
    raise SettingsError(f"{where}: a column of type {value} cannot hold ids of the auth server", hint=_HINT)
