"""Valid and invalid keys and URLs. A key is never shown in an error, a log or a pickle."""

from __future__ import annotations

import asyncio
import copy
import io
import logging
import pickle
import time
import traceback
import uuid

import pytest
from misbehaving_server import answering
from rich.console import Console
from rich.traceback import Traceback

from postgrest_server import SECRET_KEY, SERVICE_KEY, mint
from usersync import AsyncUserSync, AuditLog, DataApi, UserSync
from usersync.errors import ApiKeyError, ConnectionFailedError, SettingsError, UsersyncError

PROJECT, OTHER = "abcdefghijklmnopqrst", "zyxwvutsrqponmlkjihg"
URL = f"https://{PROJECT}.supabase.co"
USER_ID = uuid.UUID(int=7)


def service(**claims):
    return mint(**{"role": "service_role", "ref": PROJECT, **claims})


def shown(error: BaseException) -> str:
    """The text of an error, its traceback, and the variables of each frame."""
    frames = error.__traceback__
    while frames and "/tests/" in frames.tb_frame.f_code.co_filename:
        frames = frames.tb_next
    error = error.with_traceback(frames)
    console = Console(file=io.StringIO(), width=400, force_terminal=False)
    console.print(
        Traceback.from_exception(
            type(error),
            error,
            error.__traceback__,
            show_locals=True,
            locals_max_string=None,
            locals_max_length=None,
        )
    )
    texts = [repr(error), str(error), str(getattr(error, "hint", "")), *traceback.format_exception(error)]
    return "".join(texts) + console.file.getvalue()


@pytest.mark.parametrize(
    ("key", "reason"),
    [
        ("", "is empty"),
        ("  \n", "is empty"),
        (None, "is empty"),
        ("sb_publishable_ACJWlzQHlZjBrEguHvfOxg_3BJgxAaH", "publishable key"),
        ("sbp_0102030405060708090001020304050607080900", "management API"),
        ("postgresql://postgres:pass@db/postgres", "connection string"),
        ("https://abc.supabase.co", "is a URL"),
        ("your-service-role-key", "placeholder"),
        ("<service_role key>", "placeholder"),
        ("sb_secret_", "cut off"),
        ("sb_secret_abc\ndef_ghijklmnop", "characters that no key has"),
        ("sb_secret_ключ_ghijklmnop", "characters that no key has"),
        ("x" * 20_000, "too long for a key"),
        ("hunter2hunter2", "neither"),
        ("eyJhbGciOiJub25lIn0.e30", "neither"),
        ("a.!!!!.c", "characters"),
        ("a.bm90anNvbg.c", "neither"),
        ("a.W10.c", "neither"),
        (mint(role="anon", ref=PROJECT), "anon key"),
        (mint(role="authenticated", sub=str(USER_ID)), "signed-in user"),
        (mint(role="service_role", sub=str(USER_ID)), "signed-in user"),
        (mint(role="postgres"), "other than service_role"),
        (mint(), "other than service_role"),
        (service(ref=OTHER), f"another project ({OTHER}), and the URL is that of {PROJECT}"),
        (service(exp=int(time.time()) - 10), "it expired on 20"),
        (service(exp=-1e300), "expired long ago"),
    ],
)
def test_an_invalid_key_is_refused_with_the_reason(key, reason):
    with pytest.raises(ApiKeyError) as caught:
        DataApi(URL, key)
    assert reason in str(caught.value)
    assert caught.value.hint
    if key and len(key) > 12:
        assert key not in shown(caught.value)


@pytest.mark.parametrize(
    "key", [SECRET_KEY, f" {SECRET_KEY}\n", service(), service(ref=None), service(exp=None)]
)
def test_secret_keys_and_service_role_keys_are_accepted(key):
    assert DataApi(URL, key).project == PROJECT


def test_a_secret_key_is_not_sent_as_a_bearer_token():
    assert DataApi(URL, SECRET_KEY).headers() == {"apikey": SECRET_KEY}
    key = service()
    assert DataApi(URL, key).headers() == {"apikey": key, "authorization": f"Bearer {key}"}


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("", "is empty"),
        (None, "is empty"),
        ("abc.supabase.co", "https://"),
        ("postgresql://u:p@h/d", "connection string"),
        ("ftp://abc.supabase.co", "https://"),
        ("http://abc.supabase.co", "send the key unencrypted"),
        ("http://203.0.113.7:8000", "send the key unencrypted"),
        ("http://localhost.evil.example", "send the key unencrypted"),
        ("https://user:pass@abc.supabase.co", "user"),
        ("https://", "has no host"),
        ("https://abc.supabase.co:port", "cannot be read"),
        ("https://[::1", "cannot be read"),
        ("https://abc.supabase.co/?apikey=x", "more than a host and a path"),
        ("https://abc.supabase.co/rest v1", "more than a host and a path"),
        ("https://supabase.com/dashboard/project/abcdefghijklmnopqrst", "the dashboard"),
        ("https://exämple.com", "characters"),
    ],
)
def test_an_invalid_url_is_refused_with_the_reason(url, reason):
    with pytest.raises(ApiKeyError) as caught:
        DataApi(url, SECRET_KEY)
    assert reason in str(caught.value)
    assert ("unencrypted" in reason) == ("the commands have no such option" in (caught.value.hint or ""))
    assert SECRET_KEY not in shown(caught.value)


@pytest.mark.parametrize(
    ("url", "taken"),
    [
        (f"{URL}/", URL),
        (f" {URL}/rest/v1/ ", URL),
        (f"{URL}/auth/v1", URL),
        ("https://ABC.example.com:8443/supabase/", "https://abc.example.com:8443/supabase"),
        ("http://localhost:54321", "http://localhost:54321"),
        ("http://kong:8000", "http://kong:8000"),
        ("http://192.168.1.7:8000", "http://192.168.1.7:8000"),
        ("http://127.0.0.1:54321/rest/v1", "http://127.0.0.1:54321"),
        ("http://[::1]:54321", "http://[::1]:54321"),
    ],
)
def test_pasted_urls_are_normalized(url, taken):
    assert DataApi(url, SECRET_KEY).url == taken


def test_objects_with_a_key_do_not_show_or_pickle_it():
    api = DataApi(URL, SECRET_KEY)
    with UserSync(api) as sync, AuditLog(api, durability="memory") as log:
        holders = [api, sync, log, {"api": api}, [api], sync._transport]
        console = Console(file=io.StringIO(), width=400)
        for each in holders:
            console.print(each)
            console.print(vars(each) if hasattr(each, "__dict__") else each)
            assert SECRET_KEY not in f"{each!r}{each}"
        assert SECRET_KEY not in console.file.getvalue()
    with pytest.raises(TypeError, match="cannot be pickled"):
        pickle.dumps(api)
    assert SECRET_KEY not in f"{copy.copy(api)!r}{copy.deepcopy(api)!r}"


ANSWERS_WITH_THE_KEY = {
    "in the body": answering("401 Unauthorized", f'{{"message": "Invalid key {SECRET_KEY}"}}'.encode()),
    "as a page": answering("500 Oh", f"<title>{SECRET_KEY}</title>".encode()),
    "in a header": answering("302 Found", Location=f"https://{SECRET_KEY}/"),
    "cut off": answering("200 OK", b"[", length=500),
    "not at all": answering("200 OK", b"{}"),
    "as nonsense": lambda connection, _: connection.sendall(SECRET_KEY.encode() + b"\r\n\r\n"),
    "by silence": lambda connection, _: connection.recv(1),
}


@pytest.mark.parametrize("how", ANSWERS_WITH_THE_KEY)
def test_no_error_log_or_frame_shows_the_key(misbehaving, ask, caplog, how):
    """The server repeats the key in its answer, and all loggers of the libraries are at level DEBUG."""
    for name in ("", "httpx", "httpcore", "asyncio", "usersync"):
        caplog.set_level(logging.DEBUG, name)
    timeout = 0.6 if how == "by silence" else 60.0
    api = DataApi(misbehaving(ANSWERS_WITH_THE_KEY[how]).url, SECRET_KEY, timeout=timeout)
    with pytest.raises(UsersyncError) as caught:
        ask(api, "status")
    assert SECRET_KEY not in shown(caught.value)
    # httpcore's debug log quotes responses literally, and this server's response contains the key.
    said = [record.getMessage() for record in caplog.records]
    assert SECRET_KEY not in "".join(each for each in said if "receive_response_headers." not in each)
    assert caught.value.__context__ is None or caught.value.__suppress_context__


def test_a_cancelled_call_shows_no_key(misbehaving):
    api = DataApi(misbehaving(lambda connection, _: connection.recv(1)).url, SECRET_KEY)

    async def call():
        async with AsyncUserSync(api) as client, asyncio.timeout(0.1):
            await client.status()

    with pytest.raises(TimeoutError) as caught:
        asyncio.run(call())
    assert SECRET_KEY not in shown(caught.value)


def test_the_error_for_an_unusable_proxy_hides_its_password(monkeypatch):
    monkeypatch.setenv("HTTPS_PROXY", "gopher://user:hunter2@proxy:1")
    with pytest.raises(SettingsError) as caught, UserSync(DataApi(URL, SECRET_KEY)) as sync:
        sync.status()
    assert "hunter2" not in shown(caught.value)
    assert SECRET_KEY not in shown(caught.value)


@pytest.fixture
def proxy(misbehaving, monkeypatch):
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    proxy = misbehaving(answering("502 Bad Gateway"))
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, proxy.url)
    return proxy


def test_a_proxy_from_the_environment_is_used_and_gets_no_key(proxy):
    with (
        pytest.raises(ConnectionFailedError, match="the proxy: 502"),
        UserSync(DataApi(URL, SECRET_KEY)) as sync,
    ):
        sync.status()
    assert proxy.requests[0].startswith(f"CONNECT {URL.removeprefix('https://')}:443 ".encode())
    assert SECRET_KEY.encode() not in b"".join(proxy.requests)


@pytest.mark.parametrize("status", ["503 Service Unavailable", "407 Proxy Authentication Required"])
def test_a_request_that_a_proxy_temporarily_refuses_is_retried(proxy, misbehaving, monkeypatch, ask, status):
    """A restarting proxy answers 503. A proxy that cannot reach its user directory answers 407."""
    refusing = misbehaving(answering(status))
    monkeypatch.setenv("HTTPS_PROXY", refusing.url)
    with pytest.raises(ConnectionFailedError, match=f"the proxy: {status[:3]}"):
        ask(DataApi(URL, SECRET_KEY), "status")
    assert len(refusing.requests) == 4


def test_a_server_on_this_machine_is_called_without_a_proxy(proxy, misbehaving, ask):
    """A proxy would get the key unencrypted, and its localhost is another machine."""
    api = DataApi(misbehaving(answering("200 OK", b"true")).url, SERVICE_KEY)
    assert ask(api, "ensure_user_exists", USER_ID) is True
    assert proxy.requests == []
