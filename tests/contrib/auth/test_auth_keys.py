"""Fetching the auth server's keys: how often, and how tokens are checked during an outage."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress

import pytest
from auth_server import AuthServer, Key
from hypothesis import given
from hypothesis import strategies as st

from usersync.contrib.auth import AsyncTokenVerifier, InvalidTokenError, KeysUnavailableError, TokenVerifier
from usersync.contrib.auth import keys as keys_module
from usersync.errors import SettingsError


@pytest.fixture
def clock(monkeypatch):
    """The clock of the key cache. ``clock.now += 60`` advances it by a minute."""

    class Clock:
        now = 1000.0

        def monotonic(self) -> float:
            return self.now

    clock = Clock()
    monkeypatch.setattr(keys_module, "time", clock)
    return clock


@pytest.fixture
def held(monkeypatch):
    """A fetch of the keys that has started, and continues when the test releases it."""

    class Held:
        begun, go = threading.Event(), threading.Event()

    download = keys_module._download

    def wait_and_download(url):
        Held.begun.set()
        assert Held.go.wait(90)
        return download(url)

    monkeypatch.setattr(keys_module, "_download", wait_and_download)
    return Held


def settled(verifier) -> None:
    """Wait until a fetch in the background is done."""
    fetch = verifier._keys._fetch
    assert fetch is not None
    fetch.result(90)


def test_keys_are_fetched_once(auth_server, verify):
    assert auth_server.requests == 0
    for _ in range(20):
        verify(auth_server.token())
    assert auth_server.requests == 1


def test_concurrent_first_requests_fetch_once(auth_server):
    blocking, asyncio_ = TokenVerifier(auth_server.url), AsyncTokenVerifier(auth_server.url)
    token = auth_server.token()
    with ThreadPoolExecutor(16) as pool:
        users = list(pool.map(blocking.verify, [token] * 64))
    assert auth_server.requests == 1

    async def crowd():
        return await asyncio.gather(*(asyncio_.verify(token) for _ in range(500)))

    users += asyncio.run(crowd())
    assert auth_server.requests == 2
    assert len({user.id for user in users}) == 1


def test_a_new_key_is_fetched_and_accepted(auth_server, clock):
    verifier = TokenVerifier(auth_server.url)
    verifier.verify(auth_server.token())
    old = auth_server.key
    auth_server.rotate()
    clock.now += keys_module.PAUSE_S
    verifier.verify(auth_server.token())
    verifier.verify(auth_server.token(key=old))
    assert auth_server.requests == 2


def test_a_revoked_key_is_no_longer_accepted(auth_server, clock):
    verifier = TokenVerifier(auth_server.url)
    stolen = auth_server.token()
    verifier.verify(stolen)
    auth_server.key = Key()
    auth_server.published = [auth_server.key.public]
    clock.now += keys_module.FRESH_S + 1
    verifier.verify(stolen)  # accepted with the cached keys; this starts a fetch in the background
    settled(verifier)
    with pytest.raises(InvalidTokenError, match="does not publish"):
        verifier.verify(stolen)
    assert auth_server.requests == 2


def test_tokens_with_unknown_keys_do_not_flood_the_auth_server(auth_server, clock):
    verifier = TokenVerifier(auth_server.url)
    verifier.verify(auth_server.token())
    forged = [auth_server.token(key=Key()) for _ in range(20)]

    def try_it(token) -> str:
        with pytest.raises(InvalidTokenError) as caught:
            verifier.verify(token)
        return str(caught.value)

    with ThreadPoolExecutor(8) as pool:
        assert all("does not publish" in each for each in pool.map(try_it, forged * 20))
    assert auth_server.requests == 1
    clock.now += keys_module.PAUSE_S
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(try_it, forged * 20))
    assert auth_server.requests == 2
    verifier.verify(auth_server.token())


def test_tokens_do_not_flood_a_failing_auth_server(auth_server, clock):
    auth_server.answer = (500, "text/plain", b"no")
    verifier = TokenVerifier(auth_server.url)

    def try_it(_: int) -> None:
        with pytest.raises(KeysUnavailableError):
            verifier.verify(auth_server.token())

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(try_it, range(400)))
    assert auth_server.requests == 1
    clock.now += keys_module.PAUSE_AFTER_FAILURE_S
    try_it(0)
    assert auth_server.requests == 2


def test_known_keys_are_used_during_an_outage_for_a_limited_time(auth_server, clock):
    verifier = TokenVerifier(auth_server.url)
    verifier.verify(auth_server.token())
    auth_server.answer = (503, "text/html", b"<html>down</html>")
    clock.now += keys_module.USABLE_S
    verifier.verify(auth_server.token())
    settled(verifier)
    verifier.verify(auth_server.token())
    clock.now += 60
    with pytest.raises(KeysUnavailableError, match="HTTP 503"):
        verifier.verify(auth_server.token())
    auth_server.answer = (200, "application/json", b"")
    clock.now += keys_module.PAUSE_AFTER_FAILURE_S
    verifier.verify(auth_server.token())


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ((500, "text/plain", b"no"), "HTTP 500"),
        ((404, "text/plain", b"no"), "HTTP 404"),
        ((301, "text/plain", b"no"), "HTTP 301"),
        ((200, "text/html", b"<html><body>Sign in to the Wi-Fi</body></html>"), "not a JSON Web Key Set"),
        ((200, "application/json", b"[]"), "not a JSON Web Key Set"),
        ((200, "application/json", b'{"keys": 7}'), "not a JSON Web Key Set"),
        ((200, "application/json", b'"' + b"x" * (300 << 10) + b'"'), "larger than 256 KiB"),
        ((200, "application/json", b"[" * 100_000), "not a JSON Web Key Set"),
        ((200, "application/json", b"\xff\xfe\x00"), "not a JSON Web Key Set"),
    ],
    ids=range(9),
)
def test_an_invalid_answer_of_the_auth_server_is_reported(auth_server, verify, answer, words):
    auth_server.answer = answer
    with pytest.raises(KeysUnavailableError, match=words) as caught:
        verify(auth_server.token())
    assert auth_server.url in str(caught.value)
    assert auth_server.requests == 1


def test_an_unreachable_auth_server_is_reported(make_verifier):
    with AuthServer() as gone:
        token = gone.token()
    with pytest.raises(KeysUnavailableError, match="refused"):
        make_verifier(url=gone.url)(token)


ENDLESS = {
    "body": [b"HTTP/1.1 200 OK\r\nContent-Length: 200000\r\n\r\n", b" "],
    "headers": [b"HTTP/1.1 200 OK\r\n", b"X-More: of this\r\n"],
}


@pytest.mark.parametrize("part", ENDLESS)
def test_an_endless_answer_is_cut_off(auth_server, make_verifier, monkeypatch, part):
    """Each such fetch would occupy a thread and a connection, and another one would start soon."""
    monkeypatch.setattr(keys_module, "_ARRIVES_S", 0.1)
    gone = threading.Event()
    start, more = ENDLESS[part]

    def drip(listener):
        connection, _ = listener.accept()
        with connection, suppress(OSError):
            connection.sendall(start)
            while True:
                connection.sendall(more)
                gone.wait(0.01)
        gone.set()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=drip, args=(listener,), daemon=True)
        thread.start()
        verify = make_verifier(url=auth_server.url, jwks_url=f"http://127.0.0.1:{listener.getsockname()[1]}")
        with pytest.raises(KeysUnavailableError, match="took longer than"):
            verify(auth_server.token())
        assert gone.wait(90)


NAMES = st.sampled_from(["keys", "kty", "kid", "crv", "x", "y", "n", "e", "use", "alg"])
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(NAMES | st.text(max_size=4), inner, max_size=5)
    ),
)


@given(st.binary(max_size=2_000) | JSON.map(lambda value: json.dumps(value).encode()))
def test_any_answer_gives_keys_or_a_reason(content):
    try:
        found = keys_module._read_keys(content)
    except ValueError:
        found = {}
    assert all(isinstance(name, str) for name in found)


@pytest.mark.parametrize("url", ["http://project.example", "http://203.0.113.5:8000"])
def test_plain_http_is_refused_on_public_hosts(url):
    with pytest.raises(SettingsError, match="begins with http://"):
        TokenVerifier(url)
    TokenVerifier(url, insecure_http=True)
    with pytest.raises(SettingsError, match="jwks_url: begins with http://"):
        TokenVerifier(issuer="x", jwks_url=f"{url}/keys")
    TokenVerifier(url, jwks_url="https://project.example/keys")


@pytest.mark.parametrize(
    "url",
    ["http://kong:8000", "http://host.docker.internal:54321", "http://10.1.2.3", "http://[fd00::1]:8000"],
)
def test_plain_http_in_a_private_network_is_a_warning(url, caplog):
    TokenVerifier(url)
    assert "not encrypted" in caplog.text


@pytest.mark.parametrize(
    "url", ["http://localhost:54321", "http://127.0.0.1:1", "http://[::1]:1", "https://a.example"]
)
def test_this_machine_and_tls_need_no_warning(url, caplog):
    TokenVerifier(url)
    assert not caplog.records


def test_unreadable_keys_do_not_affect_others(auth_server, verify):
    good = auth_server.published
    bad = [
        None,
        7,
        "x",
        [],
        {},
        {"kty": []},
        {"kty": "EC", "kid": "a"},
        {"kty": "EC", "crv": "P-256", "x": "!"},
    ]
    auth_server.published = [*bad, *good, {"kty": "RSA", "kid": "b", "n": "AQAB", "e": "AQAB"}]
    verify(auth_server.token())


def test_a_project_without_key_pairs_has_no_keys(auth_server, verify):
    auth_server.published = []
    with pytest.raises(InvalidTokenError, match="does not publish"):
        verify(auth_server.token())


def test_a_key_of_another_use_is_not_used(auth_server, verify):
    auth_server.key.public["use"] = "enc"
    with pytest.raises(InvalidTokenError, match="does not publish"):
        verify(auth_server.token())


def test_fetching_keys_does_not_block_the_event_loop(auth_server, held):
    """The auth server answers only after the event loop has run other tasks."""
    verifier = AsyncTokenVerifier(auth_server.url)

    async def main():
        waiting = asyncio.create_task(verifier.verify(auth_server.token()))
        assert await asyncio.to_thread(held.begun.wait, 90)
        assert not waiting.done()
        held.go.set()
        assert (await waiting).role == "authenticated"

    asyncio.run(main())


@pytest.mark.parametrize("flavour", ["blocking", "asyncio"])
def test_waiting_for_a_hanging_auth_server_is_limited(auth_server, monkeypatch, flavour):
    monkeypatch.setattr("usersync.contrib.auth.verifier.WAIT_S", 0.05)
    auth_server.answer = None
    token = auth_server.token()
    verifier = (
        TokenVerifier(auth_server.url) if flavour == "blocking" else AsyncTokenVerifier(auth_server.url)
    )
    with pytest.raises(KeysUnavailableError, match="no answer in time"):
        asyncio.run(verifier.verify(token)) if flavour == "asyncio" else verifier.verify(token)


def test_a_cancelled_caller_does_not_cancel_the_fetch(auth_server, held):
    verifier, token = AsyncTokenVerifier(auth_server.url), auth_server.token()

    async def main():
        first, *others = [asyncio.create_task(verifier.verify(token)) for _ in range(6)]
        assert await asyncio.to_thread(held.begun.wait, 90)
        first.cancel()
        await asyncio.wait([first])
        assert first.cancelled()
        held.go.set()
        assert len(await asyncio.gather(*others)) == 5

    asyncio.run(main())
    assert auth_server.requests == 1


def test_a_lost_fetch_is_started_again(auth_server, clock):
    """This happens in a forked child, which does not have the parent's thread."""
    verifier = TokenVerifier(auth_server.url)
    verifier._keys._begun_at, verifier._keys._fetch = clock.now, Future()
    clock.now += keys_module._LOST_S
    verifier.verify(auth_server.token())
