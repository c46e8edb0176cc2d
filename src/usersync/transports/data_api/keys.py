"""The kinds of API key of a Supabase project, and why a key is not usable.

A secret key (``sb_secret_…``) is not a JWT: it belongs in the header ``apikey`` only, and the gateway rejects
it as a Bearer token. The older ``service_role`` key is a JWT and belongs in both headers.
Source: Supabase's guide "Understanding API keys".

No function raises while a local variable contains a key, because tracebacks may show local variables.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
import time
from datetime import UTC, datetime
from typing import Any, NoReturn

_SECRET, _JWT = "a secret key", "a service_role key"

# Unusable keys, in the order of the checks.
_UNUSABLE = (
    (r"\A\Z", "it is empty"),
    (r"(?s)\A.{8192}", "it is too long for a key"),
    (r"(?i)your[-_ ]|<.*>|\[.*\]|\.\.\.|…", "it is a placeholder"),
    (r"\Asb_publishable_", "it is a publishable key, which every browser has"),
    (r"\A(sbp_|sbat_)", "it is an access token for Supabase's management API"),
    (r"\Apostgres(ql)?://", "it is a connection string"),
    (r"\Ahttps?://", "it is a URL"),
    (
        r"[^A-Za-z0-9_.=-]",
        "it contains characters that no key has: copy the whole key and nothing else",
    ),
    (r"\Asb_secret_.{0,9}\Z", "it is cut off"),
)


class Key:
    """An API key that is not shown by ``repr`` and cannot be pickled."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text.strip() if isinstance(text, str) else ""

    @property
    def kind(self) -> str:
        """The kind of key: ``a secret key`` or ``a service_role key``."""
        return _SECRET if self._text.startswith("sb_secret_") else _JWT

    def headers(self) -> dict[str, str]:
        """The request headers for this kind of key."""
        headers = {"apikey": self._text}
        if self.kind == _JWT:
            headers["authorization"] = f"Bearer {self._text}"
        return headers

    def scrub(self, text: bytes) -> bytes:
        """``text`` without the key, because a server's reply may contain it."""
        return text.replace(self._text.encode(), b"[key]") if self._text else text

    def why_not(self, project: str | None) -> str | None:
        """Why the key cannot be used for this project; None if it can. Sends no request."""
        text = self._text
        for pattern, reason in _UNUSABLE:
            if re.search(pattern, text):
                return reason
        if text.startswith("sb_secret_"):
            return None
        claims = _claims(text)
        if claims is None:
            return "it is neither a secret key (sb_secret_…) nor a JWT"
        return _why_not_claims(claims, project)

    def __repr__(self) -> str:
        return "<key>"

    def __reduce__(self) -> NoReturn:
        raise TypeError("an API key cannot be pickled; create a client in each process")

    def __copy__(self) -> Key:
        return self

    def __deepcopy__(self, memo: object) -> Key:
        return self


def _claims(text: str) -> dict[str, Any] | None:
    """The claims of a JWT. The signature is not verified; the server does that."""
    parts = text.split(".")
    if len(parts) != 3:  # noqa: PLR2004 - header, claims, signature
        return None
    try:
        claims = json.loads(base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)))
    except (binascii.Error, ValueError, RecursionError):
        return None
    return claims if isinstance(claims, dict) else None


def _why_not_claims(claims: dict[str, Any], project: str | None) -> str | None:
    role, ref, expires = claims.get("role"), claims.get("ref"), claims.get("exp")
    if claims.get("sub") or role == "authenticated":
        return "it is the token of a signed-in user"
    if role == "anon":
        return "it is the anon key, which every browser has"
    if role != "service_role":
        return "it is a JWT for a role other than service_role"
    if project and isinstance(ref, str) and ref != project:
        return f"it is the key of another project ({ref[:40]}), and the URL is that of {project}"
    if isinstance(expires, int | float) and expires <= time.time():
        return f"it expired {_date(expires)}"
    return None


def _date(seconds: float) -> str:
    try:
        return f"on {datetime.fromtimestamp(seconds, UTC):%Y-%m-%d}"
    except (OverflowError, OSError, ValueError):
        return "long ago"
