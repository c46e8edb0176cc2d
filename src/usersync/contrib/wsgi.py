"""An audit context around every request of a WSGI application, whatever its framework."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from usersync.audit.event.context import Context, begun, resumed
from usersync.contrib.request import CONTEXT_KEY, REQUEST_ID_HEADER, TrustedProxies, fields_of_request

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from types import TracebackType
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

    ExcInfo = tuple[type[BaseException], BaseException, TracebackType] | tuple[None, None, None]

__all__ = ["AuditContextMiddleware"]


class AuditContextMiddleware:
    """Adds the request id, the client's address and the user agent to the events of a request.

    Each request begins with an empty context. The context lasts until the server has closed the response, so
    it includes a body that is generated while it is sent. The actor is anonymous until the application names
    one (``amend_context()``). The request id is that of the ``X-Request-ID`` header if
    it is harmless text, and is sent back with the response. An application that is mounted into another one
    with this middleware keeps the outer context.

    ``trusted_proxies``: see ``TrustedProxies``.
    """

    def __init__(self, app: WSGIApplication, *, trusted_proxies: Iterable[str] = ()) -> None:
        self.app = app
        self._proxies = TrustedProxies(trusted_proxies)

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Serve a request."""
        if CONTEXT_KEY in environ:
            return self.app(environ, start_response)
        fields = self._fields(environ)

        def start(status: str, headers: list[tuple[str, str]], exc_info: ExcInfo | None = None, /) -> Any:
            others = [each for each in headers if each[0].lower() != REQUEST_ID_HEADER.lower()]
            return start_response(status, [*others, (REQUEST_ID_HEADER, fields["request_id"])], exc_info)

        with begun(fields) as context:
            environ[CONTEXT_KEY] = context
            body = self.app(environ, start)
            return body if _is_file(body, environ) else _Body(body, context)

    def _fields(self, environ: WSGIEnvironment) -> dict[str, Any]:
        return fields_of_request(
            self._proxies,
            given_id=environ.get("HTTP_X_REQUEST_ID"),
            peer=environ.get("REMOTE_ADDR"),
            forwarded_for=environ.get("HTTP_X_FORWARDED_FOR"),
            user_agent=environ.get("HTTP_USER_AGENT"),
        )


def _is_file(body: object, environ: WSGIEnvironment) -> bool:
    """Whether it is a file that the server sends by itself and recognizes by its class."""
    wrapper = environ.get("wsgi.file_wrapper")
    return isinstance(wrapper, type) and isinstance(body, wrapper)


class _Body:
    """A response's body, which the server reads after the application has returned.

    The thread may serve other requests between chunks, so each chunk is read in the request's context.
    """

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
