"""The user has a row before the handler runs. A request neither fails nor waits long for the row."""

# No `annotations` future import: FastAPI reads the annotations.
import asyncio
import gc
import logging
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Annotated
from uuid import UUID, uuid4

import httpx2
import pytest
from auth_server import Key
from fastapi import Depends, FastAPI
from fastapi.testclient import TestClient
from psycopg.conninfo import make_conninfo
from psycopg_pool import AsyncConnectionPool
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from proxy import Proxy
from usersync import AsyncUserSync
from usersync.contrib import ensuring
from usersync.contrib.auth import AsyncTokenVerifier
from usersync.contrib.fastapi import AuditContextMiddleware, CurrentUser, VerifiedUser, lifespan
from usersync.contrib.starlette import CurrentUser as PlainCurrentUser
from usersync.errors import ArgumentTypeError

pytestmark = pytest.mark.newest_server


def serve(current_user, *resources) -> TestClient:
    app = FastAPI(lifespan=lifespan(*resources))
    app.add_middleware(AuditContextMiddleware)

    @app.get("/whoami")
    async def whoami(user: Annotated[VerifiedUser, Depends(current_user)]) -> UUID:
        return user.id

    return TestClient(app)


@pytest.fixture
def make_client(backend):
    """A client of an application with the auth server of ``backend`` and the database of ``dsn``."""

    def make(dsn=None, **options) -> TestClient:
        sync = AsyncUserSync(dsn or backend.dsn)
        return serve(CurrentUser(AsyncTokenVerifier(backend.tokens.url), sync, **options), sync)

    return make


def nowhere(backend) -> str:
    """A connection string without a server."""
    return make_conninfo(backend.dsn, port=1)


@pytest.mark.parametrize("required", [False, True])
def test_a_user_without_a_row_has_one_when_the_handler_runs(backend, make_client, required):
    user_id = backend.sign_up_unseen()
    assert not backend.has_row(user_id)
    with make_client(required=required) as client:
        assert client.get("/whoami", headers=backend.bearer(user_id)).json() == str(user_id)
    assert backend.has_row(user_id)


def test_a_known_user_needs_no_query(backend, make_client):
    user_id = backend.sign_up()
    with make_client(required=True) as client:
        headers = backend.bearer(user_id)
        assert client.get("/whoami", headers=headers).status_code == 200
        backend.owner.execute("drop function public.ensure_user_exists(uuid)")
        assert client.get("/whoami", headers=headers).status_code == 200
        assert client.get("/whoami", headers=backend.bearer()).status_code == 503


@pytest.mark.parametrize(
    "authorization", [None, "", "Bearer", "Bearer ", "Basic YTpi", "Token x", "bearer\tx", "x" * 9000]
)
def test_without_a_token_there_is_no_user(make_client, authorization):
    with make_client() as client:
        response = client.get("/whoami", headers={"Authorization": authorization} if authorization else {})
    assert response.status_code == 401
    assert response.headers["www-authenticate"].startswith("Bearer")


def test_invalid_tokens_are_answered_with_401(backend, make_client, caplog):
    caplog.set_level(logging.DEBUG)
    tokens = backend.tokens
    bad = {
        "expired": tokens.token(exp=int(time.time()) - 3600),
        "another key": tokens.token(key=Key()),
        "another audience": tokens.token(aud="other"),
        "unsigned": tokens.token().rpartition(".")[0] + ".",
        "shared secret": tokens.shared_token(),
        "huge": tokens.token(user_metadata={"x": "y" * 20_000}),
        "garbage": "garbage",
    }
    with make_client() as client:
        for token in bad.values():
            response = client.get("/whoami", headers={"Authorization": f"Bearer {token}"})
            assert response.status_code == 401
            assert response.headers["www-authenticate"].startswith('Bearer error="invalid_token"')
            for part in token.split("."):
                assert len(part) < 8 or part not in response.text + str(response.headers) + caplog.text
    assert not backend.events()


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER"])
def test_the_scheme_is_read_in_any_case(backend, make_client, scheme):
    token = backend.bearer()["Authorization"].removeprefix("Bearer ")
    with make_client() as client:
        assert client.get("/whoami", headers={"Authorization": f"{scheme}  {token} "}).status_code == 200


def test_without_keys_of_the_auth_server_the_answer_is_503(backend, make_client):
    backend.tokens.answer = (500, "text/html", b"<html>")
    with make_client() as client:
        response = client.get("/whoami", headers=backend.bearer())
    assert (response.status_code, response.headers["retry-after"]) == (503, "5")
    assert backend.tokens.url not in response.text


def test_while_the_database_is_unavailable_requests_continue(backend, make_client, caplog):
    with make_client(nowhere(backend)) as client:
        for _ in range(5):
            assert client.get("/whoami", headers=backend.bearer()).status_code == 200
    assert caplog.text.count("users cannot be looked up at the moment") == 1


@pytest.mark.slow
@pytest.mark.parametrize("waits", ["to the end", "for a moment"])
def test_while_the_database_is_unavailable_there_is_one_warning(
    backend, caplog, monkeypatch, eventually, waits
):
    """asyncio logs no unretrieved error, though the errors come after the requests have continued."""
    monkeypatch.setattr(ensuring, "PAUSE_S", 0.0)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        slow = make_conninfo(backend.dsn, port=silent.getsockname()[1])
        dsn, timeout = (nowhere(backend), 30.0) if waits == "to the end" else (slow, 0.05)

        async def story():
            async with AsyncUserSync(dsn) as sync:
                ensurer = ensuring.AsyncEnsurer(sync, timeout)
                for _ in range(3):
                    assert await asyncio.gather(*(ensurer.ensure(uuid4()) for _ in range(3))) == [None] * 3
                silent.close()
                await asyncio.to_thread(eventually, lambda: not ensurer._pending)

        asyncio.run(story())
    gc.collect()
    assert [(each.name, each.levelname) for each in caplog.records] == [("usersync.ensure", "WARNING")]


def test_while_the_database_is_unavailable_a_required_row_answers_503(backend, make_client):
    with make_client(nowhere(backend), required=True) as client:
        response = client.get("/whoami", headers=backend.bearer())
    assert (response.status_code, response.headers["retry-after"]) == (503, "5")


def test_without_usersync_in_the_database_requests_continue(backend, make_client):
    backend.owner.execute("drop function public.ensure_user_exists(uuid)")
    with make_client() as client:
        assert client.get("/whoami", headers=backend.bearer()).status_code == 200


@pytest.mark.parametrize("required", [False, True])
def test_an_unknown_user_is_answered_with_503_if_a_row_is_required(backend, make_client, required):
    """An example is a deleted user whose token is still valid."""
    with make_client(required=required) as client:
        response = client.get("/whoami", headers=backend.bearer(uuid4()))
        assert response.status_code == (503 if required else 200)


def test_a_row_that_cannot_be_created_is_not_tried_with_every_request(backend, make_client):
    backend.owner.execute("alter table public.users add column team text not null")
    user_id = backend.sign_up_unseen()
    with make_client() as client:
        for _ in range(5):
            assert client.get("/whoami", headers=backend.bearer(user_id)).status_code == 200
    (attempts,) = backend.owner.execute("select attempts from usersync.sync_failures").fetchone()
    assert attempts == 1


@pytest.fixture
def proxy(backend):
    with Proxy(backend.database.host, backend.database.port) as proxy:
        yield proxy


@pytest.fixture
def short_timeouts(monkeypatch):
    monkeypatch.setattr(ensuring, "PAUSE_S", 0.2)
    monkeypatch.setattr(ensuring, "_LOST_S", 0.5)


@pytest.mark.slow
@pytest.mark.usefixtures("short_timeouts")
def test_a_connection_without_answers_delays_one_request_and_is_replaced(
    backend, make_client, proxy, caplog, eventually
):
    """Then users are looked up again, without a restart."""
    with make_client(proxy.through(backend.dsn), timeout=0.1) as client:
        assert client.get("/whoami", headers=backend.bearer()).status_code == 200
        proxy.silent.set()
        unseen = backend.sign_up_unseen()
        assert client.get("/whoami", headers=backend.bearer(unseen)).status_code == 200
        assert not backend.has_row(unseen)
        assert "no answer from the database in 0.1 s" in caplog.text
        proxy.silent.clear()

        def ensured() -> bool:
            assert client.get("/whoami", headers=backend.bearer(unseen)).status_code == 200
            return backend.has_row(unseen)

        eventually(ensured)


def test_concurrent_requests_of_one_user_share_an_attempt(backend, make_client):
    """An example is a page that sends six requests at once."""
    headers = backend.bearer(backend.sign_up_unseen())
    with make_client() as client, backend.database.connect() as holder, ThreadPoolExecutor(6) as threads:
        # The attempt fails after the lock time-out, and records a sync failure.
        holder.execute("begin; lock table public.users in share mode")
        answers = [threads.submit(client.get, "/whoami", headers=headers) for _ in range(6)]
        assert {each.result().status_code for each in answers} == {200}
        holder.execute("rollback")
    assert backend.owner.execute("select attempts from usersync.sync_failures").fetchall() == [(1,)]


def test_many_unknown_users_at_once_all_get_a_row(backend):
    """As after the start of a busy process."""
    with backend.database.connect("supabase_admin") as superuser:
        superuser.execute("set session_replication_role = replica")
        rows = superuser.execute(
            "insert into auth.users (id, email, created_at) "
            "select gen_random_uuid(), n || '@example.com', now() "
            "from generate_series(1, 200) as n returning id"
        ).fetchall()
    pool = AsyncConnectionPool(backend.dsn, open=False)
    verifier = AsyncTokenVerifier(backend.tokens.url)
    current_user = CurrentUser(verifier, AsyncUserSync(pool), required=True, timeout=60)
    app = serve(current_user, pool).app

    async def main():
        transport = httpx2.ASGITransport(app)
        async with pool, httpx2.AsyncClient(transport=transport, base_url="http://app") as client:
            calls = [client.get("/whoami", headers=backend.bearer(row[0])) for row in rows]
            return await asyncio.gather(*calls)

    assert {response.status_code for response in asyncio.run(main())} == {200}
    assert backend.owner.execute("select count(*) from public.users").fetchone() == (200,)


def test_the_openapi_page_has_the_bearer_scheme(backend, make_client):
    with make_client() as client:
        schema = client.get("/openapi.json").json()
    assert schema["components"]["securitySchemes"]["Supabase"]["scheme"] == "bearer"
    assert schema["paths"]["/whoami"]["get"]["security"] == [{"Supabase": []}]


def test_without_the_middleware_the_actor_is_missing_with_one_warning(backend, sync, caplog):
    current_user = CurrentUser(AsyncTokenVerifier(backend.tokens.url), sync)
    app = FastAPI(lifespan=lifespan(sync), dependencies=[Depends(current_user)])
    app.get("/")(lambda: None)
    with TestClient(app) as client:
        for _ in range(3):
            assert client.get("/", headers=backend.bearer()).status_code == 200
    assert caplog.text.count("add AuditContextMiddleware") == 1


def test_a_required_row_needs_a_client(backend):
    verifier = AsyncTokenVerifier(backend.tokens.url)
    assert CurrentUser(verifier)
    with pytest.raises(ArgumentTypeError, match="required=True needs a sync"):
        CurrentUser(verifier, required=True)


def test_in_starlette_it_is_called_by_the_handler(backend, sync):
    current_user = PlainCurrentUser(AsyncTokenVerifier(backend.tokens.url), sync)

    async def whoami(request: Request) -> JSONResponse:
        return JSONResponse(str((await current_user(request)).id))

    user_id = backend.sign_up_unseen()
    with TestClient(Starlette(routes=[Route("/whoami", whoami)], lifespan=lifespan(sync))) as client:
        assert client.get("/whoami").status_code == 401
        assert client.get("/whoami", headers=backend.bearer(user_id)).json() == str(user_id)
    assert backend.has_row(user_id)
