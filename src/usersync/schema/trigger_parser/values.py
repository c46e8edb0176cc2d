"""The value that a hand-written trigger writes into a column, in terms of the mapping."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from usersync.config.mapping import SOURCE_TYPES, Default, check_name
from usersync.errors import SettingsError
from usersync.schema.trigger_parser.expressions import read_expression
from usersync.schema.trigger_parser.if_statements import flattened
from usersync.schema.trigger_parser.tokens import Token, closes, split

if TYPE_CHECKING:
    from collections.abc import Sequence

_METADATA = {"raw_user_meta_data": "user_metadata", "raw_app_meta_data": "app_metadata"}
_CLOCKS = {"now", "clock_timestamp", "statement_timestamp", "transaction_timestamp"}
#: Marks that can occur in the name of a type.
_OF_TYPES = {"::", ".", "(", ")", "[", "]", ","}
_CONSTANTS: dict[str, Default] = {"true": True, "false": False, "null": None}


@dataclass(frozen=True)
class Value:
    """Sources as in the settings, of which the first present value is used; ``id`` is the user's id."""

    sources: tuple[str, ...] = ()
    default: Default = None
    #: Whether the value is the time at which the row is written.
    is_now: bool = False
    #: An SQL expression for the settings, if the value is computed.
    expression: str | None = None


def read_value(words: Sequence[Token]) -> Value | None:
    """The value of a column; None if the settings cannot express it."""
    words = flattened(words)
    fetched = _fetched(words)
    if fetched is not None:
        return fetched
    expression = read_expression(words)
    return Value(expression=expression) if expression else None


def _fetched(words: Sequence[Token]) -> Value | None:
    words = _bare(list(words))
    if not words:
        return None
    if len(words) == 1:
        return _constant(words[0])
    if words[0] == ("mark", "-") and words[1].kind == "number" and len(words) == 2:  # noqa: PLR2004 - minus, number
        return Value(default=-_number(words[1]))
    name, opened = words[0].word, words[1] == ("mark", "(")
    if opened and name in {"coalesce", *_CLOCKS, "lower"} and closes(words, 1) == len(words) - 1:
        return _called(name, words[2:-1])
    if name == "new":
        source = _source(words[1:])
        return Value((source,)) if source else None
    return None


def _bare(words: list[Token]) -> list[Token]:
    """The words without final casts and enclosing parentheses: the column determines the type."""
    while True:
        cast = next(
            (n for n in range(len(words)) if words[n] == ("mark", "::") and not _depth(words[:n])), None
        )
        if cast is not None and all(each.kind != "mark" or each.text in _OF_TYPES for each in words[cast:]):
            words = words[:cast]
        elif len(words) > 1 and words[0] == ("mark", "(") and closes(words, 0) == len(words) - 1:
            words = words[1:-1]
        else:
            return words


def _depth(words: Sequence[Token]) -> int:
    return sum({"(": 1, ")": -1}.get(token.text, 0) for token in words if token.kind == "mark")


def _constant(token: Token) -> Value | None:
    if token.kind == "text":
        return Value(default=token.text)
    if token.kind == "number":
        return Value(default=_number(token))
    if token.word == "current_timestamp":
        return Value(is_now=True)
    return Value(default=_CONSTANTS[token.word]) if token.word in _CONSTANTS else None


def _number(token: Token) -> int | float:
    return float(token.text) if "." in token.text else int(token.text)


def _called(name: str, inside: list[Token]) -> Value | None:
    if name in _CLOCKS:
        return None if inside else Value(is_now=True)
    if name == "lower":
        # The auth server stores addresses in lower case.
        value = _fetched(inside)
        return value if value == Value(("email",)) else None
    found = Value()
    for part in split(inside, ","):
        value = _fetched(part)
        if value is None or value.is_now or (found.default is not None and value.sources):
            return None
        found = replace(found, sources=(*found.sources, *value.sources), default=value.default)
    return found


def _source(words: Sequence[Token]) -> str | None:
    """``.column``, and for metadata the path to a key: ``-> 'a' ->> 'b'`` or ``#>> '{a,b}'``."""
    if len(words) < 2 or words[0] != ("mark", ".") or not words[1].is_name:  # noqa: PLR2004 - a dot and a name
        return None
    column, way = words[1].text, words[2:]
    if not way:
        name = _METADATA.get(column, column)
        return name if column in SOURCE_TYPES else None
    if column not in _METADATA or len(way) % 2:
        return None
    keys = list[str]()
    for arrow, key in zip(way[::2], way[1::2], strict=True):
        if key.kind != "text" or arrow.text not in {"->", "->>", "#>", "#>>"}:
            return None
        keys += key.text.strip("{}").split(",") if arrow.text.startswith("#") else [key.text]
    return ".".join([_METADATA[column], *keys]) if all(map(is_key, keys)) else None


def is_key(key: str) -> bool:
    """Whether the mapping can name this key of the metadata."""
    try:
        return check_name(key, "") == key and "." not in key
    except SettingsError:
        return False
