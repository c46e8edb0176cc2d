"""Serves the console to the browser of this machine."""

from __future__ import annotations

import logging
import secrets
import signal
import socket
import threading
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

import uvicorn
from starlette.responses import PlainTextResponse, RedirectResponse, Response

from usersync.console.application import app
from usersync.core.admin_actions import account
from usersync.errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

    from starlette.requests import Request

#: The only address that the server listens at.
HOST = "127.0.0.1"


class LocalAccess:
    """Lets in the browser that opens the one-time link, and no other.

    The link sets a cookie. A request needs this cookie, and the address in its Host header: a page of another
    site whose name resolves to this machine (DNS rebinding) sends its own name.
    """

    def __init__(self, port: int) -> None:
        self._hosts = {f"{HOST}:{port}", f"localhost:{port}"}
        # Browsers send cookies of one port to all ports of a host.
        self._cookie = f"usersync_console_{port}"
        self._session = secrets.token_urlsafe(32)
        self._link: str | None = secrets.token_urlsafe(32)
        self.url = f"http://{HOST}:{port}/open/{self._link}"

    def __call__(self, request: Request) -> bool | Response:
        """Return True, or the response to send instead of the page."""
        hosts = request.headers.getlist("host")
        if len(hosts) != 1 or hosts[0].lower() not in self._hosts:
            return PlainTextResponse("This is not the address of the console.", 421)
        if request.method == "GET" and request.url.path.startswith("/open/"):
            return self._open(request.url.path.removeprefix("/open/"))
        return self._has_session(request) or PlainTextResponse(
            "Open the link that 'usersync console' prints. It works once, in one browser.", 403
        )

    def _has_session(self, request: Request) -> bool:
        return secrets.compare_digest(request.cookies.get(self._cookie, "").encode(), self._session.encode())

    def _open(self, token: str) -> Response:
        if self._link is None or not secrets.compare_digest(token.encode(), self._link.encode()):
            return PlainTextResponse("This link was used already, or is wrong. Run: usersync console", 403)
        self._link = None
        answer = RedirectResponse("/", 303)
        answer.set_cookie(self._cookie, self._session, httponly=True, samesite="strict", path="/")
        return answer


class _Server(uvicorn.Server):
    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        # A page that is still reading is cancelled, which would be logged with a traceback.
        logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)
        super().handle_exit(sig, frame)


class LocalConsole:
    """The console on a port of this machine; 0 takes a free one. Raises ``SettingsError`` if it is in use."""

    def __init__(self, dsn: str, port: int = 0, *, allow_actions: bool = False) -> None:
        try:
            self._socket = socket.create_server((HOST, port))
        except OSError as error:
            raise SettingsError(
                f"cannot listen at {HOST}:{port}: {error.strerror}",
                hint="Another program uses the port. Leave --port out to use a free one.",
            ) from error
        access = LocalAccess(self._socket.getsockname()[1])
        #: The one-time link.
        self.url = access.url
        self._server = _Server(
            uvicorn.Config(
                app(
                    dsn,
                    authorize=access,
                    allow_actions=(lambda _: account()) if allow_actions else None,
                ),
                # Without proxies: their headers would name another client and another host. Without a log of
                # requests: it would contain the link.
                proxy_headers=False,
                server_header=False,
                access_log=False,
                log_level="warning",
                lifespan="off",
                ws="none",
                timeout_graceful_shutdown=1,
            )
        )

    @contextmanager
    def ended_by_signals(self) -> Iterator[None]:
        """Let Ctrl-C and SIGTERM end ``serve()`` from now on, also before it has begun.

        Otherwise Ctrl-C right after the link is printed raises an exception somewhere in the start.
        """
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        former = {
            number: signal.signal(number, lambda *_: self.stop())
            for number in (signal.SIGINT, signal.SIGTERM)
        }
        try:
            yield
        finally:
            for number, handler in former.items():
                signal.signal(number, handler)

    def serve(self) -> None:
        """Serve until Ctrl-C."""
        try:
            if not self._server.should_exit:
                with suppress(KeyboardInterrupt):  # Ctrl-C is the normal way to end.
                    self._server.run(sockets=[self._socket])
        finally:
            self.close()

    def close(self) -> None:
        """Free the port."""
        self._socket.close()

    def stop(self) -> None:
        """End ``serve()``, from another thread."""
        self._server.should_exit = True
