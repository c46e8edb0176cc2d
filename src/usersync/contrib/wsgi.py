"""An audit context around every request of a WSGI application, whatever its framework."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from usersync.audit.context import Context, entered, resumed
from usersync.contrib.request import REQUEST_ID_HEADER, TrustedProxies, request_id

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from types import TracebackType
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

    ExcInfo = tuple[type[BaseException], BaseException, TracebackType] | tuple[None, None, None]


class AuditContextMiddleware:
    """Gives the events of a request its id, the client's address and the user agent.

    The context lasts until the server has closed the response, so a body that is generated while it is sent
    is part of it; threads and requests keep theirs apart. Who is acting joins it once that is known
    (:meth:`~usersync.AuditLog.amend_context`). The id is that of the request's ``X-Request-ID`` if that is
    harmless, and goes back with the response.

    ``trusted_proxies``: see :class:`~usersync.contrib.request.TrustedProxies`.
    """

    def __init__(self, app: WSGIApplication, *, trusted_proxies: Iterable[str] = ()) -> None:
        self.app = app
        self._proxies = TrustedProxies(trusted_proxies)

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Serve a request."""
        fields = self._fields(environ)

        def start(status: str, headers: list[tuple[str, str]], exc_info: ExcInfo | None = None, /) -> Any:
            others = [each for each in headers if each[0].lower() != REQUEST_ID_HEADER.lower()]
            return start_response(status, [*others, (REQUEST_ID_HEADER, fields["request_id"])], exc_info)

        with entered(fields) as context:
            body = self.app(environ, start)
            return body if _is_file(body, environ) else _Body(body, context)

    def _fields(self, environ: WSGIEnvironment) -> dict[str, Any]:
        peer, forwarded_for = environ.get("REMOTE_ADDR"), environ.get("HTTP_X_FORWARDED_FOR")
        return {
            "request_id": request_id(environ.get("HTTP_X_REQUEST_ID")),
            "ip": self._proxies.client(peer, forwarded_for),
            "user_agent": environ.get("HTTP_USER_AGENT"),
        }


def _is_file(body: object, environ: WSGIEnvironment) -> bool:
    """Whether it is a file that the server knows how to send by itself, and recognises by its class."""
    wrapper = environ.get("wsgi.file_wrapper")
    return isinstance(wrapper, type) and isinstance(body, wrapper)


class _Body:
    """A response's body. The server asks for it after the application has returned, on a thread that serves
    others in between: the request's context is resumed for each chunk."""

    def __init__(self, body: Iterable[bytes], context: Context) -> None:
        self._body = body
        self._context = context
        self._chunks = iter(body)

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        with resumed(self._context):
            return next(self._chunks)

    def close(self) -> None:
        close = getattr(self._body, "close", None)
        if close is not None:
            with resumed(self._context):
                close()
