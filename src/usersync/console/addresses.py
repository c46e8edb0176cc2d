"""Writes the addresses of pages, and reads the values in them.

A value that a form or a reader would change (spaces around it, line breaks) is written as a JSON string.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING
from urllib.parse import quote, urlencode

if TYPE_CHECKING:
    from collections.abc import Mapping

    from starlette.requests import Request

_QUOTE = '"'


def root_of(request: Request) -> str:
    """The path at which the application is mounted, as in an address."""
    return quote(request.scope.get("root_path", ""))


def address(request: Request, path: str, query: Mapping[str, str | None] | None = None) -> str:
    """The address of a page of this application. Parameters without a value are left out."""
    given = {name: written(value) for name, value in (query or {}).items() if value}
    return f"{root_of(request)}{quote(path)}{'?' + urlencode(given) if given else ''}"


def written(value: str) -> str:
    """A value as ``asked()`` reads it, also after it was in the field of a form."""
    is_plain = value == value.strip() and not value.startswith(_QUOTE) and not {"\n", "\r"} & set(value)
    return value if is_plain else json.dumps(value, ensure_ascii=False)


def asked(request: Request, name: str) -> str:
    """The value of a parameter, without spaces around it; empty if there is none."""
    text = request.query_params.get(name, "").strip()
    if text.startswith(_QUOTE):
        try:
            found = json.loads(text)
        except ValueError:
            return text
        return found if isinstance(found, str) else text
    return text
