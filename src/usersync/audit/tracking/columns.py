"""How the values of a column are compared and written, by its type."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from usersync.sql.expressions import literal

if TYPE_CHECKING:
    from collections.abc import Mapping

ColumnKind = Literal[
    "number", "numeric", "plain", "instant", "text", "json", "jsonb", "bytes", "document", "foreign"
]

#: The same limit as in Python's audit code.
TEXT_LIMIT = 16_384

_MAX_ENTITY_ID = 200
_KEPT_OF_LONG_ID = 130

_KINDS: Mapping[str, ColumnKind] = {
    "smallint": "number",
    "integer": "number",
    "bigint": "number",
    "text": "text",
    "character varying": "text",
    "character": "text",
    "bpchar": "text",
    "name": "text",
    "xml": "text",
    "json": "json",
    "json[]": "json",
    "jsonb": "jsonb",
    "bytea": "bytes",
    "timestamp with time zone": "instant",
    "numeric": "numeric",
}

#: Types in which equal values are the same, so that the faster equality operator is enough.
_EXACT = frozenset(
    (
        "smallint",
        "integer",
        "bigint",
        "boolean",
        "uuid",
        "date",
        "timestamp without time zone",
        "timestamp with time zone",
        "text",
        "character varying",
        "bytea",
    )
)


#: Substrings of values that json accepts and jsonb does not: a NUL, half a surrogate pair, a number out of
#: range.
_PERHAPS_NO_JSONB = literal(r"\\u(0000|d[89a-f])|[0-9]e[-+]?[0-9]")

#: Types whose JSON depends on no setting of the session, besides those of kinds in _UNFORMATTED.
_UNFORMATTED_TYPES = frozenset(("boolean", "uuid", "date", "timestamp without time zone"))
_UNFORMATTED: frozenset[ColumnKind] = frozenset(("number", "numeric", "text", "json", "jsonb", "bytes"))

Formatting = Literal["none", "zone", "all"]


@dataclass(frozen=True)
class TrackedColumn:
    """A column as it was when the table was tracked."""

    name: str
    kind: ColumnKind
    #: Whether values that are equal are the same. 1.0 and 1.00 are equal, and so are 'A' and 'a' in citext.
    exact: bool
    secret: bool = False
    #: The settings of the session on which the recorded text depends: only the time zone, or any.
    formatting: Formatting = "all"


def tracked_column(found: Mapping[str, Any], *, secret: bool) -> TrackedColumn:
    """Create a column from the inspection's result."""
    exact = found["built_in"] and found["type"] in _EXACT and found["exact_collation"]
    kind = _kind(found)
    formatting: Formatting = "all"
    if kind == "instant":
        formatting = "zone"
    elif kind in _UNFORMATTED or (found["built_in"] and found["type"] in _UNFORMATTED_TYPES):
        formatting = "none"
    return TrackedColumn(found["name"], kind, exact, secret, formatting)


def _kind(found: Mapping[str, Any]) -> ColumnKind:
    if not found["built_in"]:
        return "foreign"
    kind = _KINDS.get(found["type"])
    if kind is not None:
        return kind
    return "plain" if found["fixed"] else "document"


def recorded(column: TrackedColumn, value: str) -> str:  # noqa: PLR0911 - a kind, a line
    """The value as it is recorded: something that ``to_json`` takes; null for null."""
    if column.secret:
        return f"case when num_nulls({value}) = 0 then '[redacted]'::text end"
    match column.kind:
        case "text":
            return _short_text(f"{value}::text")
        case "bytes":
            return f"usersync.describe_bytes({value})"
        case "json":
            document = f"to_json({value})"
            text = f"{document}::text"
            alien = f"{text} ~* {_PERHAPS_NO_JSONB} and not usersync.is_valid_input({text}, 'jsonb')"
            short = _short_document(document, text)
            return f"case when {alien} then to_json({_short_text(text)}) else {short} end"
        case "jsonb" | "document":
            return _short_document(f"to_json({value})", f"to_json({value})::text", size_of=value)
        case "foreign":
            # With its output function, not with a cast: any role may have created the cast.
            return _short_text(f"case when num_nulls({value}) = 0 then concat({value}) end")
        case "number" | "numeric" | "plain" | "instant":
            return value


def _short_text(text: str) -> str:
    # Called only for long texts: each node of an expression costs time at the start of every statement.
    return f"case when octet_length({text}) > {TEXT_LIMIT} then {cut(text)} else {text} end"


def _short_document(document: str, text: str, size_of: str | None = None) -> str:
    # A stored document may be compressed to a hundredth. Most are small and are not converted to text.
    return (
        f"case when pg_column_size({size_of or document}) > {TEXT_LIMIT // 256} "
        f"and octet_length({text}) > {TEXT_LIMIT} then to_json({cut(text)}) else {document} end"
    )


def cut(text: str) -> str:
    """The beginning of a long text, with a marker."""
    return f"usersync.shorten_text({text}, {TEXT_LIMIT})"


def sha256(text: str) -> str:
    """The hash of a text, in hexadecimal digits."""
    return f"encode(sha256(convert_to({text}, 'UTF8')), 'hex')"


def key_text(column: TrackedColumn, value: str) -> str:
    """The value as the text of an entity's id: the same in every session."""
    match column.kind:
        case "number" | "text":
            text = f"{value}::text"
        case "numeric" | "plain":
            text = f"to_jsonb({value}) #>> '{{}}'"
        case "instant":
            text = f"to_jsonb({value} at time zone 'UTC') #>> '{{}}'"
        case "bytes":
            text = f"encode({value}, 'hex')"
        case "json" | "jsonb" | "document":
            text = f"{value}::text"
        case "foreign":
            text = f"concat({value})"
    return sha256(text) if column.secret else text


def shortened(text: str) -> str:
    """A text of the length that ``entity_id`` allows. A hash replaces the rest of a longer one."""
    return (
        f"case when length({text}) > {_MAX_ENTITY_ID} "
        f"then left({text}, {_KEPT_OF_LONG_ID}) || '…' || {sha256(text)} else {text} end"
    )
