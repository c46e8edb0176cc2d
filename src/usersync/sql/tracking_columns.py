"""How the values of a column are compared and written, by its type."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping

Kind = Literal["number", "plain", "instant", "text", "json", "jsonb", "bytes", "document", "foreign"]

#: The same as what the Python side cuts at.
TEXT_LIMIT = 16_384

_MAX_BYTES_SHOWN = 256
_MAX_ENTITY_ID = 200
_KEPT_OF_LONG_ID = 130

_KINDS: Mapping[str, Kind] = {
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
    "jsonb": "jsonb",
    "bytea": "bytes",
    "timestamp with time zone": "instant",
}

#: Types in which equal values are the same value, so that the equality operator will do, which is faster.
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


@dataclass(frozen=True)
class TrackedColumn:
    """A column as it was when the table was tracked."""

    name: str
    kind: Kind
    #: Whether values that are equal are the same. 1.0 and 1.00 are equal, and so are 'A' and 'a' in citext.
    exact: bool
    secret: bool = False


def tracked_column(found: Mapping[str, Any], *, secret: bool) -> TrackedColumn:
    """A column as the inspection has found it."""
    exact = found["built_in"] and found["type"] in _EXACT and found["exact_collation"]
    return TrackedColumn(found["name"], _kind(found), exact, secret)


def _kind(found: Mapping[str, Any]) -> Kind:
    if not found["built_in"]:
        return "foreign"
    kind = _KINDS.get(found["type"])
    if kind is not None:
        return kind
    return "plain" if found["fixed"] or found["type"] == "numeric" else "document"


def as_json(column: TrackedColumn, value: str) -> str:
    """The value as the text of JSON; null for null."""
    if column.secret:
        return f"""case when num_nulls({value}) = 0 then '"[redacted]"' end"""
    text = f"{value}::text"
    match column.kind:
        case "number":
            written = text
        case "plain" | "instant":
            written = f"to_json({value})::text"
        case "text":
            written = f"to_json({_short_text(text)})::text"
        case "bytes":
            written = f"to_json({_bytes(value)})::text"
        case "jsonb":
            written = _short_document(value, text)
        case "json":
            # What json takes and jsonb does not: a NUL, half a surrogate pair.
            written = (
                f"case when {text} ~* '\\\\u(0000|d[89a-f])' then to_json({_short_text(text)})::text "
                f"else {_short_document(value, text)} end"
            )
        case "document":
            written = _short_document(value, f"to_json({value})::text")
        case "foreign":
            # By its output function, and by no cast: a cast may be anybody's code.
            shown = f"case when num_nulls({value}) = 0 then concat({value}) end"
            written = f"to_json({_short_text(shown)})::text"
    return written


def _short_text(text: str) -> str:
    return (
        f"case when octet_length({text}) > {TEXT_LIMIT} and length({text}) > {TEXT_LIMIT} "
        f"then {cut(text)} else {text} end"
    )


def _short_document(value: str, text: str) -> str:
    # Stored, it may be compressed to a hundredth. Most documents are small, and not written out for this.
    return (
        f"case when pg_column_size({value}) > {TEXT_LIMIT // 256} and length({text}) > {TEXT_LIMIT} "
        f"then to_json({cut(text)})::text else {text} end"
    )


def cut(text: str) -> str:
    """The beginning of a long text, with a marker: what the Python side makes of it."""
    return (
        f"left({text}, {TEXT_LIMIT}) || '… [cut: ' || length({text}) || ' characters, sha256 ' || "
        f"{sha256(text)} || ']'"
    )


def _bytes(value: str) -> str:
    size = f"'[bytes: ' || octet_length({value})"
    return (
        f"case when octet_length({value}) <= {_MAX_BYTES_SHOWN} "
        f"then {size} || ', base64 ' || translate(encode({value}, 'base64'), E'\\n', '') || ']' "
        f"else {size} || ', sha256 ' || encode(sha256({value}), 'hex') || ']' end"
    )


def sha256(text: str) -> str:
    """The hash of a text, in hexadecimal digits."""
    return f"encode(sha256(convert_to({text}, 'UTF8')), 'hex')"


def key_text(column: TrackedColumn, value: str) -> str:
    """The value as the text that an entity is known by: the same in every session."""
    match column.kind:
        case "number" | "text":
            text = f"{value}::text"
        case "plain":
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
    """A text that fits into ``entity_id``; if it was too long, with its hash in place of the rest."""
    return (
        f"case when length({text}) > {_MAX_ENTITY_ID} "
        f"then left({text}, {_KEPT_OF_LONG_ID}) || '…' || {sha256(text)} else {text} end"
    )
