"""An audit context around every request of an ASGI application, whatever its framework."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any

from usersync.audit.event.context import begun
from usersync.contrib.request import CONTEXT_KEY, REQUEST_ID_HEADER, TrustedProxies, fields_of_request

__all__ = ["AuditContextMiddleware"]

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
ASGIApp = Callable[[Scope, Receive, Send], Awaitable[None]]

_ID_HEADER = REQUEST_ID_HEADER.lower().encode()

#: The messages that carry a response's headers.
_STARTS = {"http.response.start", "websocket.accept", "websocket.http.response.start"}


class AuditContextMiddleware:
    """Adds the request id, the client's address and the user agent to the events of a request.

    Each request begins with an empty context, so it inherits nothing from another request on the same
    connection. The context lasts until the application has finished the request: to the end of a streamed
    response and of Starlette's background tasks, or until a WebSocket is closed. The actor is anonymous until
    the application names one (``amend_context()``). The request id is that of the ``X-Request-ID`` header if
    it is harmless text, and is sent back with the response. An application that is mounted into another one
    with this middleware keeps the outer context.

    ``trusted_proxies``: see ``TrustedProxies``.
    """

    def __init__(self, app: ASGIApp, *, trusted_proxies: Iterable[str] = ()) -> None:
        self.app = app
        self._proxies = TrustedProxies(trusted_proxies)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request. The lifespan and requests that already have a context are passed on."""
        if scope["type"] not in {"http", "websocket"} or CONTEXT_KEY in scope:
            await self.app(scope, receive, send)
            return
        fields = self._fields(scope)
        response_id = (_ID_HEADER, fields["request_id"].encode())

        async def send_with_id(message: Message) -> None:
            if message["type"] in _STARTS:
                others = [each for each in message.get("headers") or () if each[0].lower() != _ID_HEADER]
                message = {**message, "headers": [*others, response_id]}
            await send(message)

        with begun(fields) as context:
            await self.app({**scope, CONTEXT_KEY: context}, receive, send_with_id)

    def _fields(self, scope: Scope) -> dict[str, Any]:
        found: dict[bytes, list[str]] = {}
        for name, value in scope["headers"]:
            found.setdefault(name.lower(), []).append(value.decode("latin-1"))
        forwarded_for = ",".join(found.get(b"x-forwarded-for", ()))
        return fields_of_request(
            self._proxies,
            given_id=found.get(_ID_HEADER, [None])[0],
            peer=(scope.get("client") or (None,))[0],
            forwarded_for=forwarded_for,
            user_agent=found.get(b"user-agent", [None])[0],
        )
