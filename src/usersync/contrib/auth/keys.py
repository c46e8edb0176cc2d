"""The public keys of an auth server.

PyJWT has a client for them too. It fetches on the caller's thread, holds a lock meanwhile, and after a failed
fetch tries again with the next token. So a client with forged tokens could cause many requests to the auth
server and block many threads. Here one fetch at a time runs in its own thread, and a minimum interval limits
the fetches.
"""

from __future__ import annotations

import json
import logging
import socket
import threading
import time
from contextlib import suppress
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection
from typing import TYPE_CHECKING, Any, Self
from urllib.error import HTTPError
from urllib.request import HTTPHandler, HTTPRedirectHandler, HTTPSHandler, Request, build_opener

from jwt import PyJWK

from usersync.contrib.background import in_thread
from usersync.errors import InvalidTokenError, KeysUnavailableError
from usersync.transports.processes import ForkSafeLock, renew_in_child
from usersync.version import __version__

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping
    from concurrent.futures import Future

logger: logging.Logger = logging.getLogger("usersync.auth")

#: A revoked key is accepted for this long, plus one request.
FRESH_S = 600.0

#: While the auth server is unavailable, users cannot renew their tokens, which by default last an hour. Known
#: keys are used for as long.
USABLE_S = 2 * 3600.0

#: The minimum interval between two fetches.
PAUSE_S, PAUSE_AFTER_FAILURE_S = 30.0, 5.0

#: How long a request waits for a fetch.
WAIT_S = 6.0
_SOCKET_TIMEOUT_S = 5.0

# How long a fetch may take, headers included. The socket's time-out applies to each read only.
_ARRIVES_S = 10.0

# A fetch that takes longer is abandoned.
_LOST_S = 20.0

_MOST_BYTES = 256 << 10

#: The auth server's algorithms, except for HS256 (the shared secret). The key determines its algorithm
#: (``alg``, or its type), and the token must have the same algorithm.
ALGORITHMS = frozenset(("ES256", "ES384", "ES512", "RS256", "RS384", "RS512", "EdDSA"))

_LEAST_RSA_BITS = 2048


class KeySet:
    """The keys at ``url``, fetched when they are first needed. Safe to use from threads."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._keys: Mapping[str, PyJWK] = {}
        self._fetched_at: float | None = None
        self._begun_at: float | None = None
        self._fetch: Future[None] | None = None
        #: Why the last fetch failed; None if it did not.
        self._error: str | None = None
        self._lock = ForkSafeLock()
        renew_in_child(self)

    def forget(self) -> None:
        """Called in a forked process, which does not have the thread of its parent's fetch."""
        self._fetch = self._begun_at = None

    def find(self, key_id: str) -> Generator[Future[None], None, PyJWK]:
        """Yield a fetch to wait for, at most once, for ``WAIT_S``; return the key.

        Raises ``InvalidTokenError`` if there is no such key, and ``KeysUnavailableError`` if the keys cannot
        be fetched.
        """
        key = self._known(key_id)
        if key is not None:
            if self._age() > FRESH_S:
                # In the background, because the known keys are still valid.
                self._begin()
            return key
        fetch = self._begin()
        if fetch is not None:
            yield fetch
        key = self._known(key_id)
        if key is not None:
            return key
        if fetch is not None and not fetch.done():
            raise self._unavailable("no answer in time")
        if self._error is not None:
            raise self._unavailable(self._error)
        raise InvalidTokenError(
            "the token is refused: it is signed with a key that the auth server does not publish",
            hint=f"The keys are those at {self._url}. Is the token of another project?",
        )

    def _known(self, key_id: str) -> PyJWK | None:
        return self._keys.get(key_id) if self._age() <= USABLE_S else None

    def _age(self) -> float:
        return float("inf") if self._fetched_at is None else time.monotonic() - self._fetched_at

    def _begin(self) -> Future[None] | None:
        """The running fetch, or a new one; None if the minimum interval has not passed."""
        with self._lock:
            since = float("inf") if self._begun_at is None else time.monotonic() - self._begun_at
            if self._fetch is not None and not self._fetch.done():
                if since < _LOST_S:
                    return self._fetch
            elif since < (PAUSE_S if self._error is None else PAUSE_AFTER_FAILURE_S):
                return None
            self._begun_at = time.monotonic()
            try:
                self._fetch = in_thread(self._refresh)
            except RuntimeError as error:
                self._error = str(error)
                return None
            return self._fetch

    def _refresh(self) -> None:
        try:
            keys = _read_keys(_download(self._url))
        except Exception as error:  # noqa: BLE001 - no answer of the server may discard the known keys
            self._error = _describe(error)
            logger.warning("the auth server's keys could not be fetched from %s: %s", self._url, self._error)
        else:
            self._keys, self._fetched_at, self._error = keys, time.monotonic(), None

    def _unavailable(self, reason: str) -> KeysUnavailableError:
        return KeysUnavailableError(
            f"the token cannot be checked: the keys at {self._url} are unavailable: {reason}",
            hint="Check SUPABASE_URL, and that this machine can connect to it.",
        )


class _StayPut(HTTPRedirectHandler):
    def redirect_request(self, *_: Any) -> None:
        """Follow no redirect: the source of the keys decides which tokens are accepted."""


class _Deadline:
    """Closes its connections at a deadline, even during the TLS handshake, the headers or the body."""

    def __init__(self, seconds: float) -> None:
        self._sockets: list[socket.socket] = []
        self._timer = threading.Timer(seconds, self._cut)
        self._timer.daemon = True
        self.passed = False

    def __enter__(self) -> Self:
        self._timer.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._timer.cancel()
        for each in self._sockets:
            each.close()

    def connect(self, *arguments: Any, **options: Any) -> socket.socket:
        """In the place of ``socket.create_connection()``."""
        connected = socket.create_connection(*arguments, **options)
        # A second handle on the same connection, because TLS detaches the first one.
        self._sockets.append(connected.dup())
        return connected

    def _cut(self) -> None:
        self.passed = True
        for each in self._sockets:
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)


class _Http(HTTPHandler):
    def __init__(self, deadline: _Deadline) -> None:
        super().__init__()
        self._deadline = deadline

    def http_open(self, req: Request) -> HTTPResponse:
        return self.do_open(_connections(HTTPConnection, self._deadline), req)


class _Https(HTTPSHandler):
    def __init__(self, deadline: _Deadline) -> None:
        super().__init__()
        self._deadline = deadline

    def https_open(self, req: Request) -> HTTPResponse:
        return self.do_open(_connections(HTTPSConnection, self._deadline), req)


def _connections(kind: type[HTTPConnection], deadline: _Deadline) -> Any:
    def make(*arguments: Any, **options: Any) -> HTTPConnection:
        connection = kind(*arguments, **options)
        connection._create_connection = deadline.connect  # type: ignore[attr-defined]  # noqa: SLF001 - the only place to do it
        return connection

    return make


def _download(url: str) -> bytes:
    headers = {"Accept": "application/json", "User-Agent": f"usersync/{__version__}"}
    request = Request(url, headers=headers)  # noqa: S310 - the verifier accepts http and https only
    with _Deadline(_ARRIVES_S) as deadline:
        opener = build_opener(_StayPut(), _Http(deadline), _Https(deadline))
        try:
            with opener.open(request, timeout=_SOCKET_TIMEOUT_S) as response:
                content: bytes = response.read(_MOST_BYTES + 1)
        except (OSError, HTTPException):
            if not deadline.passed:
                raise
        if deadline.passed:
            raise ValueError(f"the answer took longer than {_ARRIVES_S:g} s to arrive")
    if len(content) > _MOST_BYTES:
        raise ValueError(f"the answer is larger than {_MOST_BYTES >> 10} KiB")
    return content


def _read_keys(content: bytes) -> dict[str, PyJWK]:
    """The keys by id. Empty for a project with a shared secret only."""
    try:
        listed = json.loads(content)["keys"]
    except (ValueError, LookupError, TypeError, RecursionError):
        listed = None
    if not isinstance(listed, list):
        raise ValueError("the answer is not a JSON Web Key Set")  # noqa: TRY004 - it is about what was sent
    found = [key for key in map(_read_key, listed) if key is not None]
    return {key.key_id: key for key in found if key.key_id}


def _read_key(data: object) -> PyJWK | None:
    """The key, or None if it cannot check this project's tokens."""
    try:
        # A published shared secret is not accepted.
        if not isinstance(data, dict) or data.get("kty") == "oct" or data.get("use", "sig") != "sig":
            return None
        key = PyJWK(data)
        weak = data["kty"] == "RSA" and key.key.key_size < _LEAST_RSA_BITS
        return key if key.algorithm_name in ALGORITHMS and isinstance(key.key_id, str) and not weak else None
    except Exception:  # noqa: BLE001 - an unreadable key must not affect the others
        return None


def _describe(error: Exception) -> str:
    if isinstance(error, HTTPError):
        error.close()
        return f"HTTP {error.code}"
    if isinstance(error, OSError | HTTPException):
        return " ".join(str(getattr(error, "reason", None) or error or type(error).__name__).split())[:200]
    return str(error)[:200] if isinstance(error, ValueError) else type(error).__name__
