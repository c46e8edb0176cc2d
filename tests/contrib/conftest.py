"""An auth server that signs tokens and publishes its keys."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from auth_server import AuthServer

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def auth_server() -> Iterator[AuthServer]:
    with AuthServer() as server:
        yield server
