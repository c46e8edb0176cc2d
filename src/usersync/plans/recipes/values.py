"""What a recipe writes into a column, in the words of the mapping."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from usersync.errors import SettingsError
from usersync.mapping import SOURCE_TYPES, Default, check_name
from usersync.plans.recipes.tokens import Token, split

if TYPE_CHECKING:
    from collections.abc import Sequence

_METADATA = {"raw_user_meta_data": "user_metadata", "raw_app_meta_data": "app_metadata"}
_CLOCKS = {"now", "clock_timestamp", "statement_timestamp", "transaction_timestamp"}
#: What the name of a type may hold, beside names and numbers.
_OF_TYPES = {"::", ".", "(", ")", "[", "]", ","}
_CONSTANTS: dict[str, Default] = {"true": True, "false": False, "null": None}


@dataclass(frozen=True)
class Value:
    """Sources as the settings name them, the first that is present wins; ``id`` is the user's id."""

    sources: tuple[str, ...] = ()
    default: Default = None
    #: The time at which the row is written.
    is_now: bool = False


def read_value(words: Sequence[Token]) -> Value | None:
    """What an expression fetches, or None where it does more than fetching."""
    words = _bare(list(words))
    if not words:
        return None
    if len(words) == 1:
        return _constant(words[0])
    name, opened = words[0].word, words[1] == ("mark", "(")
    if opened and name in {"coalesce", *_CLOCKS, "lower"} and _closes(words, 1) == len(words) - 1:
        return _called(name, words[2:-1])
    if name == "new":
        source = _source(words[1:])
        return Value((source,)) if source else None
    return None


def _bare(words: list[Token]) -> list[Token]:
    """Without the casts behind it and the parentheses round it: both are the column's business."""
    while True:
        cast = next(
            (n for n in range(len(words)) if words[n] == ("mark", "::") and not _depth(words[:n])), None
        )
        if cast is not None and all(each.kind != "mark" or each.text in _OF_TYPES for each in words[cast:]):
            words = words[:cast]
        elif len(words) > 1 and words[0] == ("mark", "(") and _closes(words, 0) == len(words) - 1:
            words = words[1:-1]
        else:
            return words


def _depth(words: Sequence[Token]) -> int:
    return sum({"(": 1, ")": -1}.get(token.text, 0) for token in words if token.kind == "mark")


def _closes(words: Sequence[Token], opened: int) -> int:
    """Where the parenthesis that opens at this place is closed."""
    depth = 0
    for number in range(opened, len(words)):
        if words[number].kind == "mark":
            depth += {"(": 1, ")": -1}.get(words[number].text, 0)
        if depth == 0:
            return number
    return -1


def _constant(token: Token) -> Value | None:
    if token.kind == "text":
        return Value(default=token.text)
    if token.kind == "number":
        return Value(default=float(token.text) if "." in token.text else int(token.text))
    if token.word == "current_timestamp":
        return Value(is_now=True)
    return Value(default=_CONSTANTS[token.word]) if token.word in _CONSTANTS else None


def _called(name: str, inside: list[Token]) -> Value | None:
    if name in _CLOCKS:
        return None if inside else Value(is_now=True)
    if name == "lower":
        # The auth server stores addresses in lower case.
        value = read_value(inside)
        return value if value == Value(("email",)) else None
    found = Value()
    for part in split(inside, ","):
        value = read_value(part)
        if value is None or value.is_now or (found.default is not None and value.sources):
            return None
        found = replace(found, sources=(*found.sources, *value.sources), default=value.default)
    return found


def _source(words: Sequence[Token]) -> str | None:
    """``.column``, and for metadata the way to a key: ``-> 'a' ->> 'b'`` or ``#>> '{a,b}'``."""
    if len(words) < 2 or words[0] != ("mark", ".") or not words[1].is_name:  # noqa: PLR2004 - a dot and a name
        return None
    column, way = words[1].text, words[2:]
    if not way:
        name = _METADATA.get(column, column)
        return name if name == "id" or column in SOURCE_TYPES else None
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
