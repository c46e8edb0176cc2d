"""Sends and receives with httpx. No other module imports httpx.

The code is for asyncio only, because there a time limit also ends a connection on which the server sends one
byte a minute. Blocking callers wait for a thread that runs an event loop.
"""

from __future__ import annotations

import asyncio
import os
import re
import threading
import time
from typing import TYPE_CHECKING, Any, TypeVar

from usersync.config.extras import needed
from usersync.errors import SettingsError
from usersync.transports.data_api.answers import NoReply, Reply
from usersync.transports.processes import ForkSafeLock
from usersync.transports.steps import Pause
from usersync.version import __version__

with needed("api", "the Data API"):
    import httpx

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from usersync.transports.data_api.api import DataApi
    from usersync.transports.data_api.exchange import Exchange, Request

T = TypeVar("T")

MOST_BYTES = 16 << 20

_CONNECT_S = 10.0

_CONNECTIONS = 32  # as many as a run may have workers

#: Messages of httpx and the system for errors that a retry cannot fix.
_LASTING = re.compile(r"CERTIFICATE|certificate|WRONG_VERSION|unsupported protocol", re.IGNORECASE)


class HttpClient:
    """Connections to one Data API. Each event loop has its own; those of an ended event loop are
    abandoned.
    """

    def __init__(self, api: DataApi) -> None:
        self._api = api
        # Here rather than at the first request, so that errors are raised early.
        self._client = _client(api)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._scrub = api.scrub

    def _connected(self) -> httpx.AsyncClient:
        loop = asyncio.get_running_loop()
        if self._loop not in {None, loop}:
            self._client = _client(self._api)
        self._loop = loop
        return self._client

    async def send(self, request: Request) -> Reply | NoReply:
        """Send one request and return its reply, with the key removed. Raises only on cancellation."""
        try:
            async with asyncio.timeout(request.timeout):
                return await self._exchange(request)
        except TimeoutError:
            return NoReply("it did not answer in time", slow=True)
        except asyncio.CancelledError:
            pass
        except (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError, OSError, ValueError) as error:
            return self._no_reply(error)
        # A new exception: the traceback of the first one has frames with the headers.
        raise asyncio.CancelledError

    async def _exchange(self, request: Request) -> Reply | NoReply:
        async with self._connected().stream(
            request.method, request.path, content=request.body, headers=dict(request.headers)
        ) as response:
            headers = {name.lower(): self._clean(value) for name, value in response.headers.items()}
            if headers.get("content-encoding", "identity") != "identity":
                return NoReply("its reply is compressed, against the request", passing=False)
            parts, size = [], 0
            async for part in response.aiter_raw():
                parts.append(part)
                size += len(part)
                if size > MOST_BYTES:
                    return NoReply(f"its answer is larger than {MOST_BYTES >> 20} MiB", passing=False)
            return Reply(response.status_code, headers, self._scrub(b"".join(parts)))

    async def close(self) -> None:
        """Close the connections."""
        await self._connected().aclose()

    def _clean(self, text: str) -> str:
        return self._scrub(text.encode("utf-8", "replace")).decode()

    def _no_reply(self, error: Exception) -> NoReply:
        if isinstance(error, httpx.TimeoutException):
            return NoReply(f"no connection in time ({_CONNECT_S:.0f} s)")
        said = " ".join(_without_login(self._clean(_innermost(error))).split())[:300]
        kind = "the proxy: " if isinstance(error, httpx.ProxyError) else ""
        return NoReply(f"{kind}{said or type(error).__name__}", passing=not _LASTING.search(kind + said))


def _client(api: DataApi) -> httpx.AsyncClient:
    problem = ""
    uses_tls = api.url.startswith("https:")
    try:
        return httpx.AsyncClient(
            base_url=api.url,
            headers={
                **api.headers(),
                "accept": "application/json",
                # Without compression, a reply cannot be a decompression bomb.
                "accept-encoding": "identity",
                "content-type": "application/json",
                "content-profile": "public",
                "user-agent": f"usersync/{__version__}",
            },
            timeout=httpx.Timeout(None, connect=_CONNECT_S),
            limits=httpx.Limits(max_connections=_CONNECTIONS, keepalive_expiry=30),
            follow_redirects=False,
            # Without TLS a proxy would receive the key.
            trust_env=uses_tls,
            # Without TLS there are no certificates to verify. Loading the system's takes 20 ms.
            verify=uses_tls,
        )
    except (ValueError, ImportError, OSError, httpx.InvalidURL) as error:
        problem = _without_login(str(error))
    raise SettingsError(
        f"HTTPS is not available: {problem}", hint="Check HTTPS_PROXY, ALL_PROXY and SSL_CERT_FILE."
    )


def _without_login(text: str) -> str:
    """A URL without the part before the @."""
    return re.sub(r"//[^@/\s]*@", "//", text)


def _innermost(error: BaseException) -> str:
    """The innermost error: "all connection attempts failed" does not say why."""
    said, seen = str(error), error.__cause__ or error.__context__
    while seen is not None:
        seen = seen.exceptions[0] if isinstance(seen, BaseExceptionGroup) else seen
        said = str(seen) or said
        seen = seen.__cause__ or seen.__context__
    return said


async def drive_async(exchange: Exchange[T], http: HttpClient) -> T:
    """Run an exchange and return its result."""
    reply: Reply | NoReply | None = None
    try:
        while True:
            step = exchange.send(reply)
            if isinstance(step, Pause):
                await asyncio.sleep(step.seconds)
                reply = None
            else:
                reply = await http.send(step)
    except StopIteration as end:
        return end.value  # type: ignore[no-any-return]
    finally:
        exchange.close()


class BlockingHttpClient:
    """``HttpClient`` for blocking code. Threads can share it. A forked process opens its own connections."""

    def __init__(self, api: DataApi) -> None:
        self._api = api
        self._lock = ForkSafeLock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._http: HttpClient | None = None
        self._thread = threading.Thread()
        self._pid = 0

    def drive(self, exchange: Exchange[T]) -> T:
        """Run an exchange and return its result. Blocks."""
        reply: Reply | NoReply | None = None
        try:
            while True:
                step = exchange.send(reply)
                if isinstance(step, Pause):
                    time.sleep(step.seconds)
                    reply = None
                else:
                    reply = self._send(step)
        except StopIteration as end:
            return end.value  # type: ignore[no-any-return]
        finally:
            exchange.close()

    def _send(self, request: Request) -> Reply | NoReply:
        loop, http = self._running()
        return _wait_for(http.send(request), loop)

    def _running(self) -> tuple[asyncio.AbstractEventLoop, HttpClient]:
        with self._lock:
            if self._loop is None or self._http is None or self._pid != os.getpid():
                self._http = HttpClient(self._api)
                self._loop = asyncio.new_event_loop()
                self._pid = os.getpid()
                # A daemon thread, so that a program that does not call close() can end.
                self._thread = threading.Thread(
                    target=self._loop.run_forever, name="usersync-http", daemon=True
                )
                self._thread.start()
            return self._loop, self._http

    def close(self) -> None:
        """Close the connections and end the thread. The next call opens new ones."""
        with self._lock:
            loop, http, self._loop, self._http = self._loop, self._http, None, None
        if loop is None or http is None or self._pid != os.getpid():
            return
        _wait_for(http.close(), loop)
        _wait_for(loop.shutdown_default_executor(), loop)
        loop.call_soon_threadsafe(loop.stop)
        self._thread.join()
        loop.close()


def _wait_for(coroutine: Coroutine[Any, Any, T], loop: asyncio.AbstractEventLoop) -> T:
    future = asyncio.run_coroutine_threadsafe(coroutine, loop)
    try:
        return future.result()
    except BaseException:
        # Probably Ctrl-C: the answer is not needed any more.
        future.cancel()
        raise
