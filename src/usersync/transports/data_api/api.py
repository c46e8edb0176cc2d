"""The URL and the key of the Data API, which are checked before any request."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NoReturn, Self
from urllib.parse import SplitResult, urlsplit

from usersync.config.environment import look_up
from usersync.config.extras import missing
from usersync.config.plain_http import is_public, plain_http_is_refused
from usersync.errors import ApiKeyError, ArgumentValueError
from usersync.transports.data_api.keys import Key

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

URL_VARIABLE = "SUPABASE_URL"
KEY_VARIABLES = ("SUPABASE_SECRET_KEY", "SUPABASE_SERVICE_ROLE_KEY")

#: Names that applications use for a key. They are not read, because the key may be the public one.
OTHER_KEY_VARIABLES = ("SUPABASE_KEY", "SUPABASE_SERVICE_KEY")

_PROJECT = re.compile(r"([a-z0-9]{20})\.supabase\.(?:co|in|red)")

# The path of a service behind the gateway, which is removed from the URL.
_SERVICE = re.compile(r"/(rest|auth)/v1$")

_WHERE = "In the dashboard: Project settings, API keys."


class DataApi:
    """A project's URL and secret key, for ``UserSync``, ``AsyncUserSync`` and ``AuditLog``.

    ``key`` is a secret key (``sb_secret_…``) or a ``service_role`` key; other keys raise ``ApiKeyError`` with
    the reason. ``timeout`` is the number of seconds for one call with all its retries. ``http://`` is allowed
    on this machine, with a warning in a private network, and elsewhere only with ``insecure_http``. Creating
    an object sends no request. ``repr`` does not show the key, and the object cannot be pickled.
    """

    __slots__ = ("_key", "host", "timeout", "url")

    def __init__(self, url: str, key: str, *, timeout: float = 30.0, insecure_http: bool = False) -> None:
        self._key = Key(key)
        # From here on, tracebacks with local variables do not show the key.
        del key
        if lacking := missing("api", "the Data API"):
            raise lacking
        if timeout <= 0:
            raise ArgumentValueError(f"timeout: expected more than 0 seconds, got {timeout}")
        parts = _checked_url(url, insecure_http=insecure_http)
        #: The gateway's URL, without a slash at the end.
        self.url: str = f"{parts.scheme}://{parts.netloc}{_SERVICE.sub('', parts.path.rstrip('/'))}"
        self.host: str = parts.netloc
        self.timeout: float = timeout
        if reason := self._key.why_not(self.project):
            raise ApiKeyError(f"the key for {self.host} cannot be used: {reason}", hint=_hint(reason))

    @classmethod
    def from_env(cls, *, directory: Path | None = None) -> Self:
        """Create one from ``SUPABASE_URL`` and ``SUPABASE_SECRET_KEY`` or ``SUPABASE_SERVICE_ROLE_KEY``.

        Reads the environment, then ``.env.local``, then ``.env``. Raises ``ApiKeyError`` if one is missing.
        """
        url = look_up(URL_VARIABLE, directory=directory)
        key = look_up(*KEY_VARIABLES, directory=directory)
        if url is None or key is None:
            lacking = URL_VARIABLE if url is None else " or ".join(KEY_VARIABLES)
            other = look_up(*OTHER_KEY_VARIABLES, directory=directory) if key is None else None
            if other is not None:
                raise ApiKeyError(
                    f"{lacking} is not set. usersync does not read {other.variable} ({other.where})",
                    hint=f"If it is a secret key or a service_role key, name it {KEY_VARIABLES[0]}. {_WHERE}",
                )
            raise ApiKeyError(f"{lacking} is not set", hint=f"Put it into .env.local. {_WHERE}")
        return cls(url.value, key.value)

    @property
    def project(self) -> str | None:
        """The project's ref; None if the URL is not that of a hosted project."""
        found = _PROJECT.fullmatch(self.host)
        return found[1] if found else None

    @property
    def target(self) -> str:
        """The URL as text for people, without the key."""
        return f"{self.url.partition('://')[2]} (Data API)"

    def headers(self) -> dict[str, str]:
        """The headers with the key. Never print them."""
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
        return f"usersync needs a server-side key: a secret key or the service_role key. {_WHERE}"
    if "database" in reason:
        return "Put the connection string into .env.local as SUPABASE_DB_URL; it needs no key."
    return f"Use a secret key (sb_secret_…) or the service_role key of this project. {_WHERE}"


def _checked_url(url: object, *, insecure_http: bool) -> SplitResult:
    """The URL's parts. Raises ``ApiKeyError``, which contains only the host of the URL."""
    if problem := url_problem(url):
        raise ApiKeyError(
            f"the project's URL {problem}",
            hint="Expected https://<project-ref>.supabase.co, or the URL of your own gateway. Put the "
            "connection string into .env.local as SUPABASE_DB_URL.",
        )
    parts = urlsplit(str(url).strip())
    if parts.scheme == "http" and plain_http_is_refused(parts.hostname or "", insecure_http=insecure_http):
        raise ApiKeyError(
            f"the project's URL {_PLAIN_HTTP}",
            hint="Use https://, or the private address or name of the server. In Python, "
            "DataApi(…, insecure_http=True) allows it; the commands have no such option.",
        )
    return parts._replace(netloc=parts.netloc.lower())


_PLAIN_HTTP = "begins with http://, which would send the key unencrypted"


def plain_http_problem(url: str) -> str | None:
    """Why a valid URL requires ``insecure_http``; None if it does not."""
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


#: In the order in which they are read.
_URL_PROBLEMS: dict[str, Callable[[SplitResult, str], bool]] = {
    "is empty": lambda parts, _: not any(parts),
    "is a connection string": lambda parts, _: parts.scheme.startswith("postgres"),
    "does not begin with https://": lambda parts, _: parts.scheme not in {"http", "https"},
    "has no host": lambda _, host: not host,
    "contains a user, a password or characters that no host has": lambda parts, _: (
        re.fullmatch(r"[A-Za-z0-9_.:\[\]-]+", parts.netloc) is None
    ),
    "contains more than a host and a path": lambda parts, _: (
        bool(parts.query or parts.fragment) or re.fullmatch(r"[A-Za-z0-9_./~-]*", parts.path) is None
    ),
    "is that of the dashboard": lambda _, host: host.removeprefix("www.") == "supabase.com",
}
