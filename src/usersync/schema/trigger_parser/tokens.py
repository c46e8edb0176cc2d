"""PL/pgSQL cut into words. What is not understood here is not guessed at: it raises."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_MAX_CHARACTERS = 50_000

_TOKEN = re.compile(
    r"""
      (?P<space>\s+|--[^\n]*|/\*.*?\*/)
    | (?P<text>'(?:[^']|'')*')
    | (?P<quoted>"(?:[^"]|"")+")
    | (?P<number>\d+(?:\.\d+)?)
    | (?P<name>[^\W\d]\w*)
    | (?P<mark>\#>>|\#>|->>|->|::|:=|\|\||<>|!=|<=|>=|[-+*/%<>=(),.;:\[\]?|&!~@^])
    """,
    re.VERBOSE | re.DOTALL,
)


class UnreadableError(ValueError):
    """A text with something in it that is not understood."""


class Token(NamedTuple):
    """A word: ``text`` is what it stands for, names folded and quotes gone."""

    kind: str
    text: str

    @property
    def word(self) -> str:
        """A keyword or an unquoted name; empty for everything else."""
        return self.text if self.kind == "name" else ""

    @property
    def is_name(self) -> bool:
        return self.kind in {"name", "quoted"}


def tokens(body: str) -> list[Token]:
    """The words of a function's body, without comments; raises ``UnreadableError``."""
    if len(body) > _MAX_CHARACTERS:
        raise UnreadableError("it is very long")
    return list(_cut(body))


def _cut(body: str) -> Iterator[Token]:
    place = 0
    while place < len(body):
        match = _TOKEN.match(body, place)
        if match is None:
            raise UnreadableError(f"it holds {body[place]!r}")
        place, kind, text = match.end(), match.lastgroup or "", match[0]
        if (
            kind == "text"
            and place < len(body)
            and body[place - len(text) - 1 : place - len(text)] in {"e", "E"}
        ):
            raise UnreadableError("it holds a text with escapes")
        if kind != "space":
            yield Token(kind, _meant(kind, text))


def _meant(kind: str, text: str) -> str:
    if kind == "name":
        return text.lower()
    quote = {"text": "'", "quoted": '"'}.get(kind)
    return text[1:-1].replace(quote * 2, quote) if quote else text


def split(words: Sequence[Token], separator: str) -> list[list[Token]]:
    """Cut at a mark, wherever it is outside of parentheses."""
    parts: list[list[Token]] = [[]]
    depth = 0
    for token in words:
        if token.kind == "mark":
            depth += {"(": 1, "[": 1, ")": -1, "]": -1}.get(token.text, 0)
        if depth == 0 and token == ("mark", separator):
            parts.append([])
        else:
            parts[-1].append(token)
    return parts


def find(words: Sequence[Token], *wanted: str, start: int = 0) -> int | None:
    """Where the first of these keywords stands outside of parentheses."""
    depth = 0
    for number, token in enumerate(words):
        if token.kind == "mark":
            depth += {"(": 1, ")": -1}.get(token.text, 0)
        if depth == 0 and number >= start and token.word in wanted:
            return number
    return None


def split_words(words: Sequence[Token], keyword: str) -> list[list[Token]]:
    """Cut at a keyword, wherever it is outside of parentheses."""
    parts: list[list[Token]] = [[]]
    depth = 0
    for token in words:
        if token.kind == "mark":
            depth += {"(": 1, ")": -1}.get(token.text, 0)
        if depth == 0 and token.word == keyword:
            parts.append([])
        else:
            parts[-1].append(token)
    return parts


def closes(words: Sequence[Token], opened: int) -> int:
    """Where the parenthesis that opens at this place is closed."""
    depth = 0
    for number in range(opened, len(words)):
        if words[number].kind == "mark":
            depth += {"(": 1, ")": -1}.get(words[number].text, 0)
        if depth == 0:
            return number
    return -1


def inner(words: Sequence[Token]) -> Sequence[Token]:
    """Without parentheses around all of it."""
    while len(words) > 1 and words[0] == ("mark", "(") and closes(words, 0) == len(words) - 1:
        words = words[1:-1]
    return words
