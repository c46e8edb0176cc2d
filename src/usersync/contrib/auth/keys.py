"""The public keys of an auth server.

PyJWT has a client for them too. It fetches on the caller's thread, holds a lock meanwhile, and after a fetch
that failed tries again with the next token, so that whoever sends made-up tokens decides how often the auth
server is asked, and how many threads wait for it. Here one fetch at a time runs in a thread of its own, and
how often is decided by the clock.
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

#: For so long, and a request, a key is accepted that the project has revoked.
FRESH_S = 600.0

#: While the auth server is away its users cannot renew their tokens, which last for an hour unless the
#: project says otherwise. For as long, the keys that are known will do.
USABLE_S = 2 * 3600.0

#: How soon after a fetch there may be another, whatever tokens come.
PAUSE_S, PAUSE_AFTER_FAILURE_S = 30.0, 5.0

#: How long a request waits for a fetch.
WAIT_S = 6.0
_SOCKET_TIMEOUT_S = 5.0

# How long a fetch may take, headers included. A byte at a time, each is soon enough for the socket.
_ARRIVES_S = 10.0

# What is under way for so long is given up.
_LOST_S = 20.0

_MOST_BYTES = 256 << 10

#: What the auth server can sign with, but for the shared secret. Which of these a key is for is said by the
#: key (``alg``, or its type), and a token has to agree.
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
        """Called in a forked process: the thread of a fetch that is under way is its parent's."""
        self._fetch = self._begun_at = None

    def find(self, key_id: str) -> Generator[Future[None], None, PyJWK]:
        """Yield what is to be waited for, at most once and ``WAIT_S`` long; return the key.

        Raises ``InvalidTokenError`` if there is no such key, and
        ``KeysUnavailableError`` if that cannot be known.
        """
        key = self._known(key_id)
        if key is not None:
            if self._age() > FRESH_S:
                # In the background: nobody waits for what is still good.
                self._begin()
            return key
        fetch = self._begin()
        if fetch is not None:
            yield fetch
        key = self._known(key_id)
        if key is not None:
            return key
        if fetch is not None and not fetch.done():
            raise self._unavailable("there was no answer in time")
        if self._error is not None:
            raise self._unavailable(self._error)
        raise InvalidTokenError(
            "the token is refused: it is signed with a key that the auth server does not publish",
            hint=f"The keys are those at {self._url}. Is the token another project's?",
        )

    def _known(self, key_id: str) -> PyJWK | None:
        return self._keys.get(key_id) if self._age() <= USABLE_S else None

    def _age(self) -> float:
        return float("inf") if self._fetched_at is None else time.monotonic() - self._fetched_at

    def _begin(self) -> Future[None] | None:
        """The fetch that is under way, or another one; None if it is too early for that."""
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
        except Exception as error:  # noqa: BLE001 - whatever a server answers, it is no reason to forget the keys
            self._error = _describe(error)
            logger.warning("the auth server's keys could not be fetched from %s: %s", self._url, self._error)
        else:
            self._keys, self._fetched_at, self._error = keys, time.monotonic(), None

    def _unavailable(self, reason: str) -> KeysUnavailableError:
        return KeysUnavailableError(
            f"the token cannot be checked, for the keys at {self._url} are not to be had: {reason}",
            hint="Check SUPABASE_URL, and that this machine reaches it.",
        )


class _StayPut(HTTPRedirectHandler):
    def redirect_request(self, *_: Any) -> None:
        """Follow no redirect: who names the place of the keys decides who may sign in."""


class _Deadline:
    """Cuts connections off after a while, whatever they are at: the TLS handshake, headers, the body."""

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
        # A second handle on the same connection: TLS takes the first one away.
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
        connection._create_connection = deadline.connect  # type: ignore[attr-defined]  # noqa: SLF001 - the only seam
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
    """The keys by their id. None at all is an answer, too: that of a project with a shared secret only."""
    try:
        listed = json.loads(content)["keys"]
    except (ValueError, LookupError, TypeError, RecursionError):
        listed = None
    if not isinstance(listed, list):
        raise ValueError("the answer is no JSON Web Key Set")  # noqa: TRY004 - it is about what was sent
    found = [key for key in map(_read_key, listed) if key is not None]
    return {key.key_id: key for key in found if key.key_id}


def _read_key(data: object) -> PyJWK | None:
    """The key, or None for one that is not there to check this project's tokens with."""
    try:
        # A shared secret that somebody has published is not taken for one.
        if not isinstance(data, dict) or data.get("kty") == "oct" or data.get("use", "sig") != "sig":
            return None
        key = PyJWK(data)
        weak = data["kty"] == "RSA" and key.key.key_size < _LEAST_RSA_BITS
        return key if key.algorithm_name in ALGORITHMS and isinstance(key.key_id, str) and not weak else None
    except Exception:  # noqa: BLE001 - one key that cannot be read costs no other
        return None


def _describe(error: Exception) -> str:
    if isinstance(error, HTTPError):
        error.close()
        return f"HTTP {error.code}"
    if isinstance(error, OSError | HTTPException):
        return " ".join(str(getattr(error, "reason", None) or error or type(error).__name__).split())[:200]
    return str(error)[:200] if isinstance(error, ValueError) else type(error).__name__
