"""Where the Data API is, and the key to it: checked before anything is sent."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NoReturn, Self
from urllib.parse import SplitResult, urlsplit

from usersync.config.environment import look_up
from usersync.config.extras import missing
from usersync.config.plain_http import is_public, plain_http_is_refused
from usersync.errors import ApiKeyError, SettingsError
from usersync.transports.data_api.keys import Key

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

URL_VARIABLE = "SUPABASE_URL"
KEY_VARIABLES = ("SUPABASE_SECRET_KEY", "SUPABASE_SERVICE_ROLE_KEY")

_PROJECT = re.compile(r"([a-z0-9]{20})\.supabase\.(?:co|in|red)")

# The part of a URL that is the path of one of the services behind the gateway, and not of the gateway.
_SERVICE = re.compile(r"/(rest|auth)/v1$")

_WHERE = "In the dashboard: Project settings, API keys."


class DataApi:
    """A project's URL and a secret key, for ``usersync.UserSync``, its asyncio twin and ``AuditLog``.

    ``key`` is a secret key (``sb_secret_…``) or the older ``service_role`` key; all others are refused, with
    the reason. ``timeout`` is how many seconds one call may take, all its attempts together. ``http://`` is
    allowed on this machine, in a private network with a warning, and elsewhere with ``insecure_http``. Raises
    ``ApiKeyError``; sends nothing. ``repr`` does not show the key, and it cannot be
    pickled.
    """

    __slots__ = ("_key", "host", "timeout", "url")

    def __init__(self, url: str, key: str, *, timeout: float = 30.0, insecure_http: bool = False) -> None:
        self._key = Key(key)
        # Whatever is raised from here on, a traceback that shows local variables shows no key.
        del key
        if lacking := missing("api", "the Data API"):
            raise lacking
        if timeout <= 0:
            raise SettingsError(f"timeout: expected more than 0 seconds, got {timeout}")
        parts = _checked_url(url, insecure_http=insecure_http)
        #: The gateway's address, without a slash at the end.
        self.url: str = f"{parts.scheme}://{parts.netloc}{_SERVICE.sub('', parts.path.rstrip('/'))}"
        self.host: str = parts.netloc
        self.timeout: float = timeout
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
        return f"{self.url.partition('://')[2]} (Data API)"

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


def _checked_url(url: object, *, insecure_http: bool) -> SplitResult:
    """The URL's parts; raises ``ApiKeyError``, which repeats no more of it than its host."""
    if problem := url_problem(url):
        raise ApiKeyError(
            f"the project's URL {problem}",
            hint="Expected https://<project-ref>.supabase.co, or the address of your own gateway. A "
            "database's goes into SUPABASE_DB_URL.",
        )
    parts = urlsplit(str(url).strip())
    if parts.scheme == "http" and plain_http_is_refused(parts.hostname or "", insecure_http=insecure_http):
        raise ApiKeyError(
            f"the project's URL {_PLAIN_HTTP}",
            hint="Use https://, or pass insecure_http=True if the network is yours.",
        )
    return parts._replace(netloc=parts.netloc.lower())


_PLAIN_HTTP = "begins with http://: everybody on the way could read the key"


def plain_http_problem(url: str) -> str | None:
    """Why a URL that can be read is refused without ``insecure_http``; None if it is not."""
    parts = urlsplit(url.strip())
    return _PLAIN_HTTP if parts.scheme == "http" and is_public(parts.hostname or "") else None


def url_problem(url: object) -> str | None:
    """Why a URL cannot be used; None if it can."""
    try:
        parts = urlsplit(url.strip() if isinstance(url, str) else "")
        host, _ = parts.hostname, parts.port
    except ValueError:
        return "cannot be read"
    return next((problem for problem, applies in _URL_PROBLEMS.items() if applies(parts, host or "")), None)


#: In the order in which they are looked for.
_URL_PROBLEMS: dict[str, Callable[[SplitResult, str], bool]] = {
    "is empty": lambda parts, _: not any(parts),
    "is the address of a database": lambda parts, _: parts.scheme.startswith("postgres"),
    "does not begin with https://": lambda parts, _: parts.scheme not in {"http", "https"},
    "has no host": lambda _, host: not host,
    "holds a user, a password or characters that no host has": lambda parts, _: (
        re.fullmatch(r"[A-Za-z0-9_.:\[\]-]+", parts.netloc) is None
    ),
    "holds more than an address": lambda parts, _: (
        bool(parts.query or parts.fragment) or re.fullmatch(r"[A-Za-z0-9_./~-]*", parts.path) is None
    ),
    "is that of the dashboard": lambda _, host: host.removeprefix("www.") == "supabase.com",
}
