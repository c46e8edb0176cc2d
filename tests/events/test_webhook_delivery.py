"""Delivery of webhooks to receivers on this machine: requests, answers, limits and allowed addresses."""

from __future__ import annotations

import asyncio
import datetime as dt
import logging
import socket
import ssl
import subprocess
import sys
from contextlib import asynccontextmanager
from dataclasses import replace
from email.utils import format_datetime

import pytest
from standardwebhooks import Webhook

from event_receivers import EVENT, HOSTILE, answer, receiving
from usersync.events.secret_box import new_secret
from usersync.events.webhooks.delivery import WebhookDelivery
from usersync.events.webhooks.endpoint import Endpoint

SECRET = new_secret()


@asynccontextmanager
async def delivering(url, *, allow_private=True, **options):
    options = {"format_name": "cloudevents"} | options
    delivery = WebhookDelivery(Endpoint(url, allow_private=allow_private), lambda: [SECRET], **options)
    try:
        yield delivery
    finally:
        await delivery.close()


def deliver(*answers, event=EVENT, endless=b"", **options):
    """Make one attempt. Returns its outcome and the receiver."""

    async def main():
        async with (
            receiving(*answers, endless=endless) as receiver,
            delivering(receiver.url, **options) as delivery,
        ):
            return await delivery.deliver(event, 1), receiver

    return asyncio.run(main())


@pytest.mark.parametrize("event", [EVENT, HOSTILE], ids=["plain", "hostile"])
@pytest.mark.parametrize("status", [200, 202, 204, 299])
def test_a_receiver_gets_a_signed_request(event, status):
    outcome, receiver = deliver(answer(status), event=event)
    assert outcome.error is None
    assert not outcome.disables
    (request,) = receiver.requests
    assert request.head == "POST /hooks?token=hidden HTTP/1.1"
    assert Webhook(SECRET.text).verify(request.body, request.headers)["id"] == str(event.id)
    assert request.headers["content-type"] == "application/cloudevents+json; charset=utf-8"
    assert request.headers["host"] == f"127.0.0.1:{receiver.port}"
    assert set(request.headers) == {
        "host", "content-type", "user-agent", "accept-encoding", "webhook-id", "webhook-timestamp",
        "webhook-signature", "accept", "content-length",
    }  # fmt: skip


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_redirects_are_not_followed(status):
    outcome, receiver = deliver(answer(status, location="http://127.0.0.1:1/"), answer())
    assert outcome.error.startswith(f"{status} ")
    assert outcome.error.endswith(
        "redirects are not followed. To change the URL: usersync subscriptions set-url"
    )
    assert not outcome.disables
    assert len(receiver.requests) == 1


def test_410_disables_the_subscription_without_waiting_for_the_body():
    assert deliver(answer(410, b"we moved"))[0].disables
    endless = b"HTTP/1.1 410 Gone\r\ncontent-length: 1000\r\n\r\n"
    outcome, _ = deliver(endless, time_limit=60)
    assert outcome.disables
    assert outcome.error == "410 Gone: the receiver wants no more events"


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("120", 120),
        ("0", 0),
        ("9" * 4_000, 86_400),
        ("172800", 86_400),
        ("", None),
        ("soon", None),
        ("-5", None),
        ("1.5", None),
        ("²", None),
        ("Fri, 01 Jan 2100 00:00:00 GMT", 86_400),
        ("Fri, 01 Jan 1999 00:00:00 GMT", 0),
        ("Fri, 99 Jan 2026 99:00:00 GMT", None),
    ],
)
def test_retry_after_sets_the_time_of_the_next_attempt(value, expected):
    assert deliver(answer(429, retry_after=value))[0].retry_after == expected


def test_retry_after_may_be_a_date_and_is_ignored_except_with_429_and_503():
    at = dt.datetime.now(dt.UTC) + dt.timedelta(seconds=1000)
    outcome, _ = deliver(answer(503, b"busy", retry_after=format_datetime(at, usegmt=True)))
    assert 880 < outcome.retry_after <= 1000
    assert outcome.error == "503 Service Unavailable: busy"
    assert deliver(answer(500, retry_after="100"))[0].retry_after is None


def test_the_stored_text_of_an_answer_is_short_and_escaped_without_event_values():
    said = (
        b"\x1b[31mno\x00 user\r\n\t"
        + "ada@example.com\u202e\u2028 a-7 exists: bob@example.net ".encode()
        + b"\xff" * 400
    )
    outcome, _ = deliver(answer(422, said))
    assert outcome.error.isprintable()
    assert outcome.error.startswith("422 Unprocessable Entity: [31mno user … a-7 exists: <address> ���")
    assert len(outcome.error) < 340
    assert deliver(answer(799))[0].error == "799"
    secret, signature = (
        b"whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD",
        b"v1,K5oZfzN95Z9UVu1EsfQmfVNQhnkZ2pj9o9NDN/H/pI4=",
    )
    said = b"not " + signature + b" by " + secret + b", v1, v2"
    assert deliver(answer(400, said))[0].error == "400 Bad Request: not <secret> by <secret>, v1, v2"


@pytest.mark.parametrize(
    ("raw", "error"),
    [
        (b"", "closed the connection without an answer"),
        (b"\x00\xff garbage\r\n\r\n", "not valid HTTP"),
        (b"SSH-2.0-OpenSSH_9.6\r\n", "not valid HTTP"),
        (b"HTTP/1.1 200 OK\r\n" + b"a: b\r\n" * 1_000 + b"\r\n", "not valid HTTP"),
        (b"HTTP/1.1 200 OK\r\na: " + b"b" * 100_000 + b"\r\n\r\n", "not valid HTTP"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: x\r\n\r\n", "not valid HTTP"),
    ],
)
def test_an_invalid_http_response_is_a_failed_attempt(raw, error):
    outcome, _ = deliver(raw, time_limit=60)
    assert error in outcome.error


@pytest.mark.parametrize(
    "head", [b"HTTP/1.1 200 OK\r\n\r\n", b"HTTP/1.1 500 No\r\ncontent-length: 99999999999\r\n\r\n"]
)
def test_an_endless_body_is_not_read_to_its_end(head):
    outcome, receiver = deliver(head, endless=b"x" * 65_536, time_limit=60)
    assert (outcome.error is None) == (b"200" in head)
    assert len(receiver.requests) == 1


def test_a_slow_answer_is_a_failed_attempt_after_the_time_limit():
    outcome, _ = deliver(b"HTTP/1.1 200 OK\r\n", time_limit=0.2)
    assert outcome.error == "no answer in 0.2 s"
    # Neither an endless header nor repeated 102 responses complete an answer.
    outcome, _ = deliver(b"HTTP/1.1 200 OK\r\na:", endless=b"a" * 1_000, time_limit=0.2)
    assert outcome.error
    outcome, _ = deliver(b"", endless=b"HTTP/1.1 102 Wait\r\n\r\n", time_limit=0.2)
    assert outcome.error


def test_a_connection_is_reused_only_after_a_short_answer():
    async def main():
        async with (
            receiving(answer(200, b"ok")) as short,
            receiving(answer(200, b"x" * 4_000_000)) as long,
            delivering(short.url) as to_short,
            delivering(long.url) as to_long,
        ):
            for _ in range(3):
                assert (await to_short.deliver(EVENT, 1)).error is None
                assert (await to_long.deliver(EVENT, 1)).error is None
            return short.connections, long.connections

    assert asyncio.run(main()) == (1, 3)


def test_the_error_without_a_connection_has_the_reason():
    async def main():
        with socket.socket() as bound:  # and does not listen, so the port refuses connections
            bound.bind(("127.0.0.1", 0))
            url = f"http://127.0.0.1:{bound.getsockname()[1]}/secret-path"
            async with delivering(url) as delivery:
                return await delivery.deliver(EVENT, 1)

    outcome = asyncio.run(main())
    assert outcome.error.startswith("no connection: ")
    assert "secret-path" not in outcome.error


def resolve(monkeypatch, *answers):
    """Make names resolve to each of these lists of addresses in turn."""
    answers = list(answers)

    def getaddrinfo(host, port, *args, **options):
        addresses = answers.pop(0) if len(answers) > 1 else answers[0]
        return [
            (socket.AF_INET6 if ":" in each else socket.AF_INET, socket.SOCK_STREAM, 6, "", (each, port))
            for each in addresses
        ]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)


@pytest.mark.parametrize(
    ("addresses", "allow_private"),
    [
        (["127.0.0.1"], False),
        (["10.0.0.1", "127.0.0.1"], False),
        (["169.254.169.254", "127.0.0.1"], False),
        (["203.0.113.1", "::1"], False),
        (["169.254.169.254"], True),
        (["0.0.0.0", "::"], True),  # noqa: S104
    ],
)
def test_a_name_that_resolves_to_a_private_address_is_refused(monkeypatch, addresses, allow_private):
    resolve(monkeypatch, addresses)

    async def main():
        async with receiving(answer()) as receiver:
            url = f"https://hooks.example:{receiver.port}/"
            async with delivering(url, allow_private=allow_private) as delivery:
                return await delivery.deliver(EVENT, 1), receiver.connections

    outcome, connections = asyncio.run(main())
    assert connections == 0
    assert outcome.error.startswith("no connection: ")
    assert "address" in outcome.error or "metadata" in outcome.error


def test_the_address_of_a_name_is_checked_at_each_connection(monkeypatch):
    """DNS rebinding: the first address is public and passes a check, the second one is private."""
    resolve(monkeypatch, ["127.0.0.1"], ["169.254.169.254"])

    async def main():
        async with receiving(answer()) as receiver:
            outcomes = []
            for _ in range(2):
                async with delivering(f"http://hooks.example:{receiver.port}/") as delivery:
                    outcomes.append(await delivery.deliver(EVENT, 1))
            return outcomes, len(receiver.requests)

    (first, second), requests = asyncio.run(main())
    assert first.error is None
    assert "metadata" in second.error
    assert requests == 1


def test_http_to_a_public_address_is_refused_even_if_its_name_looks_private(monkeypatch):
    resolve(monkeypatch, ["93.184.216.34"])

    async def main():
        async with delivering("http://app/") as delivery:
            return await delivery.deliver(EVENT, 1)

    assert (
        asyncio.run(main()).error == "no connection: 93.184.216.34 is a public address, which requires https"
    )


_TRUSTING = """
import asyncio, sys
sys.path[:0] = sys.argv[2:]
from test_webhook_delivery import EVENT, delivering
async def main():
    async with delivering(sys.argv[1]) as delivery:
        print((await delivery.deliver(EVENT, 1)).error)
asyncio.run(main())
"""


def test_an_untrusted_certificate_is_refused(certificate, request, monkeypatch):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    # OpenSSL reads the variable once per process, so the test starts a process.
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))

    async def main():
        async with receiving(answer(), ssl=context) as receiver:
            url = receiver.url.replace("http:", "https:")
            async with delivering(url) as delivery:
                refused = await delivery.deliver(EVENT, 1)
            arguments = [sys.executable, "-c", _TRUSTING, url, *map(str, request.path.parents[:2])]
            told = await asyncio.to_thread(
                subprocess.run, arguments, capture_output=True, text=True, check=False
            )
            return refused, told, len(receiver.requests)

    refused, told, requests = asyncio.run(main())
    assert refused.error.startswith("the certificate was not accepted: ")
    assert (told.stdout, requests) == ("None\n", 1), told.stderr


def test_events_are_sent_concurrently_up_to_the_limit():
    async def main():
        async with receiving(answer()) as receiver, delivering(receiver.url, concurrency=8) as delivery:
            events = [replace(EVENT, number=number) for number in range(100)]
            outcomes = await asyncio.gather(*(delivery.deliver(event, 1) for event in events))
            return outcomes, receiver.connections, len(receiver.requests)

    outcomes, connections, requests = asyncio.run(main())
    assert not any(each.error for each in outcomes)
    assert requests == 100
    assert 1 < connections <= 8


def test_errors_and_logs_contain_no_secret(caplog):
    caplog.set_level(logging.DEBUG)
    outcome, receiver = deliver(answer(500, b"signature wrong"))
    signature = receiver.requests[0].headers["webhook-signature"]
    for each in (SECRET.text, SECRET.text[6:], signature, "hidden"):
        assert each not in f"{outcome!r} {caplog.text}"
