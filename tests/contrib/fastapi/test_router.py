"""The FastAPI router for status and sync: answers and access control."""

# No `annotations` future import: FastAPI reads the annotations.
import asyncio
from typing import Annotated

import httpx2
import pytest
import schemathesis
from fastapi import Depends, FastAPI, HTTPException
from fastapi.testclient import TestClient
from hypothesis import given, settings
from schemathesis import GenerationMode

from usersync import AsyncUserSync
from usersync.contrib.fastapi import VerifiedUser, user_sync_router
from usersync.errors import ArgumentTypeError, ArgumentValueError

pytestmark = pytest.mark.newest_server


@pytest.fixture
def administered(app, sync, current_user) -> FastAPI:
    """The application with the router in it, for administrators."""

    def admin(user: Annotated[VerifiedUser, Depends(current_user)]) -> None:
        if user.claims["app_metadata"].get("role") != "admin":
            raise HTTPException(403, "Only for administrators.")

    app.include_router(user_sync_router(sync, protected_by=admin))
    return app


@pytest.fixture
def admin(backend) -> dict[str, str]:
    """The header of an administrator's requests."""
    return backend.bearer(app_metadata={"role": "admin"})


@pytest.fixture
def client(administered) -> TestClient:
    with TestClient(administered) as client:
        yield client


def test_status_returns_the_counts(client, backend, admin):
    backend.sign_up_unseen()
    found = client.get("/user-sync/status", headers=admin).json()
    assert found["observed_at"]
    assert found["lag"] >= 0
    del found["observed_at"], found["lag"]
    assert found == {
        "in_step": False,
        "auth_users": 2,
        "users": 1,
        "missing": 1,
        "stale": 0,
        "orphaned": 0,
        "deleted_upstream": 0,
        "degraded": 0,
        "failed": 0,
        "removal_failed": 0,
        "event_failed": 0,
        "skipped": 0,
    }


@pytest.mark.parametrize("method", ["post", "get"])
def test_sync_starts_a_run(client, backend, admin, method):
    missing = [backend.sign_up_unseen() for _ in range(3)]
    sync = getattr(client, method)
    dry = sync("/user-sync/sync", headers=admin, params={"dry_run": True}).json()
    assert (dry["dry_run"], dry["missing"], dry["synced"]) == (True, 3, 0)
    assert not any(map(backend.has_row, missing))
    done = sync("/user-sync/sync", headers=admin).json()
    assert (done["synced"], done["errors"], done["examined"]) == (3, 0, 4)
    assert all(map(backend.has_row, missing))
    assert sync("/user-sync/sync", headers=admin).json()["synced"] == 0
    assert client.get("/user-sync/status", headers=admin).json()["in_step"]


ROUTES = [("get", "/user-sync/status"), ("post", "/user-sync/sync"), ("get", "/user-sync/sync")]


@pytest.mark.parametrize(("method", "path"), ROUTES)
def test_only_callers_that_the_application_allows(client, backend, admin, method, path):
    missing = backend.sign_up_unseen()
    call = getattr(client, method)
    assert call(path).status_code == 401
    assert call(path, headers=backend.bearer(exp=1)).status_code == 401
    assert call(path, headers=backend.bearer()).status_code == 403
    assert not backend.has_row(missing)
    assert call(path, headers=admin).status_code == 200


@pytest.mark.parametrize(("method", "path"), ROUTES)
def test_a_page_of_another_site_cannot_start_a_sync(app, sync, backend, method, path):
    """The browser would send the cookie of an application that uses one."""
    app.include_router(user_sync_router(sync, protected_by=lambda: None))
    call, missing = getattr(TestClient(app), method), backend.sign_up_unseen()
    for site in ("cross-site", "same-site"):
        assert call(path, headers={"Sec-Fetch-Site": site}).status_code == 403
        assert call(path, headers={"Sec-Fetch-Site": site, "Authorization": "Basic YTpi"}).status_code == 403
    assert not backend.has_row(missing)
    for site in ("none", "same-origin"):
        assert call(path, headers={"Sec-Fetch-Site": site}).status_code == 200
    # Only a page's own code sends a token, which the application has to allow (CORS).
    assert call(path, headers={"Sec-Fetch-Site": "cross-site"} | backend.bearer()).status_code == 200


def test_a_dependency_that_returns_false_has_refused(sync):
    app = FastAPI()
    app.include_router(user_sync_router(sync, protected_by=lambda: False, prefix="/internal"))
    assert TestClient(app).get("/internal/status").status_code == 403
    assert TestClient(app).get("/user-sync/status").status_code == 404


@pytest.mark.parametrize("nothing", [None, "admin", True, Depends(lambda: None)])
def test_the_router_requires_a_dependency_for_access_control(sync, nothing):
    with pytest.raises(ArgumentTypeError, match="protected_by: expected a dependency"):
        user_sync_router(sync, protected_by=nothing)
    with pytest.raises(TypeError):
        user_sync_router(sync)


def test_the_dependency_current_user_is_refused_as_access_control(sync, current_user):
    with pytest.raises(ArgumentValueError, match="every user who has signed up"):
        user_sync_router(sync, protected_by=current_user)


def test_one_run_at_a_time(administered, backend, admin):
    async def main():
        transport = httpx2.ASGITransport(administered)
        async with httpx2.AsyncClient(transport=transport, base_url="http://app") as client:
            calls = [client.post("/user-sync/sync", headers=admin) for _ in range(5)]
            return await asyncio.gather(*calls), await client.post("/user-sync/sync", headers=admin)

    together, later = asyncio.run(main())
    assert sorted(response.status_code for response in together) == [200, 409, 409, 409, 409]
    assert later.status_code == 200


def test_an_unknown_option_is_refused(client, backend, admin):
    missing = backend.sign_up_unseen()
    assert client.post("/user-sync/sync", headers=admin, params={"dryrun": "1"}).status_code == 422
    assert client.post("/user-sync/sync", headers=admin, params={"dry_run": "perhaps"}).status_code == 422
    assert not backend.has_row(missing)


@pytest.mark.parametrize(("method", "path"), ROUTES)
def test_without_usersync_in_the_database_the_answer_is_503(client, backend, admin, method, path):
    client.get("/user-sync/status", headers=admin)
    backend.owner.execute("drop schema usersync cascade; drop function public.user_sync_status()")
    response = getattr(client, method)(path, headers=admin)
    assert response.status_code == 503
    assert response.json()["detail"].startswith("US301: usersync is not installed")


@pytest.mark.parametrize(("method", "path"), ROUTES)
def test_without_the_database_the_answer_is_503(app, backend, method, path):
    dsn = backend.dsn.replace(f":{backend.database.port}/", ":1/")
    app.include_router(user_sync_router(AsyncUserSync(dsn), protected_by=lambda: None))
    response = getattr(TestClient(app), method)(path)
    assert response.status_code == 503
    assert response.json()["detail"].startswith("US201: cannot connect to")


@pytest.mark.slow
@pytest.mark.parametrize("mode", list(GenerationMode), ids=lambda mode: mode.value)
def test_the_router_matches_its_schema(administered, backend, mode):
    """Called with valid and invalid requests, generated from the schema."""
    token = backend.tokens.token(backend.sign_up(), app_metadata={"role": "admin"})
    schema = schemathesis.openapi.from_asgi("/openapi.json", administered)

    @schema.auth()
    class Admin:
        def get(self, *_):
            return token

        def set(self, case, data, _):
            case.headers["Authorization"] = f"Bearer {data}"

    operations = [found.ok() for found in schema.get_all_operations()]
    assert {(each.method, each.path) for each in operations} == set(ROUTES)
    for operation in operations:

        @settings(max_examples=15, database=None)
        @given(case=operation.as_strategy(generation_mode=mode))
        def call(case):
            case.call_and_validate()

        call()
