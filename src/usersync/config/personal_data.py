"""Finds and erases personal data in an event, by the words in its keys.

The word ``email`` matches the keys ``userEmail`` and ``old-emails``; ``ip`` matches ``client_ip`` and not
``description``. ``erase_keys.sql`` does the same in the database.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

ERASED = "[erased]"

#: The default of ``[audit] personal``.
PERSONAL = (
    *("email", "e_mail", "mail", "phone", "mobile", "address", "ip", "user_agent", "useragent"),
    *(
        "username",
        "user_name",
        "full_name",
        "fullname",
        "first_name",
        "last_name",
        "given_name",
        "family_name",
    ),
    *(
        "display_name",
        "nickname",
        "avatar",
        "avatar_url",
        "picture",
        "birthday",
        "birthdate",
        "date_of_birth",
    ),
)

#: Fields of an event that are always personal. If the table has no column for them, they are in ``metadata``.
_ALWAYS = ("ip", "user_agent")

_ACRONYM = re.compile(r"([A-Z]+)([A-Z][a-z])")
_HUMP = re.compile(r"([a-z0-9])([A-Z])")
_SEPARATORS = re.compile(r"[\x00-\x2f\x3a-\x40\x5b-\x60\x7b-\x7f]+")
_LOWER = {upper: upper + 32 for upper in range(ord("A"), ord("Z") + 1)}
_DEEPEST = 32

_ADDRESS = re.compile(r"[^@\s]+@[^@\s]+|\+?[0-9]{7,15}")


def spelt(key: str) -> str:
    """A key in lower case, with an underscore around each word."""
    parted = _HUMP.sub(r"\1_\2", _ACRONYM.sub(r"\1_\2", key)).translate(_LOWER)
    return f"_{_SEPARATORS.sub('_', parted)}_"


def words_of(names: Iterable[str]) -> list[str]:
    """The strings to search for in ``spelt()`` keys, singular and plural."""
    found = (spelt(name).strip("_") for name in (*names, *_ALWAYS))
    return sorted({f"_{each}{end}_" for each in found if each for end in ("", "s")})


def erase_keys(document: Any, words: Iterable[str], *, personal: bool = False, depth: int = 0) -> Any:
    """The document with ``[erased]`` in place of the values under personal keys."""
    if isinstance(document, dict):
        if personal or depth >= _DEEPEST:
            return ERASED
        return {
            key: erase_keys(value, words, personal=any(each in spelt(key) for each in words), depth=depth + 1)
            for key, value in document.items()
        }
    if isinstance(document, list):
        if depth >= _DEEPEST:
            return ERASED
        return [erase_keys(each, words, personal=personal, depth=depth + 1) for each in document]
    if personal and isinstance(document, str | int | float) and not isinstance(document, bool):
        return ERASED
    return document


def personal_values(document: Any, words: Iterable[str], *, personal: bool = False) -> Iterator[str]:
    """The strings under personal keys of a document."""
    if isinstance(document, dict):
        for key, value in document.items():
            is_personal = personal or any(each in spelt(key) for each in words)
            yield from personal_values(value, words, personal=is_personal)
    elif isinstance(document, list):
        for each in document:
            yield from personal_values(each, words, personal=personal)
    elif personal and isinstance(document, str):
        yield document


def is_address(text: str | None) -> bool:
    """Whether a text is an e-mail address or a phone number, which identifies one person."""
    return text is not None and _ADDRESS.fullmatch(text) is not None
