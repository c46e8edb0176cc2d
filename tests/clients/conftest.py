"""Fixtures that run a test with both clients over each transport."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack, ExitStack
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from psycopg_pool import AsyncConnectionPool, ConnectionPool

from usersync import AsyncUserSync, UserSync

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

FLAVOURS = ("sync", "async")
TRANSPORTS = ("dsn", "connection", "autocommit", "pool")
#: The Data API, over a real PostgREST.
API = "api"


class Blocking:
    """An AsyncUserSync whose methods block, so that one test serves both clients."""

    def __init__(self, client: AsyncUserSync, runner: asyncio.Runner) -> None:
        self.client = client
        self._runner = runner

    def __getattr__(self, name: str) -> Callable[..., Any]:
        method = getattr(self.client, name)
        return lambda *arguments, **options: self._runner.run(method(*arguments, **options))


class Committing:
    """A client of a connection without autocommit. The test's transaction ends after each call."""

    def __init__(self, client: Any, end: Callable[[str], object]) -> None:
        self.client = client
        self._end = end

    def __getattr__(self, name: str) -> Callable[..., Any]:
        method = getattr(self.client, name)

        def call(*arguments: Any, **options: Any) -> Any:
            try:
                result = method(*arguments, **options)
            except BaseException:
                self._end("rollback")
                raise
            self._end("commit")
            return result

        return call


def _committing(client: Any, transport: str, source: Any, run: Callable[[Any], object]) -> Any:
    if transport != "connection":
        return client
    return Committing(client, lambda how: None if source.closed else run(getattr(source, how)()))


async def _async_source(transport: str, dsn: str, exit_stack: AsyncExitStack) -> Any:
    if transport in {"dsn", API}:
        return dsn
    if transport == "pool":
        pool = AsyncConnectionPool(dsn, min_size=1, max_size=4, open=False)
        return await exit_stack.enter_async_context(pool)
    connection = await psycopg.AsyncConnection.connect(dsn, autocommit=transport == "autocommit")
    return await exit_stack.enter_async_context(connection)


def _sync_source(transport: str, dsn: str, exit_stack: ExitStack) -> Any:
    if transport in {"dsn", API}:
        return dsn
    if transport == "pool":
        return exit_stack.enter_context(ConnectionPool(dsn, min_size=1, max_size=4, open=True))
    return exit_stack.enter_context(psycopg.connect(dsn, autocommit=transport == "autocommit"))


@pytest.fixture
def make_client() -> Iterator[Callable[[str, str, str], Any]]:
    """Create a client by flavour, transport and DSN. A DataApi is used unchanged."""
    with ExitStack() as exit_stack:
        runner = exit_stack.enter_context(asyncio.Runner())

        def make(flavour: str, transport: str, dsn: str) -> Any:
            if flavour == "sync":
                source = _sync_source(transport, dsn, exit_stack)
                client = exit_stack.enter_context(UserSync(source))
                return _committing(client, transport, source, lambda done: done)
            later = AsyncExitStack()
            exit_stack.callback(lambda: runner.run(later.aclose()))
            source = runner.run(_async_source(transport, dsn, later))

            async def build() -> AsyncUserSync:
                return await later.enter_async_context(AsyncUserSync(source))

            return _committing(Blocking(runner.run(build()), runner), transport, source, runner.run)

        yield make


@pytest.fixture(params=[f"{flavour}-{transport}" for flavour in FLAVOURS for transport in (*TRANSPORTS, API)])
def client(request, project, make_client):
    """Each client over each transport, for an installed project."""
    flavour, transport = request.param.split("-")
    api = request.getfixturevalue("api") if transport == API else None
    return make_client(flavour, transport, api or project.database.dsn())


@pytest.fixture(params=["dsn", API])
def dsn_or_api(request, project) -> Any:
    """A DSN or the Data API, with which a client opens its own connections."""
    return request.getfixturevalue("api") if request.param == API else project.database.dsn()


@pytest.fixture(params=FLAVOURS)
def flavour(request) -> str:
    return request.param


@pytest.fixture
def audit_enabled() -> bool:
    return True
