"""An audit context around every request of an ASGI application, whatever its framework."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any

from usersync.audit.context import entered
from usersync.contrib.request import REQUEST_ID_HEADER, TrustedProxies, request_id

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
ASGIApp = Callable[[Scope, Receive, Send], Awaitable[None]]

_ID_HEADER = REQUEST_ID_HEADER.lower().encode()

#: The messages that carry a response's headers.
_STARTS = {"http.response.start", "websocket.accept", "websocket.http.response.start"}


class AuditContextMiddleware:
    """Gives the events of a request its id, the client's address and the user agent.

    The context lasts as long as the application is at the request: for the whole of a streamed response, for
    background tasks of Starlette's, and for a WebSocket until it is closed. Who is acting joins it once that
    is known (:meth:`~usersync.AuditLog.amend_context`). The id is that of the request's ``X-Request-ID`` if
    that is harmless, and goes back with the response.

    ``trusted_proxies``: see :class:`~usersync.contrib.request.TrustedProxies`.
    """

    def __init__(self, app: ASGIApp, *, trusted_proxies: Iterable[str] = ()) -> None:
        self.app = app
        self._proxies = TrustedProxies(trusted_proxies)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request; what is none, such as the lifespan, is passed on."""
        if scope["type"] not in {"http", "websocket"}:
            await self.app(scope, receive, send)
            return
        fields = self._fields(scope)
        response_id = (_ID_HEADER, fields["request_id"].encode())

        async def send_with_id(message: Message) -> None:
            if message["type"] in _STARTS:
                others = [each for each in message.get("headers") or () if each[0].lower() != _ID_HEADER]
                message = {**message, "headers": [*others, response_id]}
            await send(message)

        with entered(fields):
            await self.app(scope, receive, send_with_id)

    def _fields(self, scope: Scope) -> dict[str, Any]:
        found: dict[bytes, list[str]] = {}
        for name, value in scope["headers"]:
            found.setdefault(name.lower(), []).append(value.decode("latin-1"))
        forwarded_for = ",".join(found.get(b"x-forwarded-for", ()))
        peer = (scope.get("client") or (None,))[0]
        return {
            "request_id": request_id(found.get(_ID_HEADER, [None])[0]),
            "ip": self._proxies.client(peer, forwarded_for),
            "user_agent": found.get(b"user-agent", [None])[0],
        }
