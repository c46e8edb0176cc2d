"""Every event of a request has its request id and actor, in every form of view."""

from __future__ import annotations

import asyncio
import random
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from uuid import UUID, uuid4
from wsgiref.util import FileWrapper, setup_testing_defaults

import pytest
from flask import Response, abort, request, stream_with_context

from usersync.audit.event.context import current
from usersync.contrib.wsgi import AuditContextMiddleware
from usersync.errors import SettingsError

pytestmark = pytest.mark.newest_server

HEADERS = {"X-Request-ID": "r-1", "X-Forwarded-For": "1.1.1.1, 203.0.113.9", "User-Agent": "Netscape/4"}
FROM_PROXY = {"REMOTE_ADDR": "10.0.0.1"}


@pytest.fixture
def app(make_app, audit):
    """An application with a view of each form; each records an event with its name."""
    application, users = make_app()
    add_views(application, users, audit)
    add_streams(application, users, audit)
    return application


def add_views(app, users, audit):
    @app.get("/sync")
    @users.user_required
    def sync_view():
        audit.record("handled.sync", metadata={"user": str(users.current_user.id)})
        return "a"

    @app.get("/async")
    @users.user_required
    async def async_view():
        await asyncio.sleep(0)
        audit.record("handled.async", metadata={"user": str(users.current_user.id)})
        return "a"

    @app.get("/raises")
    @users.user_required
    def raises():
        with audit.action("handled.raises"):
            raise LookupError("a bug")

    @app.get("/refuses")
    @users.user_required
    def refuses():
        with audit.action("handled.refuses"):
            abort(418)

    @app.get("/nobody")
    def nobody():
        audit.record("handled.nobody")
        return "a"


def add_streams(app, users, audit):
    @app.get("/stream")
    @users.user_required
    def stream():
        def chunks():
            yield "a"
            audit.record("handled.stream")
            yield "b"

        return Response(chunks())

    @app.get("/stream-with-context")
    @users.user_required
    def streaming_with_context():
        def chunks():
            yield "a"
            audit.record("handled.stream", metadata={"user": str(users.current_user.id)})
            yield "b"

        return Response(stream_with_context(chunks()))

    @app.get("/after")
    @users.user_required
    def after():
        response = Response("a")
        response.call_on_close(lambda: audit.record("handled.closed"))
        return response

    @app.teardown_request
    def teardown(_):
        audit.record("handled.teardown")


@pytest.mark.parametrize(
    ("path", "action"),
    [
        ("/sync", "sync"),
        ("/async", "async"),
        ("/stream", "stream"),
        ("/stream-with-context", "stream"),
        ("/after", "closed"),
        ("/refuses", "refuses"),
    ],
)
def test_every_event_of_a_request_has_its_context(app, backend, events, path, action):
    user_id = backend.sign_up()
    headers = HEADERS | backend.bearer(user_id)
    response = app.test_client().get(path, headers=headers, environ_base=FROM_PROXY)
    assert response.text
    response.close()
    assert response.headers.getlist("X-Request-ID") == ["r-1"]
    found = events()
    assert {each["action"] for each in found} == {f"handled.{action}", "handled.teardown"}
    for each in found:
        assert (each["request_id"], each["ip"], each["user_agent"]) == ("r-1", "203.0.113.9", "Netscape/4")
        assert (each["actor_id"], each["user_id"]) == (str(user_id), str(user_id))
    assert current() == {}


@pytest.mark.parametrize("path", ["/sync", "/async", "/stream", "/stream-with-context"])
def test_a_test_may_hold_the_request_open(app, backend, events, path):
    """Flask's test client does so in a with block."""
    with app.test_client() as client:
        assert client.get(path, headers=HEADERS | backend.bearer()).text
        assert request.path == path
        client.get("/nobody")
    assert current() == {}
    assert {each["request_id"] == "r-1" for each in events() if each["action"] != "handled.teardown"} == {
        True,
        False,
    }


@pytest.mark.parametrize("propagates", [False, True])
def test_after_a_view_that_raises_the_next_request_has_no_context(app, backend, events, propagates):
    app.config["PROPAGATE_EXCEPTIONS"] = propagates
    client = app.test_client()
    headers = HEADERS | backend.bearer()
    if propagates:
        with pytest.raises(LookupError):
            client.get("/raises", headers=headers)
    else:
        response = client.get("/raises", headers=headers)
        assert (response.status_code, response.headers["X-Request-ID"]) == (500, "r-1")
    assert current() == {}
    client.get("/nobody")
    raised, _, nobody, _ = events()
    assert (raised["outcome"], raised["request_id"]) == ("failed", "r-1")
    assert (nobody["actor_id"], nobody["ip"]) == (None, "127.0.0.1")
    assert nobody["request_id"] != "r-1"


def test_after_an_interrupted_stream_the_next_request_has_no_context(app, backend, events):
    client = app.test_client()
    response = client.get("/stream", headers=HEADERS | backend.bearer(), buffered=False)
    assert next(response.iter_encoded()) == b"a"
    assert current() == {}
    response.close()
    client.get("/nobody")
    assert [each["action"] for each in events() if each["actor_id"] is None] == [
        "handled.nobody",
        "handled.teardown",
    ]


def test_streams_on_one_thread_have_their_own_contexts(app, backend, events):
    """As in a server with greenlets: the thread switches between bodies."""
    client = app.test_client()
    streams = {
        str(user_id): client.get(
            "/stream", headers=backend.bearer(user_id) | {"X-Request-ID": f"r{user_id}"}, buffered=False
        ).iter_encoded()
        for user_id in (backend.sign_up() for _ in range(5))
    }
    for _ in range(2):
        for stream in streams.values():
            next(stream)
    found = [each for each in events() if each["action"] == "handled.stream"]
    assert {each["actor_id"] for each in found} == set(streams)
    assert all(each["request_id"] == f"r{each['actor_id']}" for each in found)


@pytest.mark.parametrize("count", [100, pytest.param(500, marks=pytest.mark.slow)])
def test_concurrent_requests_have_their_own_contexts(make_app, backend, audit, events, count):
    app, users = make_app()
    together = Barrier(50)

    def view():
        together.wait(90)
        audit.record("handled", metadata={"user": str(users.current_user.id)})
        return "a"

    async def async_view():
        await asyncio.sleep(0)
        return view()

    app.get("/sync")(users.user_required(view))
    app.add_url_rule("/async", view_func=users.user_required(async_view))

    def get(number):
        headers = {
            "X-Request-ID": f"r{number}",
            "X-Forwarded-For": f"203.0.113.{number % 250}",
            "User-Agent": f"agent {number}",
        }
        path = "/sync" if number % 2 else "/async"
        # Unknown users, so that each is looked up, too.
        headers |= backend.bearer(uuid4())
        return app.test_client().get(path, headers=headers, environ_base=FROM_PROXY).status_code

    with ThreadPoolExecutor(50) as threads:
        assert set(threads.map(get, random.sample(range(count), count))) == {200}
    found = events()
    assert sorted(int(each["request_id"][1:]) for each in found) == list(range(count))
    assert len({each["actor_id"] for each in found}) == count
    for each in found:
        number = int(each["request_id"][1:])
        assert each["ip"] == f"203.0.113.{number % 250}"
        assert each["user_agent"] == f"agent {number}"
        assert each["actor_id"] == each["metadata"]["user"]


def test_a_client_cannot_choose_its_address(app, events):
    client = app.test_client()
    client.get(
        "/nobody", headers={"X-Forwarded-For": "127.0.0.1"}, environ_base={"REMOTE_ADDR": "198.51.100.7"}
    )
    client.get("/nobody", headers={"X-Forwarded-For": "1.1.1.1, 203.0.113.9"}, environ_base=FROM_PROXY)
    client.get("/nobody", headers={"X-Real-IP": "1.1.1.1"}, environ_base=FROM_PROXY)
    client.get("/nobody", environ_base={"REMOTE_ADDR": ""})
    found = [each["ip"] for each in events() if each["action"] == "handled.nobody"]
    assert found == ["198.51.100.7", "203.0.113.9", "10.0.0.1", None]


def test_an_unsafe_request_id_is_replaced(app, events):
    response = app.test_client().get("/nobody", headers={"X-Request-ID": "a b;c"})
    given = response.headers["X-Request-ID"]
    assert UUID(given)
    assert {each["request_id"] for each in events()} == {given}


def test_the_server_sends_a_file_itself(tmp_path):
    """The server recognizes its class, and uses sendfile."""
    (tmp_path / "file").write_bytes(b"content")
    body = FileWrapper((tmp_path / "file").open("rb"))
    environ = {"wsgi.file_wrapper": FileWrapper}
    setup_testing_defaults(environ)
    with body.filelike:
        assert AuditContextMiddleware(lambda *_: body)(environ, lambda *_: None) is body


def test_invalid_trusted_proxies_are_refused_when_the_application_is_created():
    with pytest.raises(SettingsError):
        AuditContextMiddleware(lambda *_: [], trusted_proxies=["*"])
