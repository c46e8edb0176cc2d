"""Sends events with aiohttp. No other module imports aiohttp."""

from __future__ import annotations

import asyncio
import io
import socket
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from usersync.config.extras import needed
from usersync.events.delivery import AttemptOutcome
from usersync.events.webhooks.answers import SUCCESS, cleaned, outcome_of
from usersync.events.webhooks.request import signed_request

with needed("webhooks", "a webhook"):
    import aiohttp

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from usersync.audit.models import NumberedEvent
    from usersync.events.secret_box import Secret
    from usersync.events.webhooks.endpoint import Endpoint

#: Seconds for one attempt, from the look-up of the name to the answer. Standard Webhooks: 15 to 30.
TIME_LIMIT_S = 20.0

_CONNECT_S = 10.0
#: Seconds in which a connection is used again. Shorter than in servers, so that they do not close it first.
_KEEPALIVE_S = 1.5
#: How much of an answer is read. A success needs none of it.
_MOST_BYTES = 4_096
#: How long to wait for the rest of a successful answer, so that its connection can be used again.
_REST_S = 0.25
#: From this size on, the body is written in parts.
_LARGE_BYTES = 1 << 20
_MOST_HEADERS = 64
_LONGEST_HEADER = 4_096


class WebhookDelivery:
    """Sends the events of one subscription. One event loop, one pool of connections.

    ``secrets`` is called for each request, and returns the secrets that are valid now.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        secrets: Callable[[], Sequence[Secret]],
        *,
        format_name: str,
        concurrency: int = 64,
        time_limit: float = TIME_LIMIT_S,
    ) -> None:
        self.concurrency = concurrency
        self._limit = time_limit
        #: For the worker: later than the limit here, whose error says more.
        self.time_limit = time_limit + 1
        self._endpoint = endpoint
        self._secrets = secrets
        self._format_name = format_name
        self._session: aiohttp.ClientSession | None = None

    async def deliver(self, event: NumberedEvent, attempt: int) -> AttemptOutcome:  # noqa: ARG002 - the protocol's
        """Send an event. Never raises for what the receiver or the network does."""
        request = signed_request(event, self._format_name, self._secrets())
        try:
            async with self._opened().post(
                self._endpoint.url,
                data=_payload(request.body),
                headers=request.headers,
                allow_redirects=False,
            ) as answer:
                return await _outcome(answer, event)
        except TimeoutError:
            return AttemptOutcome.failed(f"no answer in {self._limit:g} s")
        except (aiohttp.ClientError, OSError, ValueError) as error:
            return AttemptOutcome.failed(_reason(error))

    async def close(self) -> None:
        """Close the connections."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    def _opened(self) -> aiohttp.ClientSession:
        if self._session is None:
            connector = aiohttp.TCPConnector(
                limit=self.concurrency,
                keepalive_timeout=_KEEPALIVE_S,
                socket_factory=self._socket,
            )
            self._session = aiohttp.ClientSession(
                connector=connector,
                timeout=aiohttp.ClientTimeout(total=self._limit, sock_connect=_CONNECT_S),
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=False,
                # A proxy would connect to addresses that are not checked here.
                trust_env=False,
                max_headers=_MOST_HEADERS,
                max_line_size=_LONGEST_HEADER,
                max_field_size=_LONGEST_HEADER,
            )
        return self._session

    def _socket(self, info: tuple[Any, ...]) -> socket.socket:
        """Called with the address that is about to be connected to, so no second look-up can change it."""
        family, kind, protocol, _, address = info
        if why := self._endpoint.refusal(str(address[0])):
            raise OSError(why)
        return socket.socket(family, kind, protocol)


def _payload(body: bytes) -> bytes | io.BytesIO:
    """aiohttp writes bytes at once, which is faster, and a file in parts, in another thread."""
    return body if len(body) < _LARGE_BYTES else io.BytesIO(body)


async def _outcome(answer: aiohttp.ClientResponse, event: NumberedEvent) -> AttemptOutcome:
    body = b""
    if answer.status in SUCCESS:
        if not answer.content.at_eof():
            await _finish(answer)
    else:
        with suppress(aiohttp.ClientError, OSError):  # The status is known.
            async with asyncio.timeout(_REST_S):
                body = await answer.content.read(_MOST_BYTES)
        answer.close()
    return outcome_of(answer.status, answer.headers, body, event)


async def _finish(answer: aiohttp.ClientResponse) -> None:
    """Read the end of a short body. Close the connection of a longer one, or of a slow or broken one."""
    size = 0
    with suppress(aiohttp.ClientError, OSError):
        async with asyncio.timeout(_REST_S):
            while part := await answer.content.readany():
                size += len(part)
                if size > _MOST_BYTES:
                    break
            else:
                return
    answer.close()


def _reason(error: Exception) -> str:
    """Why there was no answer. Messages of aiohttp may quote the answer, and the address with its path."""
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        return f"the certificate was not accepted: {cleaned(str(error.certificate_error))}"
    if isinstance(error, aiohttp.ClientConnectorError):
        return f"no connection: {cleaned(str(error.os_error))}"
    if isinstance(error, aiohttp.ServerDisconnectedError):
        return "the receiver closed the connection without an answer"
    if isinstance(error, aiohttp.ClientResponseError):
        return "the answer is not valid HTTP"
    if isinstance(error, aiohttp.InvalidURL):
        return "the URL is not valid"
    return f"no answer: {cleaned(str(error)) or type(error).__name__}"
