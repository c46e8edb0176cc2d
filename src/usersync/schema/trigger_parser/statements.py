"""A trigger function's statements: those that write a row, and in words its other effects."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Literal

from usersync.config.mapping import TableName
from usersync.schema.trigger_parser.conditions import ALWAYS, OPERATIONS, Condition, read_condition
from usersync.schema.trigger_parser.expressions import COMPUTING
from usersync.schema.trigger_parser.if_statements import replace_ifs
from usersync.schema.trigger_parser.tokens import Token, UnreadableError, find, split, tokens
from usersync.schema.trigger_parser.values import Value, read_value

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    Filler = Callable[[Sequence[Token]], list[Token]]

StatementKind = Literal["insert", "update", "delete"]

#: Part of the text about a function that behaves differently for some users.
CONDITIONAL = "under a condition that usersync does not know"
_CONDITION = f"acts only {CONDITIONAL}"
#: The text if no statement that writes a row is under the condition.
_CHOICE = "has a condition that usersync does not know"
_VERBS = {"insert": "inserts into", "update": "updates", "delete": "deletes from"}


@dataclass(frozen=True)
class Write:
    """A statement that writes: the columns and their values, None if the settings cannot express one."""

    kind: StatementKind
    table: TableName
    values: Mapping[str, Value | None] = field(default_factory=dict)
    condition: Condition = ALWAYS
    #: Whether an existing row makes it fail.
    fails_on_conflict: bool = False
    #: The columns that ON CONFLICT names.
    conflict: tuple[str, ...] = ()
    #: The columns that ON CONFLICT DO UPDATE sets, and their values.
    updated: Mapping[str, Value | None] = field(default_factory=dict)
    #: The column in the WHERE clause of an UPDATE or a DELETE.
    where: str | None = None

    def under(self, condition: Condition) -> Write:
        """The same statement under a condition."""
        return replace(self, condition=condition)


@dataclass(frozen=True)
class ParsedFunction:
    """What a function does. It only writes rows if ``other_effects`` is empty."""

    writes: tuple[Write, ...] = ()
    other_effects: tuple[str, ...] = ()
    #: Columns of ``new`` that it changes (effective in a BEFORE trigger).
    sets: tuple[str, ...] = ()
    #: All names in the text.
    names: frozenset[str] = frozenset()
    #: Statements that write and cannot be parsed: only the table is known.
    unread: tuple[Write, ...] = ()

    @property
    def raises(self) -> bool:
        """Whether it raises errors of its own."""
        return _RAISES in self.other_effects


_RAISES = "raises errors of its own"


def parse_function(body: str, language: str = "plpgsql") -> ParsedFunction:
    """Parse a trigger function. What cannot be parsed is one of ``other_effects``. Raises nothing."""
    if language != "plpgsql":
        return ParsedFunction(other_effects=(f"is written in {language}",))
    try:
        words = tokens(body)
    except UnreadableError as error:
        return ParsedFunction(other_effects=(f"cannot be read by usersync ({error})",))
    begin = find(words, "begin")
    if begin is None:
        return ParsedFunction(other_effects=("cannot be read by usersync (it has no BEGIN)",))
    reader = _Reader()
    reader.declare(words[:begin])
    for statement in split(replace_ifs(words[begin + 1 :]), ";"):
        reader.read(statement)
    if _CONDITION in reader.other_effects:
        reader.other_effects = [each for each in reader.other_effects if each != _CHOICE]
    return ParsedFunction(
        tuple(reader.writes), tuple(dict.fromkeys(reader.other_effects)), tuple(dict.fromkeys(reader.sets)),
        frozenset(word.text for word in words if word.is_name), tuple(reader.unread),
    )  # fmt: skip


@dataclass
class _Scope:
    """A block of IF, BEGIN or an exception handler."""

    kind: str
    condition: Condition = ALWAYS
    #: The operations of the branches before this one.
    taken: frozenset[str] = frozenset()
    #: Whether a branch before this one has a condition other than the operation.
    is_partial: bool = False
    #: Whether this branch, or one before it, has a condition that cannot be parsed.
    is_own: bool = False


class _Reader:
    def __init__(self) -> None:
        self.writes: list[Write] = []
        self.unread: list[Write] = []
        self.other_effects: list[str] = []
        self.sets: list[str] = []
        self._scopes: list[_Scope] = []
        #: The operations for which the function has not returned yet.
        self._left = OPERATIONS
        #: Variables and their values; None if a value depends on a condition.
        self._variables: dict[str, list[Token] | None] = {}

    def declare(self, words: Sequence[Token]) -> None:
        """Read ``DECLARE name type := value;`` for each variable."""
        for each in split(words[1:] if words and words[0].word == "declare" else words, ";"):
            if not each:
                continue
            sign = next(
                (n for n, word in enumerate(each) if word.text in {":=", "="} or word.word == "default"), None
            )
            self._variables[each[0].text] = (
                self._filled(each[sign + 1 :]) if sign else [Token("name", "null")]
            )

    def read(self, words: list[Token]) -> None:
        """Read one statement, and the beginnings of blocks before it."""
        while words:
            first = words[0].word
            if first == "begin":
                self._scopes.append(_Scope("begin"))
                words = words[1:]
            elif first == "else":
                self._else()
                words = words[1:]
            elif first in {"if", "elsif", "elseif", "exception", "when"}:
                then = find(words, "then") or len(words)
                self._branch(first, words[1:then])
                words = words[then + 1 :]
            else:
                self._statement(first, words)
                return

    def _branch(self, first: str, condition: Sequence[Token]) -> None:
        if first in {"exception", "when"}:
            if not self._is_handling():
                self._scopes.append(_Scope("handler"))
            return
        if first == "if":
            self._scopes.append(_Scope("if"))
        scope = self._scopes[-1] if self._scopes else _Scope("if")
        found = read_condition(condition)
        if found is None or scope.is_partial:
            self._note_condition(scope)
            found = found or ALWAYS
        operations = found.operations - scope.taken
        scope.condition = Condition(operations, found.only)
        scope.is_partial = scope.is_partial or not _is_of_operations(condition)
        scope.taken |= found.operations if _is_of_operations(condition) else frozenset()

    def _else(self) -> None:
        scope = self._scopes[-1] if self._scopes else _Scope("if")
        if scope.is_partial:
            self._note_condition(scope)
        scope.condition = Condition(OPERATIONS - scope.taken)

    def _note_condition(self, scope: _Scope) -> None:
        scope.is_own = True
        self.other_effects.append(_CHOICE)

    def _end(self, second: str) -> None:
        while self._scopes and self._scopes[-1].kind == "handler" and second != "if":
            self._scopes.pop()
        if self._scopes:
            self._scopes.pop()

    def _is_handling(self) -> bool:
        return any(scope.kind == "handler" for scope in self._scopes)

    def _condition(self) -> Condition:
        found = Condition(self._left)
        for scope in self._scopes:
            found &= scope.condition
        return found

    def _return(self) -> None:
        """Read a RETURN: the following statements apply to the other operations only."""
        branches = [scope for scope in self._scopes if scope.kind == "if"]
        if not branches:
            self._left = frozenset() if not self._is_handling() else self._left
        elif any(scope.is_partial or scope.condition.only for scope in branches):
            if not self._is_handling():
                self._variables["<returned>"] = None
        else:
            self._left -= self._condition().operations

    def _statement(self, first: str, words: list[Token]) -> None:
        second = words[1].word if len(words) > 1 else ""
        if first == "end":
            self._end(second)
        elif first == "return" and all(each.word in _RETURNED or each.kind == "mark" for each in words):
            self._return()
        elif first == "null" or not self._condition().operations:
            return
        elif first == "raise":
            # An error raised by a handler fails the sign-up, as the original error would.
            if second not in {"warning", "notice", "info", "log", "debug"} and not self._is_handling():
                self.other_effects.append(_RAISES)
        elif first == "new" and len(words) > 4 and words[3].text in {":=", "="}:  # noqa: PLR2004 - new . x := value
            self.sets.append(words[2].text)
            self._note_calls(words[4:])
        elif len(words) > 2 and words[0].text in self._variables and words[1].text in {":=", "="}:  # noqa: PLR2004
            self._assign(words[0].text, words[2:])
        elif first in {"insert", "update", "delete"}:
            self._write(first, words)
        else:
            self._other(first, words)

    def _assign(self, name: str, words: Sequence[Token]) -> None:
        sure = not any(scope.kind != "begin" for scope in self._scopes)
        self._variables[name] = self._filled(words) if sure else None
        self._note_calls(words)

    def _filled(self, words: Sequence[Token]) -> list[Token]:
        """The words with variables replaced by their values."""
        filled = list[Token]()
        for number, word in enumerate(words):
            held = self._variables.get(word.text) if word.is_name else None
            is_column = number > 0 and words[number - 1].text == "."
            if held is None or is_column:
                filled.append(word)
            else:
                filled += [Token("mark", "("), *held, Token("mark", ")")]
        return filled

    def _note_calls(self, words: Sequence[Token]) -> None:
        called = calls(words)
        if called:
            self.other_effects.append(f"calls {called}")

    def _other(self, first: str, words: Sequence[Token]) -> None:
        called = calls(words)
        if called:
            self.other_effects.append(f"calls {called}")
        elif first == "execute":
            self.other_effects.append("runs dynamic SQL")
        else:
            self.other_effects.append("has statements of its own")

    def _write(self, first: str, words: list[Token]) -> None:
        if "<returned>" in self._variables or any(scope.is_own for scope in self._scopes):
            self.other_effects.append(_CONDITION)
        done = _read_write(first, words, self._filled)
        if isinstance(done, str):
            self.other_effects.append(done)
            if found := _table(words[1 + len(_LEADING[first]) :]):
                self.unread.append(Write(_KINDS[first], found[0]).under(self._condition()))
            return
        if self._is_handling():
            self.other_effects.append(f"{_VERBS[done.kind]} {done.table} if another statement fails")
            return
        self.writes.append(done.under(self._condition()))


_RETURNED = {"return", "new", "old", "null", "coalesce"}


def _is_of_operations(condition: Sequence[Token]) -> bool:
    """Whether a condition depends only on TG_OP."""
    return all(word.word not in {"new", "old"} for word in condition)


#: Words that can precede a parenthesis without a function call.
_NO_CALLS = {
    "all", "and", "any", "as", "by", "case", "check", "else", "exists", "filter", "from", "if", "in",
    "into", "is", "not", "on", "or", "over", "row", "select", "set", "some", "then", "using", "values",
    "when", "where", "with", "array", "cast", "count", "max", "min", "sum", "exit", "while", "elsif",
    "union", "except", "set_config", "current_setting", "conflict",
}  # fmt: skip


def calls(words: Sequence[Token]) -> str | None:
    """The first called function that does more than compute, with its schema."""
    for number in range(len(words) - 1):
        word = words[number]
        if not word.is_name or words[number + 1] != ("mark", "("):
            continue
        has_schema = number > 1 and words[number - 1].text == "."
        if has_schema or word.word not in _NO_CALLS | COMPUTING:
            return f"{words[number - 2].text}.{word.text}()" if has_schema else f"{word.text}()"
    return None


def _table(words: Sequence[Token]) -> tuple[TableName, Sequence[Token]] | None:
    """The table's name at the beginning, and the words after it."""
    if len(words) > 2 and words[0].is_name and words[1] == ("mark", ".") and words[2].is_name:  # noqa: PLR2004
        return TableName(words[0].text, words[2].text), words[3:]
    if words and words[0].is_name:
        return TableName("public", words[0].text), words[1:]
    return None


_KINDS: Mapping[str, StatementKind] = {"insert": "insert", "update": "update", "delete": "delete"}
#: The words between a verb and the table.
_LEADING: Mapping[str, tuple[str, ...]] = {"insert": ("into",), "update": (), "delete": ("from",)}


def _read_write(first: str, words: list[Token], filled: Filler) -> Write | str:
    leading = _LEADING[first]
    if any(word.word != wanted for word, wanted in zip(words[1:], leading, strict=False)):
        return "has statements of its own"
    found = _table(words[1 + len(leading) :])
    if found is None:
        return "has statements of its own"
    table, rest = found
    if first == "insert":
        return _insert(table, rest, filled)
    if first == "update":
        return _update(table, rest, filled)
    where = _own_row(rest[1:], "old", "new") if rest and rest[0].word == "where" else None
    return (
        Write("delete", table, where=where)
        if where
        else f"deletes from {table} in a way that usersync cannot read"
    )


def _insert(table: TableName, rest: Sequence[Token], filled: Filler) -> Write | str:
    other = f"inserts into {table} in a way that usersync cannot read"
    if rest and rest[0].word == "as":
        rest = rest[2:]
    start = find(rest, "values", "select")
    if start is None or not rest or rest[0] != ("mark", "("):
        return other
    end = find(rest, "on", "returning", start=start) or len(rest)
    names = split(rest[1 : start - 1], ",")
    inserted = _row(rest[start], rest[start + 1 : end])
    if inserted is None or len(inserted) != len(names) or any(len(name) != 1 for name in names):
        return other
    columns = {name[0].text: read_value(filled(value)) for name, value in zip(names, inserted, strict=True)}
    conflict = rest[end:]
    if not conflict or conflict[0].word == "returning":
        return Write("insert", table, columns, fails_on_conflict=True)
    return _conflict(Write("insert", table, columns), conflict, filled) or other


def _row(keyword: Token, words: Sequence[Token]) -> list[list[Token]] | None:
    """The values of one row, from VALUES or from a SELECT without a table."""
    if keyword.word == "select":
        return None if find(words, "from", "where", "union") is not None else split(words, ",")
    rows = split(words, ",")
    return split(rows[0][1:-1], ",") if len(rows) == 1 else None


def _conflict(write: Write, words: Sequence[Token], filled: Filler) -> Write | None:
    """The statement with its ON CONFLICT clause; None if the clause cannot be parsed."""
    do = find(words, "do")
    if do is None:
        return None
    named = (
        [part[0].text for part in split(words[3 : do - 1], ",") if part]
        if words[2:3] == [("mark", "(")]
        else []
    )
    write = replace(write, conflict=tuple(named))
    if [word.word for word in words[do + 1 :]] == ["nothing"]:
        return write
    if [word.word for word in words[do + 1 : do + 3]] != ["update", "set"]:
        return None
    updated = _assignments(words[do + 3 :], filled, write.values)
    return None if updated is None else replace(write, updated=updated)


def _assignments(
    words: Sequence[Token], filled: Filler, excluded: Mapping[str, Value | None]
) -> Mapping[str, Value | None] | None:
    assigned: dict[str, Value | None] = {}
    for part in split(words, ","):
        if len(part) < 3 or not part[0].is_name or part[1] != ("mark", "="):  # noqa: PLR2004 - name = value
            return None
        name = part[0].text
        if part[2].word != "excluded":
            assigned[name] = read_value(filled(part[2:]))
        else:
            assigned[name] = excluded.get(part[-1].text) if len(part) == 5 else None  # noqa: PLR2004 - excluded . x
    return assigned


def _update(table: TableName, rest: Sequence[Token], filled: Filler) -> Write | str:
    other = f"updates {table} in a way that usersync cannot read"
    start, where = find(rest, "set"), find(rest, "where")
    if start is None or where is None or (key := _own_row(rest[where + 1 :], "new", "old")) is None:
        return other
    assigned = _assignments(rest[start + 1 : where], filled, {})
    return other if assigned is None else Write("update", table, assigned, where=key)


def _own_row(words: Sequence[Token], *records: str) -> str | None:
    """The column of ``column = new.id``, with or without the table's name; None for other conditions."""
    sides = split([word for word in words if word.text not in {"(", ")"}], "=")
    if len(sides) != 2:  # noqa: PLR2004 - of an equality
        return None
    ids = [_is_id(side, records) for side in sides]
    if ids[0] == ids[1]:
        return None
    other = sides[0] if ids[1] else sides[1]
    return other[-1].text if len(other) in {1, 3} and other[-1].is_name else None


def _is_id(side: Sequence[Token], records: Sequence[str]) -> bool:
    words = [word.text for word in side]
    return words[:3] in [[record, ".", "id"] for record in records] and words[3:] in ([], ["::", "text"])
