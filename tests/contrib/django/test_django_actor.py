"""The actor of a request, looked up when an event is recorded."""

from __future__ import annotations

import logging
from contextlib import contextmanager
from uuid import uuid4

import pytest
from django.db import connection
from django_site import described

from usersync.contrib.django import audit

pytestmark = pytest.mark.newest_server

ACTOR = "actor_id, actor_type, metadata"


@contextmanager
def counted():
    """The queries of this thread on the default database."""
    queries = []

    def note(execute, sql, params, many, context):
        queries.append(sql)
        return execute(sql, params, many, context)

    with connection.execute_wrapper(note):
        yield queries


@pytest.fixture
def ada(site):
    return site.user("ada")


@pytest.mark.parametrize(
    ("how", "view"), [("wsgi", "record"), ("asgi", "record"), ("wsgi", "record_in_a_thread")]
)
def test_the_actor_is_the_user_of_the_session(site, ada, how, view):
    site.get(how, view, cookie=site.cookie(ada))
    assert site.events(ACTOR) == [(str(ada.pk), "user", {})]


def test_the_user_is_not_loaded_if_nothing_is_recorded(site, ada):
    cookie = site.cookie(ada)
    with counted() as queries:
        answer = site.wsgi("nothing", cookie=cookie)
    assert (queries, "Vary" in answer.headers) == ([], False)


def test_the_user_is_loaded_once_and_the_response_varies_by_cookie(site, ada):
    cookie = site.cookie(ada)
    with counted() as queries:
        answer = site.wsgi("record_twice", cookie=cookie)
    assert len(queries) == 2
    assert answer.headers["Vary"] == "Cookie"


@pytest.mark.parametrize("how", ["wsgi", "asgi"])
@pytest.mark.parametrize("cookie", ["", "sessionid=gone", "sessionid=\x00", "other=1"])
def test_a_request_without_a_user_has_no_actor(site, how, cookie):
    site.get(how, "record", cookie=cookie)
    assert site.events("actor_id, actor_type, user_id") == [(None, "anonymous", None)]


def test_in_an_async_view_a_loaded_user_is_the_actor(site, ada):
    site.asgi("load_and_record", cookie=site.cookie(ada))
    assert site.events(ACTOR) == [(str(ada.pk), "user", {})]


def test_in_an_async_view_without_a_loaded_user_the_event_has_the_reason(site, ada):
    site.asgi("record_async", cookie=site.cookie(ada))
    site.asgi("record_async")
    assert site.events(ACTOR) == [
        (None, "anonymous", {"actor_unreadable": "SynchronousOnlyOperation"}),
        (None, "anonymous", {}),
    ]


def test_signing_in_and_out_changes_the_actor(site, ada):
    assert site.wsgi(f"sign_in_and_out?name={ada.username}").status == 200
    assert site.events("action, actor_id") == [
        ("step.before", None),
        ("step.signed_in", str(ada.pk)),
        ("step.signed_out", None),
    ]


def test_a_user_set_by_the_view_is_the_actor(site):
    site.wsgi("record_of_another_user")
    assert site.events(ACTOR) == [("77", "user", {})]


def test_the_actor_is_found_in_an_atomic_block(site, ada):
    assert site.wsgi("record_in_an_atomic_block", cookie=site.cookie(ada)).body == b"True"
    assert site.events(ACTOR) == [(str(ada.pk), "user", {})]


def test_a_failure_to_load_the_user_does_not_abort_the_transaction(site, ada):
    cookie = site.cookie(ada)
    site.owner.execute("alter table django_session rename to gone")
    assert site.wsgi("record_in_an_atomic_block", cookie=cookie).body == b"True"
    ((actor_id, _, metadata),) = site.events(ACTOR)
    assert (actor_id, metadata) == (None, {"actor_unreadable": "ProgrammingError"})
    assert site.owner.execute("select username from auth_user order by 1").fetchall() == [("ada",), ("made",)]


def test_in_a_failed_transaction_the_event_has_no_actor(site, ada):
    assert site.wsgi("record_in_a_failed_block", cookie=site.cookie(ada)).body == b"failed"
    ((actor_id, _, metadata),) = site.events(ACTOR)
    assert actor_id is None
    assert metadata["actor_unreadable"]


@pytest.mark.slow
def test_while_the_database_is_unavailable_the_event_has_no_actor(site, ada, use):
    cookie = site.cookie(ada)
    use(default=described(site.database, HOST="127.0.0.1", PORT="1"))
    assert site.wsgi("record", cookie=cookie).status == 200
    assert audit.stats().spooled == 1


def by_header(request):
    return request.META.get("HTTP_X_SERVICE")


def failing(request):
    raise LookupError("nobody")


@pytest.mark.parametrize(
    ("actor", "expected"),
    [
        (by_header, ("cron", "user", {})),
        (f"{__name__}.by_header", ("cron", "user", {})),
        (
            lambda _: {"actor_id": 5, "actor_type": "service", "metadata": {"shift": 2}},
            ("5", "service", {"shift": 2}),
        ),
        (lambda _: {"actor_type": "anonymous"}, (None, "anonymous", {})),
        (failing, (None, "anonymous", {"actor_unreadable": "LookupError"})),
    ],
)
def test_a_function_of_the_project_gives_the_actor(site, configure, actor, expected):
    configure(ACTOR=actor)
    site.wsgi("record", x_service="cron")
    assert site.events(ACTOR) == [expected]


@pytest.fixture
def tokens(site, configure, auth_server):
    configure(TOKENS={"url": auth_server.url})
    return auth_server


WAYS = [("wsgi", "whose_token"), ("asgi", "whose_token"), ("asgi", "whose_token_async")]


@pytest.mark.parametrize(("how", "view"), WAYS)
def test_the_user_of_a_token_takes_precedence_over_the_session(site, ada, tokens, how, view):
    user_id = uuid4()
    bearer = f"Bearer {tokens.token(user_id)}"
    answer = site.get(how, view, authorization=bearer, cookie=site.cookie(ada))
    assert answer.body.decode() == str(user_id)
    assert site.events("actor_id, actor_type") == [(str(user_id), "user")]


@pytest.mark.parametrize(("how", "view"), WAYS)
@pytest.mark.parametrize("kind", ["expired", "none", "garbage", "basic", "nothing", "other's"])
def test_an_invalid_token_gives_no_user(site, tokens, how, view, kind):
    headers = {
        "expired": {"authorization": f"Bearer {tokens.token(exp=1)}"},
        "none": {"authorization": "Bearer"},
        "garbage": {"authorization": "Bearer \x00\xff.a.b"},
        "basic": {"authorization": "Basic YTpi"},
        "nothing": {},
        "other's": {"authorization": f"Bearer {tokens.token(iss='https://other.example/auth/v1')}"},
    }[kind]
    answer = site.get(how, view, **headers)
    assert (answer.status, answer.body) == (200, b"None")
    assert site.events("actor_id, actor_type") == [(None, "anonymous")]


def test_while_tokens_cannot_be_checked_there_is_no_user_and_a_warning(site, tokens, caplog):
    token = tokens.token()
    tokens.answer = (500, "text/html", b"<html>")
    with caplog.at_level(logging.WARNING, "usersync.django"):
        assert site.wsgi("whose_token", authorization=f"Bearer {token}").body == b"None"
    assert [each.levelname for each in caplog.records if each.name == "usersync.django"] == ["WARNING"]
    assert token not in caplog.text
