"""Rewrites an IF that sets a variable as COALESCE, if both mean the same for every user."""

from __future__ import annotations

from typing import TYPE_CHECKING

from usersync.schema.trigger_parser.tokens import Token, closes, find, inner, split, split_words

if TYPE_CHECKING:
    from collections.abc import Sequence

#: Functions that return null if their first argument is null.
_STRICT = {"split_part", "lower", "upper", "initcap", "trim", "btrim", "ltrim", "rtrim", "left", "right"}
_ENDS = ["end", "if"]


def replace_ifs(words: Sequence[Token]) -> list[Token]:
    """The statements, with ``v := coalesce(v, x);`` for ``if v is null then v := x; end if;``."""
    found, number = list[Token](), 0
    while number < len(words):
        choice = _choice(words[number:]) if words[number].word == "if" else None
        if choice is None:
            found.append(words[number])
            number += 1
        else:
            assignment, length = choice
            found += assignment
            number += length
    return found


def _choice(words: Sequence[Token]) -> tuple[list[Token], int] | None:
    """The assignment that an IF is equivalent to, and the number of words of the IF."""
    then = find(words, "then")
    if then is None:
        return None
    parts = split(words[then + 1 :], ";")
    first, name = _assigned(parts[0])
    other, length = [Token("name", name)], len(parts[0]) + 1
    if len(parts) > 1 and parts[1][:1] == [Token("name", "else")]:
        other, named = _assigned(parts[1][1:])
        length += len(parts[1]) + 1
        if named != name:
            return None
        parts = parts[1:]
    ends = len(parts) > 2 and [each.word for each in parts[1]] == _ENDS  # noqa: PLR2004 - what comes after it
    if not name or not ends:
        return None
    value = _coalesced(words[1:then], name, first, other)
    return ([Token("name", name), Token("mark", ":="), *value], then + 1 + length + 2) if value else None


def _assigned(words: Sequence[Token]) -> tuple[list[Token], str]:
    """The assigned value and the variable's name; empty for any other statement."""
    if len(words) < 3 or not words[0].word or words[1].text not in {":=", "="}:  # noqa: PLR2004 - v := x
        return [], ""
    return list(words[2:]), words[0].word


def _coalesced(
    condition: Sequence[Token], name: str, first: Sequence[Token], other: Sequence[Token]
) -> list[Token] | None:
    present = _tested(condition, ["is", "not", "null"])
    if present is not None and present == list(first):
        return _coalesce(first, other)
    own, *guards = split_words(condition, "and")
    is_kept = list(other) == [Token("name", name)]
    if not is_kept or _tested(own, ["is", "null"]) != [Token("name", name)]:
        return None
    needed = [_tested(each, ["is", "not", "null"]) for each in guards]
    return _coalesce(other, first) if all(each and _needs(first, each) for each in needed) else None


def _tested(words: Sequence[Token], ending: list[str]) -> list[Token] | None:
    """The operand of ``is null`` or ``is not null``."""
    size = len(ending)
    if [each.word for each in words[-size:]] != ending:
        return None
    return list(inner(words[:-size]))


def _needs(value: Sequence[Token], operand: list[Token]) -> bool:
    """Whether the value is null where the operand is."""
    value = inner(value)
    if value == operand:
        return True
    calls = len(value) > 2 and value[0].word in _STRICT and value[1] == ("mark", "(")  # noqa: PLR2004 - f ( x
    if not calls or closes(value, 1) != len(value) - 1:
        return False
    return _needs(split(value[2:-1], ",")[0], operand)


def _coalesce(*values: Sequence[Token]) -> list[Token]:
    comma = Token("mark", ",")
    inside = [token for value in values for token in (comma, *value)][1:]
    return [Token("name", "coalesce"), Token("mark", "("), *inside, Token("mark", ")")]


def flattened(words: Sequence[Token]) -> list[Token]:
    """``coalesce(a, b)`` for ``coalesce((coalesce((null), a)), b)``."""
    bare = inner(words)
    is_coalesce = len(bare) > 2 and bare[0].word == "coalesce" and closes(bare, 1) == len(bare) - 1  # noqa: PLR2004
    if not is_coalesce:
        return list(words)
    values = [each for each in _alternatives(bare) if each != [Token("name", "null")]]
    return _coalesce(*values) if len(values) > 1 else values[0] if values else [Token("name", "null")]


def _alternatives(words: Sequence[Token]) -> list[list[Token]]:
    found = list[list[Token]]()
    for part in split(words[2:-1], ","):
        nested = flattened(inner(part))
        is_coalesce = nested[:1] == [Token("name", "coalesce")] and closes(nested, 1) == len(nested) - 1
        found += _alternatives(nested) if is_coalesce else [nested]
    return found
