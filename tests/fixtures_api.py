"""The Data API of a test's database: a real PostgREST behind a gateway that checks API keys as Supabase
does.
"""

from __future__ import annotations

import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from hooks_skips import skip_without
from postgrest_server import SECRET_KEY, Gateway, PostgREST, find_postgrest
from usersync import DataApi

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from usersync.testing import SupabaseDatabase


@pytest.fixture
def serve() -> Iterator[Callable[..., Gateway]]:
    """Start a Data API for a database. ``settings`` are environment variables of PostgREST."""
    binary = find_postgrest()
    if binary is None:
        skip_without("PostgREST")
    with ExitStack() as exit_stack:

        def start(database: SupabaseDatabase, **settings: str) -> Gateway:
            # Not tmp_path: the path of a Unix socket is limited to about 100 characters.
            directory = exit_stack.enter_context(tempfile.TemporaryDirectory(prefix="usersync-"))
            upstream = PostgREST(binary, database, Path(directory), **settings)
            exit_stack.callback(upstream.kill)
            return exit_stack.enter_context(Gateway(upstream))

        yield start


@pytest.fixture
def gateway(serve: Callable[..., Gateway], project) -> Gateway:
    """The Data API of an installed project."""
    return serve(project.database)


@pytest.fixture
def api(gateway: Gateway) -> DataApi:
    """A client of ``gateway`` with a secret key."""
    return DataApi(gateway.url, SECRET_KEY)
