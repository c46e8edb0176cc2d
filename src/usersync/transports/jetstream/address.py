"""The URL of a NATS cluster: its servers, the login, TLS and the name of the stream.

::

    nats://user:password@nats-1:4222,nats-2:4222?stream=shop
    tls://nats.example.com?credentials=/etc/usersync/nats.creds&ca=/etc/usersync/ca.pem
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from typing import Self
from urllib.parse import parse_qsl, quote, unquote, urlencode

from usersync.config.dsn import Sealed
from usersync.config.extras import missing
from usersync.control_characters import CONTROL
from usersync.errors import SettingsError

#: The names of the streams, unless the URL names another one.
INGEST_STREAM, EVENT_STREAM = "usersync-in", "usersync"

_URL = re.compile(
    r"(?P<scheme>nats|tls)://(?:(?P<login>[^@/?#]*)@)?(?P<servers>[^@/?#]+)/?(?:\?(?P<options>[^#]*))?"
)
_SERVER = re.compile(r"(?P<host>\[[0-9A-Fa-f:.]+\]|[\w.-]+)(?::(?P<port>\d{1,5}))?")
_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
_PORT, _LAST_PORT = 4222, 65_535
_LONGEST = 2_000
_FILES = ("credentials", "ca", "certificate", "key")

_HINT = (
    "Expected nats://host:4222, or tls://host:4222 to require TLS. Separate several servers with commas. "
    "Options after a question mark: credentials, ca, certificate, key (files) and stream (a name)."
)


@dataclass(frozen=True)
class StreamAddress:
    """A parsed URL of a stream. Neither ``str()`` nor ``repr()`` contains the login."""

    #: Host and port of each server.
    servers: tuple[str, ...]
    #: Whether a connection without TLS is an error.
    requires_tls: bool
    #: ``user:password``, percent-encoded, or a token; empty if there is none.
    login: Sealed = field(repr=False, compare=False)
    #: The name of the stream, which is also the first token of its subjects. None: the default name.
    stream: str | None = None
    #: Paths of files on this machine: NATS credentials (JWT and seed); certificates and a key in PEM.
    credentials: str | None = None
    ca: str | None = None
    certificate: str | None = None
    key: str | None = None

    @classmethod
    def parse(cls, url: str | Sealed, where: str = "the URL of the stream") -> Self:
        """Read a URL. Raises ``SettingsError``, without the login, if it is not valid."""
        text = url.text if isinstance(url, Sealed) else url
        found = None if len(text) > _LONGEST or CONTROL.search(text) else _URL.fullmatch(text.strip())
        if found is None:
            raise SettingsError(f"{where} is not valid", hint=_HINT)
        options = _options(found["options"] or "", where)
        return cls(
            tuple(_server(each, where) for each in found["servers"].split(",")),
            found["scheme"] == "tls",
            Sealed(found["login"] or ""),
            **options,
        )

    @property
    def has_login(self) -> bool:
        """Whether the URL had a user, a password or a token."""
        return bool(self.login.text)

    def with_login(self, login: str) -> Self:
        """The same servers with another login."""
        return replace(self, login=Sealed(login))

    @property
    def user(self) -> str:
        """The user, or the token if there is no password."""
        return unquote(self.login.text.partition(":")[0])

    @property
    def password(self) -> str | None:
        """The password; None if the login is a token."""
        _, mark, password = self.login.text.partition(":")
        return unquote(password) if mark else None

    @property
    def url(self) -> str:
        """The URL without the login."""
        options = {name: value for name in ("stream", *_FILES) if (value := getattr(self, name))}
        query = f"?{urlencode(options, safe='/', quote_via=quote)}" if options else ""
        return f"{'tls' if self.requires_tls else 'nats'}://{','.join(self.servers)}{query}"

    @property
    def ingest_stream(self) -> str:
        """The stream to which applications publish events, and which workers store."""
        return self.stream or INGEST_STREAM

    def identity(self) -> str:
        """Identifies the destination of a spool: the servers and the stream, without login and files."""
        return f"nats:{','.join(sorted(self.servers))}/{self.ingest_stream}"

    def __str__(self) -> str:
        return self.url


def ingest_address(url: str) -> StreamAddress:
    """The stream of ``--ingest``.

    Raises ``SettingsError`` for an invalid URL, and ``MissingExtraError`` without the extra ``nats``.
    """
    if lacking := missing("nats", "reading a stream"):
        raise lacking
    return StreamAddress.parse(url, "the URL of --ingest")


def is_stream_url(text: object) -> bool:
    """Whether a text is meant to be the URL of a NATS cluster."""
    return isinstance(text, str) and text.strip().lower().startswith(("nats://", "tls://"))


def _server(text: str, where: str) -> str:
    found = _SERVER.fullmatch(text.strip())
    port = int(found["port"] or _PORT) if found else 0
    if found is None or not 0 < port <= _LAST_PORT:
        raise SettingsError(f"{where} has a server that is not valid: expected HOST or HOST:PORT", hint=_HINT)
    return f"{found['host']}:{port}"


def _options(text: str, where: str) -> dict[str, str]:
    options = dict(parse_qsl(text, keep_blank_values=True))
    for option, value in options.items():
        if option not in {"stream", *_FILES} or not value:
            raise SettingsError(f"{where} has an unknown or empty option: {option[:40]!r}", hint=_HINT)
    name = options.get("stream")
    if name is not None and not _NAME.fullmatch(name):
        raise SettingsError(
            f"{where}: {name[:80]!r} is not the name of a stream",
            hint="Use up to 64 of the characters A-Z, a-z, 0-9, '_' and '-'.",
        )
    if ("certificate" in options) != ("key" in options):
        raise SettingsError(f"{where}: a client certificate requires both certificate and key", hint=_HINT)
    return options
