"""Computed values of a hand-written trigger as SQL expressions for the settings."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from usersync.config.mapping import SOURCE_TYPES, quote
from usersync.config.sql_expression import check_expression
from usersync.errors import SettingsError
from usersync.sql.expressions import literal

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from usersync.schema.trigger_parser.tokens import Token

#: Built-in functions of PostgreSQL that only compute. They are the same on every search path.
COMPUTING = frozenset(
    re.findall(
        r"\w+",
        """
    abs age array_to_string btrim ceil char_length chr clock_timestamp coalesce concat concat_ws date_part
    date_trunc decode encode extract floor format gen_random_uuid greatest initcap json_build_object
    jsonb_build_array jsonb_build_object jsonb_extract_path jsonb_extract_path_text least left length
    lower lpad ltrim make_interval md5 now nullif overlay position random regexp_replace repeat replace
    reverse right round row_to_json rpad rtrim sha256 split_part statement_timestamp string_to_array
    strpos substr substring to_char to_date to_json to_jsonb to_number to_timestamp transaction_timestamp
    translate trim trunc upper
""",
    )
)
_KEYWORDS = frozenset(
    re.findall(
        r"\w+",
        """
    and as at between case cast current_date current_timestamp distinct else end false for from ilike in
    interval is like localtimestamp not null or similar then time true when zone
""",
    )
)
_TYPES = frozenset(
    re.findall(
        r"\w+",
        """
    bigint bool boolean char character citext date decimal double float int int2 int4 int8 integer
    interval json jsonb numeric precision real smallint text time timestamp timestamptz uuid varchar
    varying with without zone
""",
    )
)


def read_expression(words: Sequence[Token]) -> str | None:
    """The value as an expression over the auth server's columns; None if it depends on more."""
    text = _joined(_parts(words))
    if text is None:
        return None
    try:
        return check_expression(text, "")
    except SettingsError:
        return None


def _parts(words: Sequence[Token]) -> Iterator[str | None]:
    number = 0
    while number < len(words):
        token, following = words[number], words[number + 1 : number + 2]
        calls = following == [("mark", "(")]
        if token.word == "new":
            column = words[number + 2] if len(words) > number + 2 else None
            named = following == [("mark", ".")] and column is not None and column.text in SOURCE_TYPES
            yield (
                (column.text if column.text.isidentifier() else quote(column.text))
                if named and column
                else None
            )
            number += 3
            continue
        if token.kind == "text":
            yield literal(token.text)
        elif token.kind == "quoted":
            yield None
        elif token.word:
            known = COMPUTING if calls else _KEYWORDS
            is_type = number and words[number - 1].text in {"::", "as", "double", "with", "without", "time"}
            yield token.text if token.word in known or (token.word in _TYPES and (is_type or calls)) else None
        else:
            yield None if token.text == ":=" else token.text
        number += 1


_TIGHT_BEFORE, _TIGHT_AFTER = {",", ")", "::", "]", "["}, {"(", "::", "["}


def _joined(parts: Iterator[str | None]) -> str | None:
    text, before = "", ""
    for part in parts:
        if part is None:
            return None
        opens_call = part == "(" and (before in COMPUTING or before in _TYPES)
        tight = not text or part in _TIGHT_BEFORE or before in _TIGHT_AFTER or opens_call
        text += part if tight else f" {part}"
        before = part
    return text
