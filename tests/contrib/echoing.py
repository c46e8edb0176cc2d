"""Applications that answer with the audit context of their request, for real servers."""

from __future__ import annotations

import json
from typing import Any

from usersync.audit.event.context import amend, current
from usersync.contrib import asgi as for_asgi
from usersync.contrib import wsgi as for_wsgi


def _answer() -> bytes:
    return json.dumps(dict(current())).encode()


def _name_actor(actor: str | None) -> None:
    if actor:
        amend({"actor_id": actor, "metadata": {"tenant": actor}})


async def _asgi(scope: Any, receive: Any, send: Any) -> None:
    """Name the actor that a header claims, read the whole body, and answer."""
    if scope["type"] != "http":
        raise NotImplementedError
    headers = {name.decode(): value.decode() for name, value in scope["headers"]}
    _name_actor(headers.get("x-actor"))
    while (await receive()).get("more_body"):
        pass
    body = _answer()
    length = (b"content-length", str(len(body)).encode())
    await send({"type": "http.response.start", "status": 200, "headers": [length]})
    await send({"type": "http.response.body", "body": body})


def _wsgi(environ: Any, start_response: Any) -> list[bytes]:
    _name_actor(environ.get("HTTP_X_ACTOR"))
    environ["wsgi.input"].read()
    body = _answer()
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body]


asgi = for_asgi.AuditContextMiddleware(_asgi)
wsgi = for_wsgi.AuditContextMiddleware(_wsgi)
