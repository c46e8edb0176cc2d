"""The audit context of a request: sync and async views, over WSGI and ASGI."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor

import pytest
from django.core.handlers.asgi import ASGIHandler
from django.core.handlers.wsgi import WSGIHandler
from django.db import connection, connections

from usersync.audit.event.context import current, entered
from usersync.contrib import asgi
from usersync.contrib.django import audit

pytestmark = pytest.mark.newest_server

FACTS = "request_id, host(ip), user_agent, actor_type, actor_id"


@pytest.fixture(autouse=True)
def _no_context_is_left(site):
    yield
    assert current() == {}


def test_an_event_over_wsgi_has_the_facts_of_its_request(site):
    answer = site.wsgi("record", x_request_id="r-1", user_agent="curl")
    assert (answer.status, answer.headers["X-Request-ID"]) == (200, "r-1")
    assert site.events(FACTS) == [("r-1", "203.0.113.9", "curl", "anonymous", None)]


def test_an_event_over_asgi_has_the_facts_of_its_request(site):
    answer = site.asgi("record_async", x_request_id="r-1", user_agent="curl")
    assert (answer.status, answer.headers["X-Request-ID"]) == (200, "r-1")
    assert site.events(FACTS) == [("r-1", "203.0.113.9", "curl", "anonymous", None)]


@pytest.mark.parametrize("how", ["wsgi", "asgi"])
def test_a_request_begins_with_an_empty_context(site, how):
    """A server may start a request inside the context of another one."""
    with entered({"actor_id": "ada", "actor_type": "user", "request_id": "of-another", "tenant": "t"}):
        answer = site.get(how, "record")
    assert site.events(f"{FACTS}, metadata") == [
        (answer.headers["X-Request-ID"], "203.0.113.9", None, "anonymous", None, {})
    ]


def test_a_mounted_django_keeps_the_outer_request_id(site):
    answer = asyncio.run(
        site.asgi_request(asgi.AuditContextMiddleware(ASGIHandler()), "record", x_request_id="not <harmless>")
    )
    assert site.events("request_id") == [answer.headers["x-request-id"]]


@pytest.mark.parametrize("view", ["record", "record_async", "record_in_a_thread"])
@pytest.mark.parametrize("how", ["wsgi", "asgi"])
def test_every_kind_of_view_has_the_context(site, how, view):
    answer = site.get(how, view)
    assert answer.body == b"done"
    assert site.events("request_id") == [answer.headers["X-Request-ID"]]


def test_an_unsafe_request_id_is_replaced(site):
    answer = site.wsgi("record", x_request_id="a\tb\"' <script>")
    assert site.events("request_id") == [answer.headers["X-Request-ID"]]
    assert "script" not in answer.headers["X-Request-ID"]


def test_a_spoofed_address_is_not_used(site):
    site.wsgi("record", x_forwarded_for="10.0.0.1")
    site.asgi("record", x_forwarded_for="10.0.0.1")
    assert site.events("host(ip)") == ["203.0.113.9"] * 2


def test_behind_trusted_proxies_the_address_is_the_clients(site, configure):
    configure(TRUSTED_PROXIES=["203.0.113.0/24", "10.0.0.0/8"])
    forwarded = "127.0.0.1, 10.9.9.9, 198.51.100.7, 10.0.0.1"
    site.wsgi("record", x_forwarded_for=forwarded)
    site.asgi("record", x_forwarded_for=forwarded)
    assert site.events("host(ip)") == ["198.51.100.7"] * 2


def test_the_clients_address_is_found_behind_a_unix_socket(site, configure):
    configure(TRUSTED_PROXIES=["unix"])
    site.wsgi("record", peer="", x_forwarded_for="1.2.3.4, 198.51.100.7")
    assert site.events("host(ip)") == ["198.51.100.7"]


@pytest.mark.parametrize(("how", "view"), [("wsgi", "fail"), ("asgi", "fail"), ("asgi", "fail_async")])
def test_a_failed_request_is_answered_and_leaves_no_context(site, how, view):
    answer = site.get(how, view)
    assert (answer.status, "X-Request-ID" in answer.headers) == (500, True)
    assert site.events("outcome, request_id") == [
        ("succeeded", answer.headers["X-Request-ID"]),
        ("failed", answer.headers["X-Request-ID"]),
    ]


def test_concurrent_requests_have_their_own_contexts(site):
    ids = [f"r{n}" for n in range(24)]

    def request(each):
        try:
            return site.wsgi(f"record?expected={each}", x_request_id=each)
        finally:
            connections.close_all()

    with ThreadPoolExecutor(6) as threads:
        list(threads.map(request, ids))

    async def main():
        application = ASGIHandler()
        views = ("record_async", "record")
        await asyncio.gather(
            *(
                site.asgi_request(application, f"{views[n % 2]}?expected=a{n}", x_request_id=f"a{n}")
                for n in range(24)
            )
        )

    asyncio.run(main())
    found = site.events("request_id, metadata ->> 'expected'")
    assert len(found) == 48
    assert all(each == expected for each, expected in found)


def test_a_thread_has_the_context_if_it_runs_in_a_copy(site):
    site.wsgi("threads", x_request_id="r")
    assert site.events("action, request_id") == [("thread.in_a_copy", "r"), ("thread.by_itself", None)]


@pytest.mark.parametrize(("how", "view"), [("wsgi", "stream"), ("asgi", "stream_async")])
def test_a_streamed_response_has_its_context_to_the_last_chunk(site, how, view):
    answer = site.get(how, view)
    assert answer.body == b"0;1;2;"
    expected = [("chunk.sent", answer.headers["X-Request-ID"], "streamer")] * 3
    found = site.events("action, request_id, actor_id")
    assert found == [*expected, ("stream.closed", *expected[0][1:])]


def test_between_chunks_the_server_does_not_have_the_context(site):
    body = WSGIHandler()(site.environ("stream"), lambda *_: None)
    chunks = iter(body)
    for _ in range(3):
        next(chunks)
        assert current() == {}
    body.close()
    assert current() == {}


def test_a_disconnect_closes_the_stream_in_its_context(site):
    body = WSGIHandler()(site.environ("stream", HTTP_X_REQUEST_ID="r"), lambda *_: None)
    next(iter(body))
    body.close()
    assert site.events("action, request_id") == [("chunk.sent", "r"), ("stream.closed", "r")]


@pytest.mark.parametrize("at", ["a chunk that is being made", "a chunk that is being sent"])
def test_a_disconnect_closes_an_async_stream_in_its_context(site, at):
    async def main():
        begun = asyncio.Event()
        messages = [{"type": "http.request", "body": b""}]

        async def receive():
            if not messages:
                await begun.wait()
            return messages.pop() if messages else {"type": "http.disconnect"}

        async def send(message):
            if message.get("body"):
                begun.set()
                await asyncio.sleep(3600 if at == "a chunk that is being sent" else 0)

        await ASGIHandler()(site.scope("stream_async", x_request_id="r"), receive, send)

    asyncio.run(main())
    found = site.events("action, request_id")
    assert found[-1] == ("stream.closed", "r")
    assert {request_id for _, request_id in found} == {"r"}


def test_a_file_response_is_sent_by_the_server(site):
    sent = []

    def wrapper(file, _size):
        sent.append(file)
        return iter(lambda: file.read(1000), b"")

    body = WSGIHandler()(site.environ("file", **{"wsgi.file_wrapper": wrapper}), lambda *_: None)
    assert b"".join(body)
    sent[0].close()
    assert site.wsgi("file").status == 200


@pytest.mark.parametrize("how", ["wsgi", "asgi"])
def test_on_commit_functions_have_the_context(site, how):
    site.get(how, "on_commit", x_request_id="r")
    site.get(how, "on_commit?fail")
    assert site.events("action, request_id, changes") == [("order.placed", "r", {"total": [None, 5]})]


def test_recording_runs_no_query_in_the_request(site, configure):
    configure()
    with connection.execute_wrapper(_refuse):
        assert site.wsgi("record").status == 200
    assert len(site.events()) == 1


def _refuse(*_):
    raise AssertionError("a query")


def test_the_log_can_be_used_outside_of_requests(site):
    with audit.context(actor_id="cron", actor_type="service"):
        audit.record("night.began")
    assert site.events("actor_id, actor_type, request_id") == [("cron", "service", None)]
