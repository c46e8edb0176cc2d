"""The blocking and the asyncio verifier, with one interface."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from usersync.contrib.auth import AsyncTokenVerifier, TokenVerifier

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@pytest.fixture(params=["blocking", "asyncio"])
def make_verifier(request: pytest.FixtureRequest, auth_server: Any) -> Iterator[Callable[..., Any]]:
    """A function that creates a verifier, and returns its ``verify`` as a blocking function."""
    with asyncio.Runner() as runner:

        def make(**options: Any) -> Callable[[Any], Any]:
            given = {"url": auth_server.url, **options}
            if request.param == "blocking":
                return TokenVerifier(**given).verify
            verifier = AsyncTokenVerifier(**given)
            return lambda token: runner.run(verifier.verify(token))

        yield make


@pytest.fixture
def verify(make_verifier: Callable[..., Any]) -> Callable[[Any], Any]:
    return make_verifier()
