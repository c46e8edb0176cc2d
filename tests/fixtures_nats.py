"""One NATS server with JetStream for the whole run. Each test starts without streams."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from nats_server import NatsServer, nats_server

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="session")
def nats_process() -> Iterator[NatsServer]:
    directory = Path(tempfile.mkdtemp(prefix="usersync-nats-"))
    try:
        with nats_server(directory) as server:
            yield server
    finally:
        shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture
def nats(nats_process: NatsServer) -> Iterator[NatsServer]:
    yield nats_process
    nats_process.delete_streams()
