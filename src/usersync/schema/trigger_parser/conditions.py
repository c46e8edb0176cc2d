"""The conditions under which a trigger acts, as far as usersync supports them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from usersync.schema.trigger_parser.tokens import Token, UnreadableError, inner, split_words, tokens

if TYPE_CHECKING:
    from collections.abc import Sequence

#: The operations on the auth server's table, as in TG_OP.
OPERATIONS = frozenset({"INSERT", "UPDATE", "DELETE"})


@dataclass(frozen=True)
class Condition:
    """The operations, and the users: only ``confirmed``, only ``permanent`` (not anonymous)."""

    operations: frozenset[str] = OPERATIONS
    only: frozenset[str] = frozenset()

    def __and__(self, other: Condition) -> Condition:
        return Condition(self.operations & other.operations, self.only | other.only)


ALWAYS = Condition()

_CHANGE = re.compile(
    r"(?P<a>new|old) \. (?P<name>\S+) (is distinct from|<>|!=) (?!(?P=a) )(new|old) \. (?P=name)"
)
_OPERATION = re.compile(r"tg_op (?P<sign>=|<>|!=) (?P<name>\S+)")
_OPERATIONS = re.compile(r"tg_op in \( (?P<names>\S+( , \S+)*) \)")
_WAS_UNCONFIRMED = re.compile(r"old \. (email_)?confirmed_at is null")
_ONLY = {
    "confirmed": re.compile(r"new \. (email_)?confirmed_at is not null"),
    "permanent": re.compile(
        r"not (new \. is_anonymous|coalesce \( new \. is_anonymous , false \))"
        r"|new \. is_anonymous (is not true|is false|= false)"
        r"|coalesce \( new \. is_anonymous , false \) (is not true|is false|= false)"
    ),
}


def read_condition(words: Sequence[Token]) -> Condition | None:
    """The parsed condition, or None if usersync does not support it."""
    found = ALWAYS
    for part in split_words(inner(words), "and"):
        one = _read(inner(part))
        if one is None:
            return None
        found &= one
    return found


def _read(words: Sequence[Token]) -> Condition | None:
    if len(split_words(words, "and")) > 1:
        return read_condition(words)
    parts = split_words(words, "or")
    if len(parts) == 1:
        return _read_one(words)
    # usersync copies each change, so "inserted, or the address changed" is no restriction.
    alternatives = [_read(inner(part)) for part in parts]
    if any(each is None or each.only for each in alternatives):
        return None
    operations = frozenset[str]().union(*(each.operations for each in alternatives if each))
    return Condition(operations)


def _read_one(words: Sequence[Token]) -> Condition | None:
    text = " ".join(token.text for token in _without_casts(words)).lower()
    if _CHANGE.fullmatch(text):
        return Condition(frozenset({"UPDATE"}))
    if match := _OPERATION.fullmatch(text):
        named = frozenset({match["name"].upper()})
        return Condition(named if match["sign"] == "=" else OPERATIONS - named)
    if match := _OPERATIONS.fullmatch(text):
        return Condition(frozenset(match["names"].upper().split(" , ")))
    if _WAS_UNCONFIRMED.fullmatch(text):
        return Condition(frozenset({"UPDATE"}))
    only = [who for who, pattern in _ONLY.items() if pattern.fullmatch(text)]
    return Condition(only=frozenset(only)) if only else None


_NO_CALLS = {"and", "distinct", "from", "is", "not", "or"}


def _without_casts(words: Sequence[Token]) -> list[Token]:
    """The words without the casts and parentheses that PostgreSQL prints in a WHEN clause."""
    kept = [
        token
        for number, token in enumerate(words)
        if token != ("mark", "::") and not (number and words[number - 1] == ("mark", "::"))
    ]
    plain, skipped = list[Token](), 0
    for number, token in enumerate(kept):
        before = kept[number - 1] if number else token
        opens = token == ("mark", "(") and (not before.is_name or before.word in _NO_CALLS)
        in_list = number and kept[number - 1].word in {"in", "coalesce"}
        if opens and not in_list:
            skipped += 1
        elif token == ("mark", ")") and skipped:
            skipped -= 1
        else:
            plain.append(token)
    return plain


def read_when(definition: str) -> Condition | None:
    """The condition of a trigger's WHEN clause, from its definition as PostgreSQL prints it."""
    when = re.search(r"\bWHEN \((.*)\) EXECUTE FUNCTION ", definition, re.DOTALL)
    if when is None:
        return ALWAYS
    try:
        return read_condition(tokens(when[1]))
    except UnreadableError:
        return None
