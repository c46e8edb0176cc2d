"""The mapping: how a row of ``auth.users`` becomes a row of the users table.

Each column of the users table has an owner, and either sources (the first that is present wins), a constant
or an SQL expression. ``usersync.sql.expressions`` turns the mapping into SQL.
"""

from __future__ import annotations

import difflib
import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, get_args

from usersync.config.sql_expression import (
    changes_by_itself,
    check_expression,
    is_personal,
    reads_user_metadata,
)
from usersync.errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

Owner = Literal["auth", "app"]
OnConflict = Literal["degrade", "null", "suffix"]
Absent = Literal["default", "null"]
Default = str | int | float | bool | None

#: PostgreSQL cuts longer names silently (NAMEDATALEN - 1).
MAX_NAME_BYTES = 63

#: The columns of ``auth.users`` that may be mirrored, and their types.
SOURCE_TYPES = {
    "aud": "text",
    "banned_until": "timestamptz",
    "confirmed_at": "timestamptz",
    "created_at": "timestamptz",
    "deleted_at": "timestamptz",
    "email": "text",
    "email_confirmed_at": "timestamptz",
    "id": "uuid",
    "instance_id": "uuid",
    "invited_at": "timestamptz",
    "is_anonymous": "boolean",
    "is_sso_user": "boolean",
    "is_super_admin": "boolean",
    "last_sign_in_at": "timestamptz",
    "phone": "text",
    "phone_confirmed_at": "timestamptz",
    "raw_app_meta_data": "jsonb",
    "raw_user_meta_data": "jsonb",
    "role": "text",
    "updated_at": "timestamptz",
}

#: Names of a column's type that holds every value of ``timestamptz``. Prisma writes the second one.
TIMESTAMPTZ = ("timestamp with time zone", "timestamp(6) with time zone")

#: Credentials and unconfirmed addresses, which are never copied.
_SECRET = re.compile(r"password|token|email_change|phone_change|reauthentication|recovery|confirmation_sent")

_METADATA = {"user_metadata": "raw_user_meta_data", "app_metadata": "raw_app_meta_data"}

#: Names of columns that look like a privilege. Users can write their own ``user_metadata``.
_PRIVILEGE = re.compile(
    r"""(^|_)(roles?|is_?admin|admin|superuser|superadmin|owner|staff|moderator|permissions?|privileges?|scopes?
        |grants?|claims?|entitlements?|groups?|access_level|tenant_id|org_id|organi[sz]ation_id|plan|tier
        |verified|approved)($|_)""",
    re.VERBOSE,
)

#: The name of a type and nothing else, because it is written into SQL unchanged.
_BUILT_IN_TYPE = re.compile(
    r"(double precision|character varying|bit varying|[a-z][a-z0-9_]*)(\(\d{1,9}(, ?\d{1,9})?\))?"
    r"|(time|timestamp)(\(\d\))? with(out)? time zone"
)


def quote(name: str) -> str:
    """The name as an SQL identifier."""
    return '"' + name.replace('"', '""') + '"'


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """A hint for an error about an unknown word: a similar known word, or all known words."""
    near = difflib.get_close_matches(word, known, n=1)
    return f"Did you mean {near[0]!r}?" if near else f"Known: {', '.join(sorted(known))}."


def check_keys(given: Iterable[object], known: Collection[str], where: str, kind: str = "option") -> None:
    """Raise ``SettingsError`` for the first key that is not known."""
    for key in given:
        if key not in known:
            raise SettingsError(f"{where}: unknown {kind} {key!r:.80}", hint=did_you_mean(str(key), known))


def check_name(name: str, where: str) -> str:
    """Return ``name`` if PostgreSQL can store it unchanged, else raise ``SettingsError``."""
    if not name:
        raise SettingsError(f"{where}: the name is empty")
    if "$" in name:
        raise SettingsError(
            f"{where}: {name!r} contains a $, which could end a dollar-quoted function body",
            hint="Rename the object: usersync does not support such names.",
        )
    if any(not character.isprintable() for character in name):
        raise SettingsError(f"{where}: {name!r} contains a character that cannot be printed")
    if len(name.encode()) > MAX_NAME_BYTES:
        raise SettingsError(
            f"{where}: {name!r} is longer than {MAX_NAME_BYTES} bytes; PostgreSQL would cut it",
            hint="Use the name in the database, which PostgreSQL has cut, or rename the object.",
        )
    return name


@dataclass(frozen=True)
class TableName:
    """A table with its schema. Names are case-sensitive: they are not folded to lower case."""

    schema: str
    name: str

    @property
    def quoted(self) -> str:
        """The name as SQL, with both parts quoted."""
        return f"{quote(self.schema)}.{quote(self.name)}"

    def __str__(self) -> str:
        parts = (self.schema, self.name)
        return ".".join(part if re.fullmatch(r"\w+", part) else quote(part) for part in parts)


def parse_name(text: object, where: str) -> TableName:
    """Read ``schema.table``. A part that contains a dot or a quote must be in double quotes."""
    if not isinstance(text, str):
        raise SettingsError(f'{where}: expected "schema.table", got {text!r}')
    parts = re.fullmatch(r'(?:("(?:[^"]|"")+"|[^".]+)\.)?("(?:[^"]|"")+"|[^".]+)', text)
    if parts is None:
        raise SettingsError(
            f'{where}: cannot read {text!r} as "schema.table"',
            hint="Put a part that contains a dot or a quote into double quotes, and double the quotes "
            "inside it.",
        )
    schema, name = (_unquote(part, where) if part else "public" for part in parts.groups())
    return TableName(check_name(schema, where), check_name(name, where))


def parse_table(text: object, where: str) -> TableName:
    """Read the name of a table of the application: not in a schema of PostgreSQL."""
    table = parse_name(text, where)
    if table.schema.startswith("pg_") or table.schema == "information_schema":
        raise SettingsError(
            f"{where}: {text} is in a system schema of PostgreSQL",
            hint="Use a table of the application. Temporary tables (pg_temp) exist in one session only.",
        )
    return table


def _unquote(part: str, where: str) -> str:
    if part.startswith('"'):
        return part[1:-1].replace('""', '"')
    if part != part.strip():
        raise SettingsError(
            f"{where}: {part!r} begins or ends with a space",
            hint="Remove the space. If it is part of the name, put the name into double quotes.",
        )
    return part


@dataclass(frozen=True)
class ValueSource:
    """A column of the auth server's table, or a path in one of its two JSON columns."""

    column: str
    path: tuple[str, ...] = ()

    def __str__(self) -> str:
        names = {column: name for name, column in _METADATA.items()}
        return ".".join([names.get(self.column, self.column), *self.path])

    @property
    def is_personal(self) -> bool:
        return self.column in {"email", "phone", "raw_user_meta_data"}


@dataclass(frozen=True)
class Column:
    """One column of the users table, and the source of its value."""

    name: str
    #: Empty for a constant and for an expression.
    sources: tuple[ValueSource, ...]
    value: Default = None
    expression: str | None = None
    default: Default = None
    owner: Owner = "auth"
    #: The type of the column if it differs from the source's type.
    type: str | None = None
    trusted: bool = False
    personal: bool = False
    #: What to store if the column is UNIQUE and another user has the value.
    on_conflict: OnConflict = "degrade"
    #: What to store if the user has no value: the column's DEFAULT in the table, or null.
    absent: Absent = "default"

    def describe(self) -> dict[str, Any]:
        """The column as plain data, in the form that ``parse_column()`` reads."""
        options = {
            "from": [str(source) for source in self.sources] or None,
            "value": self.value,
            "expression": self.expression,
            "default": self.default,
            "owner": self.owner,
            "type": self.type,
            "trusted": self.trusted,
            "personal": self.personal,
            "on_conflict": self.on_conflict if self.on_conflict != "degrade" else None,
            "absent": self.absent if self.absent != "default" else None,
        }
        return {key: value for key, value in options.items() if value is not None}

    @property
    def takes_table_default(self) -> bool:
        """Whether the column's DEFAULT in the table is stored if the user has no value."""
        absent = self.default is None and self.absent == "default"
        return absent and not self.is_computed and not self.is_tombstone

    @property
    def is_tombstone(self) -> bool:
        """Whether this column holds the time of the user's deletion."""
        return self.sources == (ValueSource("deleted_at"),)

    @property
    def is_computed(self) -> bool:
        """Whether it holds a constant or the value of an expression."""
        return not self.sources

    @property
    def origin(self) -> str:
        """The source of the value, in words."""
        if self.expression is not None:
            return f"the expression {self.expression}"
        return " or ".join(map(str, self.sources)) or f"the constant {self.value!r}"

    @property
    def sql_type(self) -> str:
        """The type of this column's SQL expression; ``text`` if only the database knows it."""
        if self.type is not None:
            return self.type
        if self.is_computed:
            return _CONSTANT_TYPES.get(type(self.value), "text")
        types = {"text" if source.path else SOURCE_TYPES[source.column] for source in self.sources}
        return types.pop() if len(types) == 1 else "text"


_CONSTANT_TYPES = {bool: "boolean", int: "bigint", float: "double precision"}


def parse_column(name: str, entry: object, table: str = "columns") -> Column:
    """Read one entry of ``[columns]``: a source, or a table with ``from``, ``default``, ``owner``, …"""
    where = f"{table}.{name}"
    options = _options(entry, where)
    sources = _parse_sources(options["from"], where) if "from" in options else ()
    expression = check_expression(options["expression"], where) if "expression" in options else None
    column = Column(
        name=check_name(name, where),
        sources=sources,
        value=_parse_constant(options.get("value"), f"{where}.value"),
        expression=expression,
        default=_parse_constant(options.get("default"), f"{where}.default"),
        owner=_parse_choice(
            options.get("owner", _usual_owner(is_computed=not sources)), Owner, f"{where}.owner"
        ),
        type=parse_type(options.get("type"), where),
        trusted=parse_flag(options.get("trusted", False), f"{where}.trusted"),
        personal=parse_flag(
            options.get("personal", _holds_personal_data(sources, expression)), f"{where}.personal"
        ),
        on_conflict=_parse_choice(options.get("on_conflict", "degrade"), OnConflict, f"{where}.on_conflict"),
        absent=_parse_choice(options.get("absent", "default"), Absent, f"{where}.absent"),
    )
    _refuse_escalation(column, where)
    _refuse_suffix(column, where)
    _refuse_what_changes_by_itself(column, where)
    return column


def _holds_personal_data(sources: tuple[ValueSource, ...], expression: str | None) -> bool:
    return any(source.is_personal for source in sources) or is_personal(expression or "")


def usual_options(column: Column) -> Mapping[str, Any]:
    """The default values of the options of this column, which an entry can leave out."""
    return {
        "owner": _usual_owner(is_computed=column.is_computed),
        "trusted": False,
        "personal": _holds_personal_data(column.sources, column.expression),
    }


def _usual_owner(*, is_computed: bool) -> Owner:
    """The default owner: a constant or an expression is filled once."""
    return "app" if is_computed else "auth"


_ORIGINS = {"from", "value", "expression"}
_OPTIONS = {*_ORIGINS, "default", "owner", "type", "trusted", "personal", "on_conflict", "absent"}


def _options(entry: object, where: str) -> Mapping[str, Any]:
    if isinstance(entry, str | list):
        return {"from": entry}
    check_keys(entry if isinstance(entry, dict) else (), _OPTIONS, where)
    if not isinstance(entry, dict) or not _ORIGINS & set(entry):
        raise SettingsError(
            f'{where}: expected a source such as "email", or {{ from = "email", … }}',
            hint='For a constant: { value = "client" }. For an expression: { expression = "left(id::text, '
            '8)" }.',
        )
    given = sorted(_ORIGINS & set(entry))
    if len(given) > 1:
        raise SettingsError(f"{where}: {' and '.join(given)} exclude each other")
    if "default" in entry and "from" not in entry:
        raise SettingsError(
            f"{where}: default requires from", hint="In an expression, write coalesce(…, 'the default')."
        )
    return entry


def _parse_sources(origins: object, where: str) -> tuple[ValueSource, ...]:
    listed = origins if isinstance(origins, list) else [origins]
    if not listed:
        raise SettingsError(f'{where}: "from" is empty')
    return tuple(_parse_source(source, where) for source in listed)


def _parse_source(text: object, where: str) -> ValueSource:
    if not isinstance(text, str) or not text:
        raise SettingsError(f"{where}: a source is a name such as {'email'!r}, not {text!r}")
    head, *path = text.split(".")
    if head in _METADATA and all(path):
        for key in path:
            check_name(key, where)
        return ValueSource(_METADATA[head], tuple(path))
    if path or head not in SOURCE_TYPES:
        near = difflib.get_close_matches(head, (*SOURCE_TYPES, *_METADATA), n=1)
        meant = ".".join((*near, *path))
        hint = f"Did you mean {meant!r}?" if near else _SOURCES_HINT
        raise SettingsError(f"{where}: {text!r} {_why_not_a_source(head)}", hint=hint)
    return ValueSource(head)


_SOURCES_HINT = (
    f"Sources are {', '.join(name for name in SOURCE_TYPES if not name.startswith('raw_'))}, "
    "user_metadata[.key], app_metadata[.key]."
)


def _why_not_a_source(name: str) -> str:
    if _SECRET.search(name):
        return "holds a credential or an unconfirmed address and is never copied"
    return "is not a column of auth.users that can be mirrored"


def _parse_choice(value: object, choices: Any, where: str) -> Any:
    if value not in get_args(choices):
        wanted = ", ".join(f'"{choice}"' for choice in get_args(choices))
        raise SettingsError(f"{where}: {value!r} is none of {wanted}")
    return value


def _refuse_suffix(column: Column, where: str) -> None:
    """A suffixed value differs from the source, so a mirrored column would be written at every sync."""
    if column.on_conflict != "suffix":
        return
    if column.owner != "app":
        raise SettingsError(
            f'{where}.on_conflict: "suffix" creates a value that the auth server does not have',
            hint='Add owner = "app": the column is filled when the row is created, and not changed again.',
        )
    if column.sql_type != "text":
        raise SettingsError(
            f'{where}.on_conflict: "suffix" requires a text column, and this is {column.sql_type}'
        )


def _refuse_what_changes_by_itself(column: Column, where: str) -> None:
    changing = changes_by_itself(column.expression) if column.expression and column.owner == "auth" else None
    if changing:
        raise SettingsError(
            f"{where}: the column would be kept equal to {changing}, which changes without a change of the "
            "user",
            hint='Remove owner = "auth": then the column is filled when the row is created, and not '
            "changed again.",
        )


def parse_type(value: object, where: str) -> str | None:
    """The name of a type as SQL, or None. Raises ``SettingsError`` for anything else."""
    if value is None:
        return None
    if isinstance(value, str) and value.endswith("[]") and not value.endswith("[][]"):
        return f"{parse_type(value.removesuffix('[]'), where)}[]"
    if isinstance(value, str) and _BUILT_IN_TYPE.fullmatch(value):
        return value
    if isinstance(value, str) and "." in value:
        return parse_name(value, f"{where}.type").quoted
    raise SettingsError(
        f"{where}.type: {value!r} is not the name of a type",
        hint='Write a built-in type in lower case ("integer", "numeric(8,2)", "text[]") or "schema.type".',
    )


def parse_flag(value: object, where: str) -> bool:
    """``value`` if it is true or false, else raise ``SettingsError``."""
    if not isinstance(value, bool):
        raise SettingsError(f"{where}: expected true or false, got {value!r}")
    return value


def _parse_constant(value: object, where: str) -> Default:
    if value is not None and not isinstance(value, str | int | float):
        raise SettingsError(f"{where}: expected a string, a number, true or false, got {value!r}")
    if isinstance(value, float) and not math.isfinite(value):
        raise SettingsError(f"{where}: {value!r} is not a number that can be stored")
    if isinstance(value, str):
        _check_text(value, where)
    return value


def _check_text(value: str, where: str) -> None:
    if "$" in value:
        raise SettingsError(f"{where}: {value!r} contains a $, which could end a function body")
    # Half of a surrogate pair has no UTF-8 encoding, and text in PostgreSQL cannot contain NUL.
    if "\0" in value or any("\ud800" <= character <= "\udfff" for character in value):
        raise SettingsError(f"{where}: {value!r} contains a character that PostgreSQL cannot store")


def looks_like_a_privilege(name: str) -> bool:
    """Whether a column of this name may decide what a user is allowed to do."""
    words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|[^A-Za-z0-9]+", "_", name)
    return _PRIVILEGE.search(words.lower()) is not None


def _refuse_escalation(column: Column, where: str) -> None:
    writable_by_user = any(source.column == "raw_user_meta_data" for source in column.sources) or (
        column.expression is not None and reads_user_metadata(column.expression)
    )
    if writable_by_user and looks_like_a_privilege(column.name) and not column.trusted:
        raise SettingsError(
            f"{where}: every signed-in user can write their own user_metadata, and {column.name!r} looks "
            "like a privilege",
            hint="Use app_metadata, which only your server can write. If this is intended, set trusted = "
            "true.",
        )


#: The default mapping, and the columns of a table that usersync creates.
DEFAULT_COLUMNS: Mapping[str, Any] = {
    "email": "email",
    "phone": "phone",
    "full_name": ["user_metadata.full_name", "user_metadata.name"],
    "avatar_url": ["user_metadata.avatar_url", "user_metadata.picture"],
    "is_anonymous": "is_anonymous",
    "email_confirmed_at": "email_confirmed_at",
    "phone_confirmed_at": "phone_confirmed_at",
    "banned_until": "banned_until",
    "created_at": "created_at",
    "deleted_at": "deleted_at",
}
