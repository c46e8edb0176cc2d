"""Fixtures for tests of the Data API: misbehaving servers, and calls of both clients."""

from __future__ import annotations

import asyncio
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import pytest
from misbehaving_server import Behaviour, MisbehavingServer

from postgrest_server import SECRET_KEY
from usersync import AsyncUserSync, DataApi, UserSync
from usersync.errors import UsersyncError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@pytest.fixture
def misbehaving() -> Iterator[Callable[[Behaviour], MisbehavingServer]]:
    with ExitStack() as exit_stack:
        yield lambda behaviour: exit_stack.enter_context(MisbehavingServer(behaviour))


@pytest.fixture(params=["sync", "async"])
def ask(request) -> Callable[..., Any]:
    """Create a client, call one of its methods, and close it.

    Runs with the blocking and the asyncio client.
    """

    def blocking(api: DataApi, method: str, *arguments: Any) -> Any:
        with UserSync(api) as client:
            return getattr(client, method)(*arguments)

    def with_asyncio(api: DataApi, method: str, *arguments: Any) -> Any:
        async def call() -> Any:
            async with AsyncUserSync(api) as client:
                return await getattr(client, method)(*arguments)

        return asyncio.run(call())

    return blocking if request.param == "sync" else with_asyncio


@pytest.fixture
def refusal(ask) -> Callable[..., Any]:
    """Call a server, and return the error that the call raises."""

    def call(
        server: MisbehavingServer, method: str = "status", *arguments: Any, timeout: float = 60.0
    ) -> Any:
        with pytest.raises(UsersyncError) as caught:
            ask(DataApi(server.url, SECRET_KEY, timeout=timeout), method, *arguments)
        return caught.value

    return call


@pytest.fixture(autouse=True)
def _no_long_pauses(monkeypatch) -> None:
    """Make the pauses between attempts short. Tests of the back-off set their own."""
    monkeypatch.setattr("usersync.transports.data_api.exchange._FIRST_PAUSE_S", 0.001)


@pytest.fixture
def audit_enabled() -> bool:
    return True
