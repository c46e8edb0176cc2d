"""A FastAPI application with all of usersync's components, and its clients."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from usersync import AsyncUserSync
from usersync.contrib.auth import AsyncTokenVerifier
from usersync.contrib.fastapi import AuditContextMiddleware, CurrentUser, lifespan

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@pytest.fixture
def sync(backend: Any) -> Iterator[AsyncUserSync]:
    sync = AsyncUserSync(backend.dsn)
    yield sync
    # A TestClient without a lifespan leaves a connection of an event loop that has ended.
    asyncio.run(sync.close())


@pytest.fixture
def current_user(backend: Any, sync: AsyncUserSync) -> CurrentUser:
    return CurrentUser(AsyncTokenVerifier(backend.tokens.url), sync)


@pytest.fixture
def app(sync: AsyncUserSync) -> FastAPI:
    """An application without routes."""
    application = FastAPI(lifespan=lifespan(sync))
    application.add_middleware(AuditContextMiddleware, trusted_proxies=["10.0.0.0/8"])
    return application


@pytest.fixture
def client(app: FastAPI) -> Iterator[TestClient]:
    with TestClient(app, client=("10.0.0.1", 50000)) as client:
        yield client


@pytest.fixture
def client_from(app: FastAPI) -> Callable[..., TestClient]:
    """A client with an IP address, of an application whose lifespan ``client`` holds open."""
    return lambda address, **options: TestClient(app, client=(address, 50000), **options)
