"""``with audit.context(…)`` in a synchronous generator dependency, which FastAPI runs in a thread pool."""

from __future__ import annotations

import json

import pytest
from fastapi import Depends, FastAPI
from fastapi.responses import StreamingResponse
from fastapi.testclient import TestClient

from usersync import AuditLog
from usersync.audit.event.context import current, entered
from usersync.contrib.fastapi import AuditContextMiddleware
from usersync.errors import SettingsError

KEPT = ("actor_id", "tenant_id", "metadata")


def seen():
    return {name: value for name, value in current().items() if name in KEPT}


@pytest.fixture
def audit(tmp_path):
    return AuditLog("postgresql://nobody@127.0.0.1:1/none", spool_dir=tmp_path)


@pytest.fixture
def app(audit):  # noqa: C901 - handlers
    app = FastAPI()
    after = app.state.after = []

    class Noting:
        """The rest of the request, after the dependencies have ended."""

        def __init__(self, app):
            self.app = app

        async def __call__(self, scope, receive, send):
            try:
                await self.app(scope, receive, send)
            finally:
                if scope["type"] == "http":
                    after.append(seen())

    app.add_middleware(Noting)
    app.add_middleware(AuditContextMiddleware)

    def tenant():
        with audit.context(tenant_id="acme", metadata={"a": 1}):
            yield

    def actor(_=Depends(tenant)):  # noqa: B008 - FastAPI's way
        with audit.context(actor_id="ada", metadata={"b": 2}):
            yield

    async def in_coroutine():
        async with audit.context(actor_id="carl"):
            yield

    @app.get("/async", dependencies=[Depends(actor)])
    async def in_loop():
        return seen()

    @app.get("/sync", dependencies=[Depends(actor)])
    def in_pool():
        with audit.context(tenant_id="inner"):
            inner = seen()
        return [inner, seen()]

    @app.get("/amended", dependencies=[Depends(actor)])
    def amended():
        audit.amend_context(actor_id="bob")
        return seen()

    @app.get("/mixed", dependencies=[Depends(in_coroutine)])
    def mixed(_=Depends(tenant)):  # noqa: B008
        return seen()

    @app.get("/stream")
    def stream():
        def lines():
            with audit.context(actor_id="ada"):
                for _ in range(3):
                    yield json.dumps(seen()) + "\n"

        return StreamingResponse(lines())

    @app.get("/error", dependencies=[Depends(actor)])
    def error():
        raise RuntimeError

    return app


BOTH = {"actor_id": "ada", "tenant_id": "acme", "metadata": {"a": 1, "b": 2}}


def test_the_handler_has_the_context(app):
    with TestClient(app, raise_server_exceptions=False) as client:
        assert client.get("/async").json() == BOTH
        assert client.get("/sync").json() == [{**BOTH, "tenant_id": "inner"}, BOTH]
        assert client.get("/amended").json() == {**BOTH, "actor_id": "bob"}
        assert client.get("/mixed").json() == {"actor_id": "carl", "tenant_id": "acme", "metadata": {"a": 1}}
        assert client.get("/error").status_code == 500
        lines = client.get("/stream").text.splitlines()
    assert [json.loads(line) for line in lines] == [{"actor_id": "ada"}] * 3
    # The context ends with the dependency. What the request has amended in the meantime stays.
    assert app.state.after == [{}, {}, {"actor_id": "bob"}, {}, {}, {}]


def test_without_a_request_context_it_raises(audit):
    app = FastAPI()

    def actor():
        with audit.context(actor_id="ada"):
            yield

    @app.get("/", dependencies=[Depends(actor)])
    async def handler():
        return seen()

    with TestClient(app) as client, pytest.raises(SettingsError, match="has no effect") as caught:
        client.get("/")
    assert "AuditContextMiddleware" in caught.value.hint
    assert "async def" in caught.value.hint


def test_a_generator_elsewhere_has_its_own_context():
    def steps():
        with entered({"actor_id": "ada"}):
            yield seen()

    assert list(steps()) == [{"actor_id": "ada"}]
    assert seen() == {}
