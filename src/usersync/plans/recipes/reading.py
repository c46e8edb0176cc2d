"""A trigger function's statements: those that copy a row, and in words whatever else it does."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from usersync.mapping import TableName
from usersync.plans.recipes.tokens import Token, UnreadableError, find, split, tokens
from usersync.plans.recipes.values import Value, read_value

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

Kind = Literal["insert", "update", "delete"]


@dataclass(frozen=True)
class Write:
    """One statement that writes: the columns and what goes in, None where that is computed."""

    kind: Kind
    table: TableName
    values: Mapping[str, Value | None] = field(default_factory=dict)
    #: Whether a row that is there already makes it fail.
    fails_on_conflict: bool = False


@dataclass(frozen=True)
class Recipe:
    """What a function does; nothing but copying if ``beyond`` is empty."""

    writes: tuple[Write, ...] = ()
    beyond: tuple[str, ...] = ()


def read_recipe(body: str, language: str = "plpgsql") -> Recipe:
    """Read a trigger function. What cannot be read is beyond copying, and says so; raises nothing."""
    if language != "plpgsql":
        return Recipe(beyond=(f"is written in {language}",))
    try:
        words = tokens(body)
    except UnreadableError as error:
        return Recipe(beyond=(f"cannot be read by usersync ({error})",))
    begin = find(words, "begin")
    if begin is None:
        return Recipe(beyond=("cannot be read by usersync (it has no BEGIN)",))
    writes, beyond = list[Write](), list[str]()
    for statement in split(words[begin + 1 :], ";"):
        for done in _statement(statement):
            if isinstance(done, Write):
                writes.append(done)
            else:
                beyond.append(done)
    return Recipe(tuple(writes), tuple(dict.fromkeys(beyond)))


def _statement(words: list[Token]) -> Iterator[Write | str]:
    """A write, or in words what else it is; nothing for what does nothing. A condition comes before it."""
    while words:
        first = words[0].word
        if first in {"begin", "else"}:
            words = words[1:]
        elif first in {"if", "elsif", "exception", "when"}:
            then = find(words, "then") or len(words)
            if first in {"if", "elsif"} and not is_harmless(words[1:then]):
                yield "acts only under a condition of its own"
            words = words[then + 1 :]
        else:
            done = _plain(first, words)
            if done is not None:
                yield done
            return


def _plain(first: str, words: list[Token]) -> Write | str | None:
    second = words[1].word if len(words) > 1 else ""
    if first in {"end", "null"} or (first == "return" and second in {"new", "old", "null", ""}):
        return None
    if first == "raise":
        quiet = second in {"warning", "notice", "info", "log", "debug"}
        return None if quiet else "raises errors of its own"
    if first in {"insert", "update", "delete"}:
        return _write(first, words)
    called = _calls(words)
    if called:
        return f"calls {called}"
    return "runs SQL that it puts together" if first == "execute" else "has statements of its own"


_HARMLESS = re.compile(
    r"tg_op = \S+|(new|old) \. (?P<name>\S+) (is distinct from|<>|!=) (new|old) \. (?P=name)", re.IGNORECASE
)


def is_harmless(condition: Sequence[Token]) -> bool:
    """A condition on which operation it is, or on whether a column changed: usersync sees to both itself."""
    parts = [list[str]()]
    for number, token in enumerate(condition):
        if token.word in {"and", "or"}:
            parts.append([])
        elif token.text not in {"(", ")", "::"} and not _is_cast(condition, number):
            parts[-1].append(token.text)
    return all(_HARMLESS.fullmatch(" ".join(part)) for part in parts)


def _is_cast(words: Sequence[Token], number: int) -> bool:
    return number > 0 and words[number - 1] == ("mark", "::")


def _calls(words: Sequence[Token]) -> str | None:
    """The first function that is called, with its schema."""
    for number in range(len(words) - 1):
        if words[number].is_name and words[number + 1] == ("mark", "(") and words[number].word != "values":
            schema = f"{words[number - 2].text}." if number > 1 and words[number - 1].text == "." else ""
            return f"{schema}{words[number].text}()"
    return None


def _table(words: Sequence[Token]) -> tuple[TableName, Sequence[Token]] | None:
    """A table's name at the beginning, and what comes after it."""
    if len(words) > 2 and words[0].is_name and words[1] == ("mark", ".") and words[2].is_name:  # noqa: PLR2004
        return TableName(words[0].text, words[2].text), words[3:]
    if words and words[0].is_name:
        return TableName("public", words[0].text), words[1:]
    return None


def _write(first: str, words: list[Token]) -> Write | str:
    leading = {"insert": ("into",), "update": (), "delete": ("from",)}[first]
    if any(word.word != wanted for word, wanted in zip(words[1:], leading, strict=False)):
        return "has statements of its own"
    found = _table(words[1 + len(leading) :])
    if found is None:
        return "has statements of its own"
    table, rest = found
    if first == "insert":
        return _insert(table, rest)
    if first == "update":
        return _update(table, rest)
    only_own = rest and rest[0].word == "where" and _is_own_row(rest[1:], "old")
    return Write("delete", table) if only_own else f"deletes from {table} in a way of its own"


def _insert(table: TableName, rest: Sequence[Token]) -> Write | str:
    other = f"inserts into {table} in a way of its own"
    if rest and rest[0].word == "as":
        rest = rest[2:]
    values = find(rest, "values")
    if values is None or not rest or rest[0] != ("mark", "("):
        return other
    end = find(rest, "on", "returning", start=values) or len(rest)
    names = split(rest[1 : values - 1], ",")
    parts = split(rest[values + 1 : end], ",")
    if len(parts) != 1 or any(len(name) != 1 for name in names):
        return other
    inserted = split(parts[0][1:-1], ",")
    if len(inserted) != len(names):
        return other
    columns = {name[0].text: read_value(value) for name, value in zip(names, inserted, strict=True)}
    conflict = rest[end:]
    if not conflict or conflict[0].word == "returning":
        return Write("insert", table, columns, fails_on_conflict=True)
    updated = _conflict(conflict)
    return other if updated is None else Write("insert", table, {**columns, **updated})


def _conflict(words: Sequence[Token]) -> Mapping[str, Value | None] | None:
    """What ON CONFLICT sets beside what was to be inserted; None where it is not understood."""
    do = find(words, "do")
    if do is None:
        return None
    if [word.word for word in words[do + 1 :]] == ["nothing"]:
        return {}
    if [word.word for word in words[do + 1 : do + 3]] != ["update", "set"]:
        return None
    return _assignments(words[do + 3 :])


def _assignments(words: Sequence[Token]) -> Mapping[str, Value | None] | None:
    assigned: dict[str, Value | None] = {}
    for part in split(words, ","):
        if len(part) < 3 or not part[0].is_name or part[1] != ("mark", "="):  # noqa: PLR2004 - name = value
            return None
        if part[2].word != "excluded":
            assigned[part[0].text] = read_value(part[2:])
        elif [each.text for each in part[3:]] != [".", part[0].text]:
            assigned[part[0].text] = None
    return assigned


def _update(table: TableName, rest: Sequence[Token]) -> Write | str:
    other = f"updates {table} in a way of its own"
    start, where = find(rest, "set"), find(rest, "where")
    if start is None or where is None or not _is_own_row(rest[where + 1 :], "new", "old"):
        return other
    assigned = _assignments(rest[start + 1 : where])
    return other if assigned is None else Write("update", table, assigned)


def _is_own_row(words: Sequence[Token], *records: str) -> bool:
    """``column = new.id``, with or without the table's name before the column; nothing else."""
    sides = split([word for word in words if word.text not in {"(", ")"}], "=")
    if len(sides) != 2:  # noqa: PLR2004 - of an equality
        return False
    texts = sorted(
        (" ".join(word.text for word in side) for side in sides), key=lambda side: side.split()[:1]
    )
    ids = [text for text in texts if text in {f"{record} . id" for record in records}]
    others = [text for text in texts if text not in ids]
    return len(ids) == 1 and len(others) == 1 and len(others[0].split()) in {1, 3}
