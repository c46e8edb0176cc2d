"""The audit log's routers for FastAPI and Flask: the same answers, and only for callers that are allowed."""

# No `annotations` future import: FastAPI reads the annotations.

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any
from urllib.parse import urljoin
from uuid import uuid4

import pytest
from fastapi import Depends, FastAPI, HTTPException
from fastapi.testclient import TestClient
from flask import Flask, abort
from flask import request as flask_request
from starlette.requests import Request

from usersync import AuditLog
from usersync.contrib.fastapi import CurrentUser, audit_router, lifespan
from usersync.contrib.flask import FlaskUserSync, audit_blueprint
from usersync.errors import SettingsError

pytestmark = pytest.mark.newest_server

ADMIN = {"Authorization": "Bearer admin"}


@dataclass(frozen=True)
class Answer:
    status: int
    headers: dict[str, str]
    body: Any


Get = Callable[..., Answer]


@pytest.fixture
def serve(audit) -> Iterator[Callable[..., dict[str, Get]]]:
    """Both frameworks, with the log at ``/audit``."""
    with ExitStack() as opened:

        def make(log: AuditLog = audit, verdict: Any = None) -> dict[str, Get]:
            def fastapi_rule(request: Request) -> Any:
                if verdict is None and request.headers.get("authorization") != "Bearer admin":
                    raise HTTPException(403, "Only for administrators.")
                return verdict

            def flask_rule() -> Any:
                if verdict is None and flask_request.headers.get("Authorization") != "Bearer admin":
                    abort(403, "Only for administrators.")
                return verdict

            fastapi, flask = FastAPI(lifespan=lifespan(log)), Flask("app")
            fastapi.include_router(audit_router(log, authorize=fastapi_rule))
            flask.register_blueprint(audit_blueprint(log, authorize=flask_rule))
            client, views = opened.enter_context(TestClient(fastapi)), flask.test_client()

            def from_fastapi(path, **headers):
                found = client.get(path, headers=headers)
                return Answer(found.status_code, dict(found.headers), found.json())

            def from_flask(path, **headers):
                found = views.get(path, headers=headers)
                return Answer(found.status_code, {k.lower(): v for k, v in found.headers}, found.json)

            return {"fastapi": from_fastapi, "flask": from_flask}

        yield make


@pytest.fixture
def ids(audit) -> list[str]:
    denied = {"outcome": "denied", "ip": "203.0.113.7", "metadata": {"n": [1.5]}}
    made = [
        audit.record("product.renamed", entity=("product", "a/1"), changes={"name": ("Bolt", "Größe")}),
        audit.record("order.paid", entity=("order", 7), **denied),
        audit.record("order.sent", entity=("order", 7)),
    ]
    assert audit.flush()
    return made


PATHS = (
    "/audit/events",
    "/audit/events?limit=2&action=order.*",
    "/audit/events?outcome=denied&entity_type=order&entity_id=7&since=2020-01-01T00:00:00Z&text=1.5",
    "/audit/events?oldest_first=true&until=2120-01-01T00:00:00",
    "/audit/history?entity_type=order&entity_id=7",
    "/audit/history?entity_type=product&entity_id=a%2F1",
)


def test_both_frameworks_give_the_same_answers(serve, ids):
    fastapi, flask = serve().values()
    for path in (*PATHS, f"/audit/events/{ids[0]}"):
        one, other = fastapi(path, **ADMIN), flask(path, **ADMIN)
        assert (one.status, one.body) == (200, other.body), path
        assert other.status == 200
        assert one.headers["cache-control"] == other.headers["cache-control"] == "no-store"
    found = [[each["id"] for each in fastapi(path, **ADMIN).body["events"]] for path in PATHS]
    assert found == [ids[::-1], ids[:0:-1], [ids[1]], ids, ids[1:], ids[:1]]
    event = fastapi(f"/audit/events/{ids[0]}", **ADMIN).body
    assert event["changes"] == [{"name": "name", "before": "Bolt", "after": "Größe"}]
    assert event["occurred_at"].endswith("Z")


def test_links_lead_through_all_pages(serve, ids):
    for get in serve().values():
        path, found = "/audit/events?action=*&limit=1&action=*", []
        while path:
            answer = get(path, **ADMIN)
            found += [each["id"] for each in answer.body["events"]]
            link = answer.body["next"]
            assert (f'<{link}>; rel="next"' == answer.headers.get("link")) == bool(link)
            path = link and urljoin(path, link)
        assert found == ids[::-1]


INVALID_REQUESTS = (
    "/audit/events?after=x",
    "/audit/events?action=a*b",
    "/audit/events?entity_id=7",
    "/audit/events?text=%00",
    "/audit/events?since=2026-01-02T00:00:00Z&until=2026-01-01T00:00:00Z",
    "/audit/history?entity_type=order&entity_id=7&after=x",
)
#: Refused by FastAPI before the view is called, with its own status.
MALFORMED = (
    *("/audit/events?limit=0", "/audit/events?limit=501", "/audit/events?limit=x", "/audit/events?actor=me"),
    *("/audit/events?since=yesterday", "/audit/events?outcome=denid", "/audit/events?user_id=7"),
    *("/audit/history?entity_type=order", "/audit/history?entity_type=a&entity_id=1&text=x"),
)


def test_invalid_requests_and_missing_events_are_answered_with_an_error(serve, ids):
    fastapi, flask = serve().values()
    cursor = fastapi("/audit/events?limit=1", **ADMIN).body["next"].partition("after=")[2]
    for path in (*INVALID_REQUESTS, f"/audit/events?action=order.*&after={cursor}"):
        one, other = fastapi(path, **ADMIN), flask(path, **ADMIN)
        assert (one.status, one.body) == (400, other.body), path
        assert other.status == 400
    for path in MALFORMED:
        assert (fastapi(path, **ADMIN).status, flask(path, **ADMIN).status) == (422, 400), path
    for get in (fastapi, flask):
        assert get(f"/audit/events/{uuid4()}", **ADMIN).status == 404


def test_only_callers_that_the_application_allows(serve, ids):
    for get in serve().values():
        for path in (
            *PATHS,
            *INVALID_REQUESTS,
            *MALFORMED,
            f"/audit/events/{ids[0]}",
            f"/audit/events/{uuid4()}",
        ):
            refused = get(path)
            assert refused.status == 403, path
            assert ids[0] not in str(refused.body)
    for get in serve(verdict=False).values():
        assert get("/audit/events", **ADMIN).status == 403
    for get in serve(verdict=True).values():
        assert get("/audit/events").status == 200
        for site in ("cross-site", "same-site"):
            assert get("/audit/events", **{"Sec-Fetch-Site": site}).status == 403
        assert get("/audit/events", **{"Sec-Fetch-Site": "cross-site"}, **ADMIN).status == 200


def test_without_a_rule_there_is_no_router(audit):
    users = FlaskUserSync()
    nothing = [None, "admin", True]
    for make, wrong in (
        (audit_router, [*nothing, Depends(lambda: None), CurrentUser(None, None)]),
        (audit_blueprint, [*nothing, users.require_user]),
    ):
        with pytest.raises(TypeError):
            make(audit)
        for rule in wrong:
            with pytest.raises(SettingsError, match="authorize: "):
                make(audit, authorize=rule)


def test_a_rule_of_asyncio_is_awaited_and_never_taken_for_a_verdict(audit, backend):
    async def refuse() -> bool:
        return False

    class Refusing:
        async def __call__(self) -> bool:
            return False

    for rule, status in ((refuse, 403), (Refusing(), 500)):
        app = Flask("app")
        app.register_blueprint(audit_blueprint(audit, authorize=rule, url_prefix="/log"))
        assert app.test_client().get("/log/events").status_code == status


def test_an_unavailable_database_is_503(serve, tmp_path):
    with AuditLog("postgresql://nobody@localhost:1/nothing", spool_dir=tmp_path) as log:
        for get in serve(log, verdict=True).values():
            answer = get("/audit/events")
            assert (answer.status, answer.body["detail"][:5]) == (503, "US201")


def test_the_schema_names_the_types(audit):
    app = FastAPI()
    app.include_router(audit_router(audit, authorize=lambda: True, prefix="/log"))
    schema = app.openapi()
    assert set(schema["paths"]) == {"/log/events", "/log/events/{event_id}", "/log/history"}
    assert all(set(methods) == {"get"} for methods in schema["paths"].values())
    events = schema["paths"]["/log/events"]["get"]
    assert events["responses"]["200"]["content"]["application/json"]["schema"]["$ref"].endswith("/AuditPage")
    assert {"400", "401", "403", "503"} <= set(events["responses"])
    assert {each["name"] for each in events["parameters"]} > {"actor_id", "after", "limit", "since", "text"}
    fields = schema["components"]["schemas"]["AuditEvent"]["properties"]
    assert fields["occurred_at"] == {"type": "string", "format": "date-time", "title": "Occurred At"}
