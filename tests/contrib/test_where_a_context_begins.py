"""A request and a WebSocket begin with an empty context, and a mounted application finds the outer one's."""

from __future__ import annotations

import json
from typing import Any
from uuid import UUID

import pytest
from starlette.applications import Starlette
from starlette.responses import JSONResponse
from starlette.routing import Mount, Route, WebSocketRoute
from starlette.testclient import TestClient
from werkzeug.middleware.dispatcher import DispatcherMiddleware
from werkzeug.test import Client

from usersync.audit.event.context import amend, current, entered
from usersync.contrib import asgi, wsgi

OTHERS = {
    "actor_id": "ada",
    "actor_type": "user",
    "request_id": "of-another",
    "ip": "192.0.2.1",
    "tenant": "t",
}


async def answer(_: Any) -> JSONResponse:
    return JSONResponse(dict(current()))


async def answer_socket(socket: Any) -> None:
    await socket.accept()
    await socket.send_json(dict(current()))
    await socket.close()


def answer_wsgi(_: Any, start_response: Any) -> list[bytes]:
    start_response("200 OK", [("Content-Type", "application/json")])
    return [json.dumps(dict(current())).encode()]


def naming(app: Any) -> Any:
    """A part of the outer application that names the actor before the mounted application is called."""

    def called(*arguments: Any) -> Any:
        assert amend({"actor_id": "bob", "tenant": "b"})
        return app(*arguments)

    return called


def asgi_client(app: Any) -> TestClient:
    return TestClient(asgi.AuditContextMiddleware(app), client=("192.0.2.7", 1))


@pytest.fixture
def inner() -> Any:
    return Starlette(routes=[Route("/", answer), WebSocketRoute("/socket", answer_socket)])


def assert_begun(fields: dict[str, Any]) -> None:
    assert fields.keys() == {"request_id", "ip", "user_agent", "actor_type"}
    assert UUID(fields["request_id"])
    assert (fields["actor_type"], fields["ip"]) == ("anonymous", "192.0.2.7")


def test_a_request_begins_with_an_empty_context(inner):
    with entered(OTHERS):
        assert_begun(asgi_client(inner).get("/").json())
        assert current()["actor_id"] == "ada"


def test_a_websocket_begins_with_an_empty_context(inner):
    with entered(OTHERS), asgi_client(inner).websocket_connect("/socket") as socket:
        assert_begun(socket.receive_json())


def test_a_request_of_wsgi_begins_with_an_empty_context():
    client = Client(wsgi.AuditContextMiddleware(answer_wsgi))
    with entered(OTHERS):
        assert_begun(client.get("/", environ_base={"REMOTE_ADDR": "192.0.2.7"}).json)
        assert current()["actor_id"] == "ada"


@pytest.mark.parametrize("sent", [{"X-Request-ID": "r-1"}, {"X-Request-ID": "not <harmless>"}, {}])
def test_a_mounted_application_keeps_the_outer_context(inner, sent):
    mounted = asgi.AuditContextMiddleware(inner, trusted_proxies=["192.0.2.7"])
    response = asgi_client(Starlette(routes=[Mount("/inner", naming(mounted))])).get(
        "/inner/", headers={**sent, "X-Forwarded-For": "198.51.100.1"}
    )
    assert_kept(response.headers.get_list("x-request-id"), response.json(), sent)


@pytest.mark.parametrize("sent", [{"X-Request-ID": "r-1"}, {"X-Request-ID": "not <harmless>"}, {}])
def test_a_mounted_application_of_wsgi_keeps_the_outer_context(sent):
    mounted = wsgi.AuditContextMiddleware(answer_wsgi, trusted_proxies=["192.0.2.7"])
    outer = wsgi.AuditContextMiddleware(DispatcherMiddleware(answer_wsgi, {"/inner": naming(mounted)}))
    response = Client(outer).get(
        "/inner/",
        headers={**sent, "X-Forwarded-For": "198.51.100.1"},
        environ_base={"REMOTE_ADDR": "192.0.2.7"},
    )
    assert_kept(response.headers.getlist("X-Request-ID"), response.json, sent)


def assert_kept(sent_back: list[str], fields: dict[str, Any], sent: dict[str, str]) -> None:
    """The outer application's context: the request id, the address and the actor."""
    assert sent_back == [fields["request_id"]]
    assert fields["request_id"] == "r-1" if sent.get("X-Request-ID") == "r-1" else UUID(fields["request_id"])
    assert (fields["actor_id"], fields["ip"], fields["metadata"]) == ("bob", "192.0.2.7", {"tenant": "b"})
