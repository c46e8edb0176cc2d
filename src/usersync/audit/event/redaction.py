"""Decides which keys hold secrets.

Only the key decides, not the value. It does not find a password in the middle of a text, in a string that
contains JSON, or in ``postgresql://user:password@host``.
"""

from __future__ import annotations

import re
import unicodedata
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

REDACTED = "[redacted]"

#: Found anywhere in a key, after lower-casing it and removing separators.
SECRET_WORDS = (
    "password",
    "passwd",
    "passphrase",
    "passcode",
    "pwd",
    "secret",
    "token",
    "authorization",
    "apikey",
    "accesskey",
    "privatekey",
    "signingkey",
    "encryptionkey",
    "servicekey",
    "credential",
    "cookie",
    "session",
    "jwt",
    "bearer",
    "creditcard",
    "cardnumber",
    "cardno",
    "securitycode",
    "cvv",
    "cvc",
    "socialsecurity",
    "connectionstring",
    "databaseurl",
    "dburl",
    "redisurl",
    "brokerurl",
)

#: Compared with the last word of a key only, because they are too short to be searched in the whole key
#: (``pin`` is in ``shipping``). A suffix as in ``otp_code`` is ignored.
SECRET_KEYS = frozenset("auth otp totp pin pan ssn dsn pass sid csrf xsrf".split())  # noqa: SIM905 - likewise
_FOLLOWING = frozenset({"code", "key", "value", "hash", "number", "no"})
_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")

_REMEMBERED = 4096
_LONG = 200


class Redactor:
    """Recognizes a secret's key in any spelling: ``API-Key``, ``api_key``, ``apiKey``."""

    def __init__(self, extra: Iterable[str] = ()) -> None:
        words = [*SECRET_WORDS, *filter(None, map(_bare, extra))]
        self._pattern = re.compile("|".join(map(re.escape, words)))
        self._known: dict[str, bool] = {}

    def is_secret(self, key: str) -> bool:
        """Whether the value under ``key`` must not be stored."""
        known = self._known.get(key)
        if known is None:
            known = self._pattern.search(_bare(key)) is not None or _last_word(key) in SECRET_KEYS
            if len(self._known) < _REMEMBERED and len(key) < _LONG:
                self._known[key] = known
        return known


def _bare(key: str) -> str:
    folded = unicodedata.normalize("NFKC", key).casefold()
    return "".join(character for character in folded if character.isalnum())


def _last_word(key: str) -> str:
    words = [word.lower() for word in _WORD.findall(unicodedata.normalize("NFKC", key))]
    while len(words) > 1 and words[-1] in _FOLLOWING:
        words.pop()
    return words[-1] if words else ""
