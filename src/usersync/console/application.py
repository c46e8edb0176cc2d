"""The ASGI application of the console: its routes, who may see it, its headers."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from psycopg_pool import ConnectionPool
from starlette.applications import Starlette
from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from usersync.config.dsn import sealed
from usersync.console.database import Database
from usersync.console.pages import Pages
from usersync.console.rendering import HERE, Renderer
from usersync.errors import ArgumentTypeError, SettingsError, UsersyncError

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

#: Returns True for a request that may see the pages. It may also return the response to send instead, such as
#: a redirect to a sign-in page, or raise ``HTTPException``.
Authorize = Callable[[Request], bool | Response | Awaitable[bool | Response]]

_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self'; "
    "base-uri 'none'; frame-ancestors 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Cache-Control": "no-store",
}


def app(source: str | ConnectionPool[Any], *, authorize: Authorize | None = None) -> ASGIApp:
    """Return the console as an ASGI application to mount in your own. It only reads.

    ``source`` is a connection string or a ``psycopg_pool.ConnectionPool``; at most four pages read at a time.
    ``authorize`` decides on every request, also on style sheets and unknown paths. It gets Starlette's
    ``Request``, and may be a coroutine function. Only True shows the page; False is answered with 403. It may
    return a response, such as a redirect to your sign-in page, or raise ``HTTPException``. Being signed in is
    not enough: the pages show all users and all events.

    Raises ``SettingsError`` without ``authorize``, or for another ``source``. Opens no connection.
    """
    if not callable(authorize):
        raise SettingsError(
            "the console needs authorize: a function that decides who sees all users and all events",
            hint="Pass console.app(source, authorize=is_admin), where is_admin(request) returns a bool.",
        )
    if not isinstance(source, str | ConnectionPool):
        raise ArgumentTypeError(
            "the console takes a connection string or a ConnectionPool of psycopg, not "
            f"{type(source).__name__}"
        )
    renderer = Renderer()
    pages = Pages(Database(sealed(source)), renderer)
    application = Starlette(
        routes=[
            *(Route(path, page, methods=["GET"]) for path, page in pages.routes()),
            Mount("/static", StaticFiles(directory=HERE / "static")),
        ],
        middleware=[Middleware(_Guard, authorize=authorize)],
        exception_handlers={
            UsersyncError: renderer.usersync_error,
            HTTPException: renderer.http_error,
            Exception: renderer.unexpected_error,
        },
    )
    # Around Starlette, which sends the page of an unexpected error outside of its middleware.
    return _Headers(application)


class _Headers:
    """Adds the headers that every response has."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(_HEADERS)
            await send(message)

        await self._app(scope, receive, with_headers)


class _Guard:
    """Lets only authorized requests through."""

    def __init__(self, app: ASGIApp, authorize: Authorize) -> None:
        self._app = app
        self._authorize = authorize

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":
            await send({"type": "websocket.close", "code": 1008})
            return
        answer = await self._decide(Request(scope, receive))
        await (self._app if answer is None else answer)(scope, receive, send)

    async def _decide(self, request: Request) -> Response | None:
        """The response to send instead of the page, or None."""
        try:
            found: object = self._authorize(request)
            if inspect.isawaitable(found):
                found = await found
        except HTTPException as error:
            return PlainTextResponse(error.detail, error.status_code, error.headers)
        if isinstance(found, Response):
            return found
        if found is True:
            return None
        if found is not False:
            _log.warning("authorize returned %s, not True or False: denied", type(found).__name__)
        return PlainTextResponse("You are not allowed to see the console.", 403)


_log = logging.getLogger("usersync.console")
