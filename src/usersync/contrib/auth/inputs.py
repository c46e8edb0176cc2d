"""The arguments of a verifier, checked when it is created."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from usersync.config.environment import look_up
from usersync.config.plain_http import plain_http_is_refused
from usersync.errors import SettingsError

if TYPE_CHECKING:
    from pathlib import Path

# RFC 7518, section 3.2: a key as large as the hash, or larger.
_LEAST_SECRET_BYTES = 32

#: Values that are not a shared secret. They are public or often passed on, so others could sign with them.
_NOT_SECRETS = {
    "a key in PEM": "-----BEGIN",
    "an SSH key": "ssh-",
    "a JSON Web Key": r"\{",
    "an API key or a token": r"eyJ[\w-]+\.",
    "an API key": "sb_(secret|publishable)_",
}


def variable(name: str, directory: Path | None) -> str | None:
    """The first value in the environment, ``.env.local`` and ``.env``."""
    found = look_up(name, directory=directory)
    return found.value if found else None


def checked_url(url: str, where: str, *, insecure_http: bool = False) -> str:
    """The URL without a slash at its end. Passwords in it are refused, because errors show it."""
    try:
        parts = urlsplit(url)
        usable = parts.scheme in {"http", "https"} and parts.hostname and parts.port != 0
    except ValueError:
        usable = False
    if not usable or "@" in parts.netloc or parts.query or parts.fragment or not url.isprintable():
        raise SettingsError(
            f"{where}: not the URL of a Supabase project",
            hint="Expected https://<project-ref>.supabase.co.",
        )
    if parts.scheme == "http" and plain_http_is_refused(parts.hostname or "", insecure_http=insecure_http):
        raise SettingsError(
            f"{where}: begins with http://: others could replace the keys that tokens are checked with",
            hint="Use https://, or pass insecure_http=True if the network is yours.",
        )
    return url.rstrip("/")


def checked_secret(secret: str) -> str:
    """The secret, used as written: it is not decoded."""
    text = secret.strip()
    for kind, pattern in _NOT_SECRETS.items():
        if re.match(pattern, text):
            raise SettingsError(
                f"the JWT secret is {kind}",
                hint="SUPABASE_JWT_SECRET is the legacy JWT secret under Project settings, JWT keys. A "
                "project that signs with a key pair needs none: remove the setting.",
            )
    if len(text.encode()) < _LEAST_SECRET_BYTES:
        raise SettingsError(
            f"the JWT secret has fewer than {_LEAST_SECRET_BYTES} bytes, which can be guessed",
            hint="Was it cut off? Supabase's secrets are longer.",
        )
    return text
