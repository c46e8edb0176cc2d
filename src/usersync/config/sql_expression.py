"""Checks an SQL expression in the settings without a database.

PostgreSQL checks the rest: ``usersync plan`` has PostgreSQL plan the expression before anything is installed.
"""

from __future__ import annotations

import re

from usersync.errors import SettingsError

_MAX_CHARACTERS = 1_000

#: A string, a quoted name, or one other character.
_PIECE = re.compile(r"""(?P<quoted>'(?:[^']|'')*'|"(?:[^"]|"")*")|(?P<other>.)""", re.DOTALL)

_CLOSES = {"(": ")", "[": "]"}

#: Values that change without a change of the user. A mirrored column would differ at every comparison.
_CHANGES_BY_ITSELF = re.compile(
    r"\b(now|random|random_normal|gen_random_\w+|uuid_generate_\w+|uuidv[47]|nextval|clock_timestamp|statement_timestamp"
    r"|transaction_timestamp|timeofday|current_(?:date|time|timestamp|user|role)|localtime(?:stamp)?"
    r"|session_user|txid_current|pg_current_xact_id)\b",
    re.IGNORECASE,
)

_PERSONAL = re.compile(r"\b(email|phone|raw_user_meta_data)\b", re.IGNORECASE)

_SECRET = re.compile(
    r"\b(encrypted_password|(confirmation|recovery|reauthentication)_(token|sent_at)"
    r"|(email|phone)_change(_\w+)?)\b",
    re.IGNORECASE,
)


def check_expression(text: object, where: str) -> str:
    """Return ``text`` if it can be a single SQL expression; otherwise raise ``SettingsError``."""
    if not isinstance(text, str) or not text.strip():
        raise SettingsError(
            f"{where}: expected an SQL expression such as {'left(id::text, 8)'!r}, got {text!r}"
        )
    if len(text) > _MAX_CHARACTERS:
        raise SettingsError(
            f"{where}: the expression is longer than {_MAX_CHARACTERS} characters",
            hint="Create a function with it, and call the function with its schema.",
        )
    for sign, why in _REFUSED.items():
        if sign in (text if sign in "$\\" else _without_strings(text)):
            raise SettingsError(f"{where}: the expression contains {sign!r}, {why}")
    if any(not character.isprintable() and character not in "\n\t" for character in text):
        raise SettingsError(f"{where}: the expression contains a character that cannot be printed")
    _check_brackets(text, where)
    secret = _SECRET.search(_without_strings(text))
    if secret:
        raise SettingsError(
            f"{where}: {secret[0]} holds a credential or an unconfirmed address and is never copied"
        )
    return text.strip()


_REFUSED = {
    "$": "which could end a dollar-quoted function body",
    "\\": "which some servers read as an escape",
    ";": "which ends a statement",
    "--": "which begins a comment",
    "/*": "which begins a comment",
}


def _check_brackets(text: str, where: str) -> None:
    """Check that all brackets and quotes are closed, so that the SQL after the expression is not part of
    it.
    """
    expected: list[str] = []
    for piece in _PIECE.finditer(text):
        character = piece["other"]
        if character in _CLOSES:
            expected.append(_CLOSES[character])
        elif (character in _CLOSES.values() and (not expected or expected.pop() != character)) or (
            character is not None and character in "'\""
        ):
            raise SettingsError(f"{where}: the expression has an unpaired {character}")
        elif character == "," and not expected:
            raise SettingsError(f"{where}: expected one expression, got several separated by commas")
    if expected:
        raise SettingsError(f"{where}: the expression lacks a closing {expected[-1]}")


def changes_by_itself(text: str) -> str | None:
    """A part of the expression whose value changes without a change of the user, or None."""
    found = _CHANGES_BY_ITSELF.search(_without_strings(text))
    return found[0] if found else None


def is_personal(text: str) -> bool:
    """Whether the expression reads personal data of the user."""
    return _PERSONAL.search(_without_strings(text)) is not None


def reads_user_metadata(text: str) -> bool:
    """Whether the expression reads user_metadata, which users can write themselves."""
    return "raw_user_meta_data" in _without_strings(text).lower()


def _without_strings(text: str) -> str:
    return re.sub(r"'(?:[^']|'')*'", "''", text)
