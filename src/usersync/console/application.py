"""The ASGI application of the console: its routes, who may see it, its headers."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Awaitable, Callable, Collection
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
from usersync.console.actions import Actions, AllowActions
from usersync.console.database import Database
from usersync.console.pages import Pages
from usersync.console.rendering import HERE, Renderer
from usersync.errors import ArgumentTypeError, SettingsError, UsersyncError

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

#: Returns True for a request that may see the pages. It may also return the response to send instead, such as
#: a redirect to a sign-in page, or raise ``HTTPException``.
Authorize = Callable[[Request], bool | Response | Awaitable[bool | Response]]


def _headers(frame_ancestors: Collection[str], sources: str) -> dict[str, str]:
    """The headers of every response. Pages of ``frame_ancestors`` may show it in a frame. ``sources`` are
    more directives of the policy.
    """
    ancestors = " ".join(frame_ancestors) or "'none'"
    found = {
        "Content-Security-Policy": "default-src 'none'; style-src 'self'; img-src 'self'; "
        f"{sources}form-action 'self'; base-uri 'none'; frame-ancestors {ancestors}",
        "Cross-Origin-Opener-Policy": "same-origin",
        "Cross-Origin-Resource-Policy": "cross-origin" if frame_ancestors else "same-origin",
        "Referrer-Policy": "no-referrer",
        "X-Content-Type-Options": "nosniff",
        "Cache-Control": "no-store",
    }
    # This header knows no list of origins.
    return found if frame_ancestors else found | {"X-Frame-Options": "DENY"}


def app(
    source: str | ConnectionPool[Any],
    *,
    authorize: Authorize | None = None,
    allow_actions: AllowActions | None = None,
) -> ASGIApp:
    """Return the console as an ASGI application to mount in your own. Without ``allow_actions``, it only
    reads.

    ``source`` is a connection string or a ``psycopg_pool.ConnectionPool``; at most four pages read at a time.
    ``authorize`` decides on every request, also on style sheets and unknown paths. It gets Starlette's
    ``Request``, and may be a coroutine function. Only True shows the page; False is answered with 403. It may
    return a response, such as a redirect to your sign-in page, or raise ``HTTPException``. Being signed in is
    not enough: the pages show all users and all events.

    With ``allow_actions``, the page of a user has buttons to sync, retry and erase this user, and the page of
    a subscription has buttons to retry, pause, resume and replay it. It gets the request, and returns the
    name of the person who acts, which the audit log gets, or None to refuse the action. It may be a coroutine
    function.

    Raises ``SettingsError`` without ``authorize``, or for another ``source``. Opens no connection.
    """
    if not callable(authorize):
        raise SettingsError(
            "the console needs authorize: a function that decides who sees all users and all events",
            hint="Pass console.app(source, authorize=is_admin), where is_admin(request) returns a bool.",
        )
    check_source(source)
    if allow_actions is not None and not callable(allow_actions):
        raise SettingsError("allow_actions: expected a function that returns the name of the person who acts")
    renderer = Renderer(read_only=allow_actions is None)
    database = Database(sealed(source))
    actions = Actions(database, renderer, allow_actions) if allow_actions else None
    pages = Pages(database, renderer, actions)
    application = Starlette(
        routes=[
            *(Route(path, page, methods=["GET"]) for path, page in pages.routes()),
            *(Route(path, act, methods=["POST"]) for path, act in (actions.routes() if actions else ())),
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
    return Headers(application, sources="script-src 'self'; connect-src 'self'; ")


def check_source(source: object) -> None:
    """Raise ``ArgumentTypeError`` unless pages can read from it."""
    if not isinstance(source, str | ConnectionPool):
        raise ArgumentTypeError(
            "the console takes a connection string or a ConnectionPool of psycopg, not "
            f"{type(source).__name__}"
        )


class Headers:
    """Adds the headers that every response has."""

    def __init__(self, app: ASGIApp, frame_ancestors: Collection[str] = (), sources: str = "") -> None:
        self._app = app
        self._headers = _headers(frame_ancestors, sources)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(self._headers)
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
