"""Where the Data API is, and the key to it: checked before anything is sent."""

from __future__ import annotations

import ipaddress
import re
from typing import TYPE_CHECKING, NoReturn, Self
from urllib.parse import SplitResult, urlsplit

from usersync.environment import look_up
from usersync.errors import ApiKeyError, SettingsError
from usersync.rest.keys import Key

if TYPE_CHECKING:
    from pathlib import Path

URL_VARIABLE = "SUPABASE_URL"
KEY_VARIABLES = ("SUPABASE_SECRET_KEY", "SUPABASE_SERVICE_ROLE_KEY")

_PROJECT = re.compile(r"([a-z0-9]{20})\.supabase\.(?:co|in|red)")

# The part of a URL that is the path of one of the services behind the gateway, and not of the gateway.
_SERVICE = re.compile(r"/(rest|auth)/v1$")

_WHERE = "In the dashboard: Project settings, API keys."


class DataApi:
    """A project's URL and a secret key, for :class:`usersync.UserSync`, its asyncio twin and ``AuditLog``.

    ``key`` is a secret key (``sb_secret_…``) or the older ``service_role`` key; all others are refused, with
    the reason. ``timeout`` is how many seconds one call may take, all its attempts together. Raises
    :class:`~usersync.errors.ApiKeyError`; sends nothing. ``repr`` does not show the key, and it cannot be
    pickled.
    """

    __slots__ = ("_key", "host", "timeout", "url")

    def __init__(self, url: str, key: str, *, timeout: float = 30.0) -> None:
        self._key = Key(key)
        # Whatever is raised from here on, a traceback that shows local variables shows no key.
        del key
        if timeout <= 0:
            raise SettingsError(f"timeout: expected more than 0 seconds, got {timeout}")
        parts = _checked_url(url)
        #: The gateway's address, without a slash at the end.
        self.url = f"{parts.scheme}://{parts.netloc}{_SERVICE.sub('', parts.path.rstrip('/'))}"
        self.host = parts.netloc
        self.timeout = timeout
        if reason := self._key.why_not(self.project):
            raise ApiKeyError(f"the key for {self.host} cannot be used: {reason}", hint=_hint(reason))

    @classmethod
    def from_env(cls, *, directory: Path | None = None) -> Self:
        """Make one from ``SUPABASE_URL`` and ``SUPABASE_SECRET_KEY`` or ``SUPABASE_SERVICE_ROLE_KEY``.

        They are looked for in the environment, ``.env.local`` and ``.env``.
        """
        url = look_up(URL_VARIABLE, directory=directory)
        key = look_up(*KEY_VARIABLES, directory=directory)
        if url is None or key is None:
            missing = URL_VARIABLE if url is None else " or ".join(KEY_VARIABLES)
            raise ApiKeyError(f"{missing} is not set", hint=f"Put it into .env.local. {_WHERE}")
        return cls(url.value, key.value)

    @property
    def project(self) -> str | None:
        """The project's ref, where the URL is that of a hosted project."""
        found = _PROJECT.fullmatch(self.host)
        return found[1] if found else None

    @property
    def target(self) -> str:
        """What may be shown of it."""
        return f"{self.host} (Data API)"

    def headers(self) -> dict[str, str]:
        """What identifies us. Never to be printed."""
        return self._key.headers()

    def scrub(self, text: bytes) -> bytes:
        """``text`` without the key."""
        return self._key.scrub(text)

    def __repr__(self) -> str:
        return f"DataApi({getattr(self, 'url', '')!r}, {self._key!r})"

    def __reduce__(self) -> NoReturn:
        self._key.__reduce__()

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: object) -> Self:
        return self


def _hint(reason: str) -> str:
    if "browser" in reason:
        return f"This is for servers, and needs a key that must not leave them. {_WHERE}"
    if "database" in reason:
        return "A database's address goes into SUPABASE_DB_URL, and needs no key."
    return f"Use a secret key (sb_secret_…) or the service_role key of this project. {_WHERE}"


def _checked_url(url: object) -> SplitResult:
    """The URL's parts; raises :class:`ApiKeyError`, which repeats no more of it than its host."""
    if not isinstance(url, str) or not url.strip():
        raise _bad_url("is empty")
    text = url.strip()
    try:
        parts = urlsplit(text)
        host, _ = parts.hostname, parts.port
    except ValueError:
        raise _bad_url("cannot be read") from None
    if parts.scheme.startswith("postgres"):
        raise _bad_url("is the address of a database", "That one goes into SUPABASE_DB_URL.")
    if parts.scheme not in {"http", "https"}:
        raise _bad_url("does not begin with https://")
    if not host or not re.fullmatch(r"[\w.:\[\]-]+", parts.netloc, re.ASCII):
        raise _bad_url("holds a user, a password or characters that no host has" if host else "has no host")
    if parts.query or parts.fragment or not re.fullmatch(r"[\w./~-]*", parts.path, re.ASCII):
        raise _bad_url("holds more than an address")
    if host.removeprefix("www.") == "supabase.com":
        raise _bad_url("is that of the dashboard")
    if parts.scheme == "http" and not _is_local(host):
        raise _bad_url(
            f"begins with http://, so that everybody on the way to {host} could read the key",
            "Use https://. Without TLS only this machine itself is spoken to.",
        )
    return parts._replace(netloc=parts.netloc.lower())


def _bad_url(
    what: str, hint: str = "Expected https://<project-ref>.supabase.co, or your own gateway's."
) -> ApiKeyError:
    return ApiKeyError(f"the project's URL {what}", hint=hint)


def _is_local(host: str) -> bool:
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
