"""Every event of a request has its request id and actor, in every form of handler."""

from __future__ import annotations

import asyncio
import random
from uuid import UUID, uuid4

import handlers
import httpx2
import pytest
from fastapi.testclient import TestClient
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.testclient import WebSocketDenialResponse
from starlette.websockets import WebSocketDisconnect

from usersync.audit.event.context import current
from usersync.contrib.fastapi import AuditContextMiddleware
from usersync.errors import SettingsError

pytestmark = pytest.mark.newest_server

HEADERS = {"X-Request-ID": "r-1", "X-Forwarded-For": "1.1.1.1, 203.0.113.9", "User-Agent": "Netscape/4"}


@pytest.fixture
def routes(app, audit, current_user):
    for add in (handlers.add_plain, handlers.add_around, handlers.add_lasting):
        add(app, audit, current_user)


ACTIONS = {
    "/async": ["async"],
    "/sync": ["sync"],
    "/dependencies": ["dependency_before", "dependency", "dependencies", "dependency_end"],
    "/background": ["task", "task_in_a_thread"],
    "/stream/async": ["stream"],
    "/stream/sync": ["stream_in_a_thread"],
    "/refuses": ["refuses"],
}


@pytest.mark.parametrize("path", ACTIONS)
@pytest.mark.parametrize("wrapped", [False, True], ids=["plain", "behind-a-task"])
@pytest.mark.usefixtures("routes")
def test_every_event_of_a_request_has_its_context(client_from, backend, events, path, wrapped):
    client = client_from("10.0.0.1")
    if wrapped:
        # Starlette's base class runs the inner application in another task, and so in another context.
        client.app.add_middleware(BaseHTTPMiddleware, dispatch=lambda request, call_next: call_next(request))
    user_id = backend.sign_up()
    with client:
        response = client.get(path, headers=HEADERS | backend.bearer(user_id))
    assert response.headers.get_list("x-request-id") == ["r-1"]
    found = events()
    assert sorted(each["action"] for each in found) == sorted(f"handled.{name}" for name in ACTIONS[path])
    for each in found:
        assert (each["request_id"], each["ip"], each["user_agent"]) == ("r-1", "203.0.113.9", "Netscape/4")
        # Code that runs before the token is verified has no actor yet.
        asked_by = None if each["action"] == "handled.dependency_before" else str(user_id)
        assert (each["actor_id"], each["user_id"]) == (asked_by, asked_by)


@pytest.mark.usefixtures("routes")
def test_after_a_handler_that_raises_the_next_request_has_no_context(client, client_from, backend, events):
    quiet = client_from("10.0.0.1", raise_server_exceptions=False)
    assert quiet.get("/raises", headers=HEADERS | backend.bearer()).status_code == 500
    assert client.get("/nobody").status_code == 200
    raised, nobody = events()
    assert (raised["outcome"], raised["request_id"], raised["ip"]) == ("failed", "r-1", "203.0.113.9")
    assert (nobody["actor_id"], nobody["user_agent"]) == (None, "testclient")
    assert nobody["request_id"] != "r-1"
    assert current() == {}


@pytest.mark.usefixtures("routes")
def test_as_the_outermost_layer_it_adds_the_id_to_error_responses(app, backend):
    """Starlette's answer to an exception comes from outside every middleware that is added to it."""
    client = TestClient(AuditContextMiddleware(app), raise_server_exceptions=False)
    response = client.get("/raises", headers=HEADERS | backend.bearer())
    assert (response.status_code, response.headers["x-request-id"]) == (500, "r-1")


@pytest.mark.usefixtures("routes")
def test_a_websocket_has_one_context_from_end_to_end(client, backend, events):
    user_id = backend.sign_up()
    with client.websocket_connect("/socket", headers=HEADERS | backend.bearer(user_id)) as socket:
        assert (b"x-request-id", b"r-1") in socket.extra_headers
        socket.send_text("one")
        socket.send_text("two")
        socket.send_text("end")
    found = events()
    assert [each["metadata"]["text"] for each in found] == ["one", "two"]
    assert {(each["request_id"], each["actor_id"], each["ip"]) for each in found} == {
        ("r-1", str(user_id), "203.0.113.9")
    }


@pytest.mark.usefixtures("routes")
def test_a_websocket_without_a_token_is_refused_before_it_opens(client, events):
    with (
        pytest.raises(WebSocketDenialResponse) as caught,
        client.websocket_connect("/socket", headers=HEADERS),
    ):
        pass
    assert (caught.value.status_code, caught.value.headers["x-request-id"]) == (401, "r-1")
    assert events() == []


@pytest.mark.usefixtures("routes")
def test_after_a_disconnected_websocket_the_next_request_has_no_context(client, backend, events):
    socket = client.websocket_connect("/socket", headers=backend.bearer())
    with pytest.raises(WebSocketDisconnect), socket:
        socket.send_text("one")
    assert client.get("/nobody").status_code == 200
    assert [(each["action"], each["actor_id"] is None) for each in events()] == [
        ("handled.socket", False),
        ("handled.nobody", True),
    ]


@pytest.mark.parametrize("count", [100, pytest.param(500, marks=pytest.mark.slow)])
def test_concurrent_requests_have_their_own_contexts(app, audit, backend, events, current_user, *, count):
    handlers.add_plain(app, audit, current_user)
    handlers.add_together(app, audit, current_user, count // 2)

    def get(client, number):
        path = "/together" if number < count // 2 else "/sync"
        headers = {
            "X-Request-ID": f"r{number}",
            "X-Forwarded-For": f"203.0.113.{number % 250}",
            "User-Agent": f"agent {number}",
        }
        # Unknown users, so that each is looked up, too.
        return client.get(path, headers=headers | backend.bearer(uuid4()), timeout=90)

    async def main():
        transport = httpx2.ASGITransport(app, client=("10.0.0.1", 1))
        async with httpx2.AsyncClient(transport=transport, base_url="http://app") as client:
            numbers = random.sample(range(count), count)
            return await asyncio.gather(*(get(client, number) for number in numbers))

    assert {response.status_code for response in asyncio.run(main())} == {200}
    found = events()
    assert sorted(int(each["request_id"][1:]) for each in found) == list(range(count))
    assert len({each["actor_id"] for each in found}) == count
    for each in found:
        number = int(each["request_id"][1:])
        assert each["ip"] == f"203.0.113.{number % 250}"
        assert each["user_agent"] == f"agent {number}"
        assert each["actor_id"] == each["metadata"]["user"]


@pytest.mark.usefixtures("routes")
def test_a_client_cannot_choose_its_address(client, client_from, events):
    """Neither with a direct connection, nor with a forged header through the proxy."""
    invented = {"X-Forwarded-For": "127.0.0.1, 10.0.0.5"}
    client_from("198.51.100.7").get("/nobody", headers=invented)
    several = [
        ("X-Forwarded-For", "10.0.0.5"),
        ("X-Forwarded-For", "1.1.1.1"),
        ("x-forwarded-for", "203.0.113.9"),
    ]
    client.get("/nobody", headers=several)
    client.get("/nobody", headers={"X-Forwarded-For": "a" * 10_000})
    client.get("/nobody", headers={"X-Real-IP": "1.1.1.1", "Forwarded": "for=1.1.1.1"})
    assert [each["ip"] for each in events()] == ["198.51.100.7", "203.0.113.9", "10.0.0.1", "10.0.0.1"]


@pytest.mark.parametrize("bad", ["x" * 129, "a b", "<script>", "é", "' or 1=1"])
@pytest.mark.usefixtures("routes")
def test_an_unsafe_request_id_is_replaced(client, events, bad):
    response = client.get("/nobody", headers={"X-Request-ID": bad.encode()})
    given = response.headers["x-request-id"]
    assert UUID(given)
    assert events()[0]["request_id"] == given


@pytest.mark.usefixtures("routes")
def test_headers_that_are_not_text(client, events):
    client.get("/nobody", headers={"User-Agent": b"\xff\x00\xfe", "X-Forwarded-For": b"\xff"})
    (event,) = events()
    assert event["user_agent"]
    assert "\0" not in event["user_agent"]
    client.get("/nobody", headers={"User-Agent": "x" * 5_000})
    assert len(events()[1]["user_agent"]) <= 2_000


def test_invalid_trusted_proxies_are_refused_when_the_application_is_created(app):
    with pytest.raises(SettingsError):
        AuditContextMiddleware(app, trusted_proxies=["*"])
