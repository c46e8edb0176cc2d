"""Tokenizer for PL/pgSQL. Raises ``UnreadableError`` for text that it does not support."""

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
    """The text contains something that the tokenizer does not support."""


class Token(NamedTuple):
    """A token. ``text`` is without quotes, names in lower case."""

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
        raise UnreadableError("it is too long")
    return list(_tokenize(body))


def _tokenize(body: str) -> Iterator[Token]:
    place = 0
    while place < len(body):
        match = _TOKEN.match(body, place)
        if match is None:
            raise UnreadableError(f"it contains {body[place]!r}")
        place, kind, text = match.end(), match.lastgroup or "", match[0]
        if (
            kind == "text"
            and place < len(body)
            and body[place - len(text) - 1 : place - len(text)] in {"e", "E"}
        ):
            raise UnreadableError("it contains a string with escapes")
        if kind != "space":
            yield Token(kind, _unquoted(kind, text))


def _unquoted(kind: str, text: str) -> str:
    if kind == "name":
        return text.lower()
    quote = {"text": "'", "quoted": '"'}.get(kind)
    return text[1:-1].replace(quote * 2, quote) if quote else text


def split(words: Sequence[Token], separator: str) -> list[list[Token]]:
    """Split at a mark outside of parentheses."""
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
    """The index of the first of these keywords outside of parentheses."""
    depth = 0
    for number, token in enumerate(words):
        if token.kind == "mark":
            depth += {"(": 1, ")": -1}.get(token.text, 0)
        if depth == 0 and number >= start and token.word in wanted:
            return number
    return None


def split_words(words: Sequence[Token], keyword: str) -> list[list[Token]]:
    """Split at a keyword outside of parentheses."""
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
    """The index of the closing parenthesis for the opening one at ``opened``."""
    depth = 0
    for number in range(opened, len(words)):
        if words[number].kind == "mark":
            depth += {"(": 1, ")": -1}.get(words[number].text, 0)
        if depth == 0:
            return number
    return -1


def inner(words: Sequence[Token]) -> Sequence[Token]:
    """The words without enclosing parentheses."""
    while len(words) > 1 and words[0] == ("mark", "(") and closes(words, 0) == len(words) - 1:
        words = words[1:-1]
    return words
