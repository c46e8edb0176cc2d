"""The audit context of each request."""

from __future__ import annotations

from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

from asgiref.sync import async_to_sync, iscoroutinefunction, markcoroutinefunction
from django.http import FileResponse

from usersync.audit.event.context import Context, begun, entered, resumed
from usersync.contrib.django.actor import actor_of, in_a_loop
from usersync.contrib.django.config import config
from usersync.contrib.django.log import audit_log
from usersync.contrib.django.tokens import TokenReader
from usersync.contrib.request import CONTEXT_KEY, REQUEST_ID_HEADER, fields_of_request

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator


class AuditContextMiddleware:
    """Adds the request id, the client's address, the user agent and the actor to the events of a request.

    Put it first. Each request begins with an empty context. If Django is mounted into an application that has
    opened a context for the request, its request id is kept. The context lasts until the response is closed,
    for a streamed response to its last chunk. A thread that a view starts has the context only if it runs in
    a copy (``contextvars.copy_context()``). The request id is that of the ``X-Request-ID`` header if it is
    harmless text, and is sent back with the response.

    The actor is looked up when an event is recorded: from ``USERSYNC["ACTOR"]``, else the user of a verified
    token (``request.supabase_user``), else ``request.user``.
    """

    sync_capable = True
    async_capable = True

    def __init__(self, get_response: Callable[[Any], Any]) -> None:
        self._get_response = get_response
        self._config = config()
        self._tokens = TokenReader(self._config.tokens)
        self._is_async = iscoroutinefunction(get_response)
        if self._is_async:
            markcoroutinefunction(self)
        audit_log()  # Invalid settings raise here, not during a request.

    def __call__(self, request: Any) -> Any | Awaitable[Any]:
        """Serve a request."""
        if self._is_async:
            return self._serve_async(request)
        with self._context(request) as context:
            request_id = context.fields["request_id"]
            self._tokens.read(request)
            return _finished(self._get_response(request), request_id, context)

    async def _serve_async(self, request: Any) -> Any:
        with self._context(request) as context:
            request_id = context.fields["request_id"]
            await self._tokens.read_async(request)
            return _finished(await self._get_response(request), request_id, context)

    @contextmanager
    def _context(self, request: Any) -> Iterator[Context]:
        carrier = getattr(request, "scope", request.META)
        outer: Context | None = carrier.get(CONTEXT_KEY)
        fields = self._fields(request)
        if outer is None:
            with begun(fields) as context:
                carrier[CONTEXT_KEY] = context
                yield context
        else:
            # The outer application's context of the request is kept.
            with entered(
                {name: value for name, value in fields.items() if name not in outer.fields}
            ) as context:
                yield context

    def _fields(self, request: Any) -> dict[str, Any]:
        meta = request.META
        fields = fields_of_request(
            self._config.trusted_proxies,
            given_id=meta.get("HTTP_X_REQUEST_ID"),
            peer=meta.get("REMOTE_ADDR"),
            forwarded_for=meta.get("HTTP_X_FORWARDED_FOR"),
            user_agent=meta.get("HTTP_USER_AGENT"),
        )
        return fields | {"actor_id": partial(self._config.actor or actor_of, request)}


def _finished(response: Any, request_id: str, context: Context) -> Any:
    response[REQUEST_ID_HEADER] = request_id
    # A file runs no code of the application, and a server may send it by itself.
    if response.streaming and not isinstance(response, FileResponse):
        content = response._iterator  # noqa: SLF001 - the public property wraps it again and never closes it
        if response.is_async:
            stream: Any = _stream_async(content, context)
            response.close = partial(_close_async, stream, response.close, context)
        else:
            stream = _stream(content, context)
            response.close = partial(_close, response.close, context)
        response.streaming_content = stream
    return response


# The context is entered for each chunk: between chunks the server uses the thread or task, and a generator
# runs in the context of its caller.


def _stream(chunks: Iterator[Any], context: Context) -> Iterator[Any]:
    while True:
        with resumed(context):
            try:
                chunk = next(chunks)
            except StopIteration:
                return
        yield chunk


async def _stream_async(chunks: AsyncIterator[Any], context: Context) -> AsyncIterator[Any]:
    try:
        while True:
            with resumed(context):
                try:
                    chunk = await anext(chunks)
                except StopAsyncIteration:
                    return
            yield chunk
    finally:
        with resumed(context):
            await _end(chunks)


def _close(close: Callable[[], None], context: Context) -> None:
    with resumed(context):
        close()


def _close_async(stream: AsyncIterator[Any], close: Callable[[], None], context: Context) -> None:
    """Close the stream: Django does not close an asynchronous one whose client has disconnected."""
    try:
        # Servers call this in a thread. In an event loop the interpreter closes the stream, since it cannot
        # be awaited.
        if not in_a_loop():
            async_to_sync(_end)(stream)
    finally:
        _close(close, context)


async def _end(chunks: Any) -> None:
    # Content may be any iterable; only generators need to be closed.
    if aclose := getattr(chunks, "aclose", None):
        await aclose()
