"""Invalid, slow and missing answers: the client reports each of them within its timeout."""

from __future__ import annotations

import gzip
import json
import re
import time
import uuid

import pytest
from misbehaving_server import answering, in_turn

from postgrest_server import SECRET_KEY
from usersync import DataApi, UserSync
from usersync.errors import (
    ApiKeyError,
    BusyError,
    ConnectionFailedError,
    DatabaseError,
    NeedsDatabaseError,
    NotInstalledError,
    PrivilegeMissingError,
    VersionMismatchError,
)

USER_ID = uuid.UUID(int=7)
TRUE = answering("200 OK", b"true")


def said(code, message="something", **more):
    return json.dumps(
        {"code": code, "message": message, "details": "Key (email)=(a@b.c)", "hint": None, **more}
    ).encode()


def hang(connection, _):
    while connection.recv(65536):
        pass


def drip(text: bytes):
    def behave(connection, _):
        for byte in text:
            connection.sendall(bytes([byte]))
            time.sleep(0.02)
        hang(connection, 0)

    return behave


def close(connection, _):
    pass


NO_ANSWER = "did not answer in time"


@pytest.mark.parametrize(
    ("behaviour", "says"),
    [
        (hang, NO_ANSWER),
        (drip(b"HTTP/1.1 200 OK\r\nX-Header: " + b"x" * 500), NO_ANSWER),
        (drip(b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n" + b"1" * 500), NO_ANSWER),
        (close, "disconnected"),
        (answering("200 OK", b'{"auth_users": 1', length=5000), "incomplete|without sending complete"),
        (answering("200 OK", b'{"auth_users": 1, "users": 1}', length=5), "not the answer of a Data API"),
        (answering("200 OK"), "HTTP 200 and nothing"),
        (answering("200 OK", b"[" * 200_000), "not the answer of a Data API"),
        (answering("200 OK", b"\xff\xfe\x00"), "not the answer of a Data API"),
        (answering("200 OK", b"<title>Sign in &amp; up</title>"), 'a web page, "Sign in & up"'),
        (answering("502 Bad Gateway", b"<html><center>nginx</center></html>"), "HTTP 502 and a web page"),
        (answering("503 Service Unavailable", said("PGRST002", "no schema cache")), "no schema cache"),
        (answering("504 Gateway Timeout", said("PGRST003", "no connection from the pool")), "from the pool"),
        (answering("500 Oh", said("57P03", "the database system is starting up")), "starting up.*57P03"),
        (answering("503 Full", said("53300", "too many clients")), "too many clients"),
        (answering("540 Paused", b"{}"), "HTTP 540"),
        (answering("404 Not Found", b"{}"), "HTTP 404"),
        (answering("301 Moved", Location="https://evil.example/?q=1"), "sends us on to evil.example"),
        (answering("307 Moved", Location="javascript:alert(1)"), "absolute URL"),
        (answering("200 OK", gzip.compress(b"0" * 50_000_000), Content_Encoding="gzip"), "is compressed"),
        (answering("200 OK", b"9" * (17 << 20)), "larger than 16 MiB"),
        (answering("HTTP/9 nonsense", b""), "no answer|HTTP"),
        (lambda connection, _: connection.sendall(b"SSH-2.0-OpenSSH_9.2\r\n"), "illegal|no answer"),
    ],
)  # fmt: skip
def test_an_invalid_reply_is_described_in_the_error_within_the_timeout(misbehaving, refusal, behaviour, says):
    # On a busy machine, an answer takes longer than a second.
    timeout = 1.0 if says == NO_ANSWER else 60.0
    started = time.monotonic()
    error = refusal(misbehaving(behaviour), timeout=timeout)
    # No shorter limit: a server that hangs does so for a hundred seconds.
    assert time.monotonic() - started < 90
    assert isinstance(error, ConnectionFailedError)
    assert re.search(says, str(error), re.DOTALL), str(error)
    assert error.hint
    assert len(str(error)) < 1000
    assert "a@b.c" not in str(error)


REFUSALS = {
    "PGRST202": (404, "Could not find the function public.usersync", NotInstalledError, "not installed"),
    "PGRST106": (
        406,
        "The schema must be one of: api",
        NeedsDatabaseError,
        "does not serve the schema public",
    ),
    "PGRST301": (401, "JWSError JWSInvalidSignature", ApiKeyError, "JWSInvalidSignature"),
    "PGRST203": (300, "Could not choose the best candidate", DatabaseError, "PGRST203"),
    "PGRST\x1b[31m" + "9" * 9000: (400, "no", DatabaseError, r"no \(PGRST \[31m9{1,300}\)"),
    "42501": (403, "permission denied for function usersync", PrivilegeMissingError, "permission denied"),
    "57014": (500, "canceling statement due to statement timeout", DatabaseError, "57014"),
    "55P03": (500, "lock not available", BusyError, "lock not available"),
    "US302": (400, "the installed usersync has no operation 'x'", VersionMismatchError, "no operation"),
    "P0001": (
        400,
        "no \x1b[31mred\x00 letters\n\nhere" + "x" * 5000,
        DatabaseError,
        r"no \[31mred letters here",
    ),
}


@pytest.mark.parametrize(
    ("behaviour", "kind", "says"),
    [
        *(
            (answering(f"{status} Status", said(code, message)), kind, says)
            for code, (status, message, kind, says) in REFUSALS.items()
        ),
        (answering("401 Unauthorized", b'{"message":"Invalid API key"}'), ApiKeyError, "Invalid API key"),
        (answering("403 Forbidden", b"<html><title>Access denied</title>"), ApiKeyError, "Access denied"),
    ],
)
def test_a_refusal_raises_a_usersync_error_and_is_not_retried(misbehaving, refusal, behaviour, kind, says):
    server = misbehaving(behaviour)
    error = refusal(server, "failures")
    assert type(error) is kind
    assert re.search(says, str(error)), str(error)
    assert "a@b.c" not in str(error)
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    "trouble",
    [
        close,
        answering("503 Busy", b"<html>"),
        answering("429 Slow down", b"{}", Retry_After="0"),
        answering("500 Oops", said("40001", "could not serialize")),
        answering("504 Late", said("PGRST003", "pool")),
        answering("522 Gone", b""),
        answering("200 OK", b"tru"),
        answering("200 OK", b"true", length=50),
    ],
)
def test_a_temporary_error_is_retried(misbehaving, ask, trouble):
    server = misbehaving(in_turn(trouble, trouble, TRUE))
    assert ask(DataApi(server.url, SECRET_KEY), "ensure_user_exists", USER_ID) is True
    # A client that keeps positions also requests the identity of the database.
    asked = [each for each in server.requests if b'"position"' not in each]
    assert len(asked) == 3
    assert len(set(asked)) == 1


@pytest.mark.slow
def test_an_attempt_without_an_answer_leaves_time_for_another(misbehaving, ask):
    server = misbehaving(in_turn(hang, TRUE))
    assert ask(DataApi(server.url, SECRET_KEY, timeout=9), "ensure_user_exists", USER_ID) is True


def test_a_call_fails_after_four_attempts(misbehaving, refusal):
    server = misbehaving(answering("503 Busy", b""))
    refusal(server)
    assert len(server.requests) == 4


@pytest.mark.parametrize("when", ["3600", "Wed, 21 Oct 2099 07:28:00 GMT"])
def test_a_retry_after_longer_than_the_timeout_raises_at_once(misbehaving, refusal, when):
    server = misbehaving(answering("429 Too Many Requests", b'{"message":"rate limit"}', Retry_After=when))
    error = refusal(server)
    assert "429" in str(error)
    assert "ask less often" in error.hint
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    "when", ["0", "-5", "soon", "Wed, 21 Oct 1999 07:28:00 GMT", "9" * 50, "Wed, 99 Zzz"]
)
def test_a_past_or_invalid_retry_after_is_ignored(misbehaving, ask, when):
    server = misbehaving(in_turn(answering("429 Too Many Requests", b"", Retry_After=when), TRUE))
    assert ask(DataApi(server.url, SECRET_KEY), "ensure_user_exists", USER_ID) is True


WRONG_ANSWERS = [
    b"null",
    b"{}",
    b"[]",
    b"7",
    b'"text"',
    b'{"known": "yes", "alive": 1}',
    b'[{"user_id": "x"}]',
    b"[null]",
    b"1e999",
    b"NaN",
]


@pytest.mark.parametrize(
    ("method", "wrong_answer"),
    [
        (method, wrong_answer)
        for method in (
            "ensure_user_exists",
            "sync_auth_user",
            "remove_user",
            "status",
            "failures",
            "retry",
            "reconcile",
        )
        for wrong_answer in WRONG_ANSWERS
        # An empty list is valid for failures(): the failures table may be empty.
        if (method, wrong_answer) not in {("failures", b"[]"), ("retry", b"[]")}
    ],
)
def test_an_answer_with_unexpected_json_raises(misbehaving, refusal, method, wrong_answer):
    arguments = [USER_ID] if method.endswith(("user", "exists")) else []
    error = refusal(misbehaving(answering("200 OK", wrong_answer)), method, *arguments)
    assert isinstance(error, ConnectionFailedError)


@pytest.mark.parametrize("dry_run", [False, True])
def test_a_run_whose_pages_never_end_raises(misbehaving, dry_run):
    counts = dict.fromkeys(
        ("examined", "missing", "stale", "orphaned", "deleted_upstream", "degraded", "failed"), 1
    )
    page = counts | {"auth_users": 1, "users": 1, "skipped": 1, "next_id": str(USER_ID)}
    run = counts | {"run_id": str(USER_ID), "part": 1, "state": "running", "page_size": 1}
    always = json.dumps(page | run).encode()
    api = DataApi(misbehaving(answering("200 OK", always)).url, SECRET_KEY)
    with UserSync(api) as sync, pytest.raises(ConnectionFailedError, match="not what usersync's function"):
        sync.reconcile(dry_run=dry_run)


def test_pages_of_failures_that_never_end_raise(misbehaving, refusal):
    ids = json.dumps([str(USER_ID)] * 500).encode()
    assert isinstance(refusal(misbehaving(answering("200 OK", ids)), "retry"), ConnectionFailedError)
