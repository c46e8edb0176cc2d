"""Keys of every kind, and a server for each way to misbehave."""

from __future__ import annotations

import asyncio
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import pytest
from hostile import Behaviour, Hostile

from postgrest_server import SECRET_KEY
from usersync import AsyncUserSync, DataApi, UserSync
from usersync.errors import UsersyncError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@pytest.fixture
def misbehaving() -> Iterator[Callable[[Behaviour], Hostile]]:
    with ExitStack() as everything:
        yield lambda behaviour: everything.enter_context(Hostile(behaviour))


@pytest.fixture(params=["sync", "async"])
def ask(request) -> Callable[..., Any]:
    """Call a method of a client that is made for it and closed again."""

    def blocking(api: DataApi, method: str, *arguments: Any) -> Any:
        with UserSync(api) as client:
            return getattr(client, method)(*arguments)

    def waiting(api: DataApi, method: str, *arguments: Any) -> Any:
        async def call() -> Any:
            async with AsyncUserSync(api) as client:
                return await getattr(client, method)(*arguments)

        return asyncio.run(call())

    return blocking if request.param == "sync" else waiting


@pytest.fixture
def refusal(ask) -> Callable[..., Any]:
    """The error that a call to a server ends with."""

    def call(server: Hostile, method: str = "status", *arguments: Any, timeout: float = 60.0) -> Any:
        with pytest.raises(UsersyncError) as caught:
            ask(DataApi(server.url, SECRET_KEY, timeout=timeout), method, *arguments)
        return caught.value

    return call


@pytest.fixture(autouse=True)
def _no_long_pauses(monkeypatch) -> None:
    """Back-off is measured where it is tested."""
    monkeypatch.setattr("usersync.transports.data_api.exchange._FIRST_PAUSE_S", 0.001)


@pytest.fixture
def audit_enabled() -> bool:
    return True
