"""The lifespan: opening and closing, and the events of an ending worker."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import itertools
import signal
from pathlib import Path

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from psycopg_pool import AsyncConnectionPool
from serving import Served, environment

from usersync import AsyncUserSync, AuditLog
from usersync.contrib import starlette
from usersync.contrib.fastapi import lifespan

pytestmark = pytest.mark.newest_server

HERE = Path(__file__).parent


def test_arguments_are_open_while_the_application_runs(backend, tmp_path):
    pool = AsyncConnectionPool(backend.dsn, open=False, min_size=1)
    sync, audit = AsyncUserSync(pool), AuditLog(backend.dsn, spool_dir=tmp_path)
    app = FastAPI(lifespan=lifespan(pool, sync, audit))

    @app.get("/")
    async def users() -> int:
        audit.record("a.b")
        return (await sync.status()).users

    backend.sign_up()
    assert pool.closed
    with TestClient(app) as client:
        assert client.get("/").json() == 1
        assert not pool.closed
    assert pool.closed
    assert [each["action"] for each in backend.events()] == ["a.b"]
    # Work that continues when the worker ends may record: the next worker sends the event.
    assert audit.record("a.c")
    audit.close()


def test_arguments_are_closed_in_reverse_even_after_errors():
    said = []

    class Resource:
        def __init__(self, name):
            self.name = name

        async def __aenter__(self):
            said.append(f"{self.name} opens")

        async def __aexit__(self, *_):
            said.append(f"{self.name} closes")

    async def main():
        async with lifespan(Resource("a"), Resource("b"))(None):
            raise LookupError

    with pytest.raises(LookupError):
        asyncio.run(main())
    assert said == ["a opens", "b opens", "b closes", "a closes"]


def test_an_argument_that_does_not_close_does_not_delay_the_end(monkeypatch, caplog):
    """As a client whose connection does not answer."""
    monkeypatch.setattr(starlette, "_CLOSE_TIMEOUT_S", 0.1)

    @contextlib.asynccontextmanager
    async def stuck():
        yield
        await asyncio.Event().wait()

    async def main():
        async with lifespan(stuck())(None):
            pass

    asyncio.run(main())
    assert "could not be closed in 0.1 s" in caplog.text


@pytest.mark.parametrize(
    "by",
    [
        pytest.param(signal.SIGKILL, marks=pytest.mark.slow, id="killed"),
        pytest.param(signal.SIGTERM, id="recycled"),
    ],
)
def test_a_worker_that_ends_in_the_middle_of_a_request_loses_no_accepted_event(
    backend, tmp_path, eventually, by
):
    given = environment(backend, tmp_path)
    with Served(HERE, "recycled:app", given, "--timeout-graceful-shutdown", "0") as worker:
        with (
            worker.client() as client,
            client.stream("GET", "/work", headers={"X-Request-ID": "r"}) as response,
        ):
            ids = list(itertools.islice(response.iter_lines(), 50))
            worker.end(by)
        if by == signal.SIGTERM:
            # The request was cancelled, and its last event is sent before the worker ends.
            assert backend.events()[-1]["action"] == "work.broken_off"
        # Nothing is recorded from here on: the start of a worker sends the events of the last one.
        worker.start()
        eventually(lambda: len(backend.events()) >= len(ids))
    done = [each for each in backend.events() if each["action"] == "work.done"]
    assert sorted(each["id"] for each in done) == sorted(ids)
    assert {each["request_id"] for each in backend.events()} == {"r"}


def test_a_late_failure_of_closing_is_not_logged_by_asyncio(monkeypatch):
    """There is one warning. asyncio would also log an error with a traceback."""
    monkeypatch.setattr(starlette, "_CLOSE_TIMEOUT_S", 0.01)
    complaints = []

    class Silent:
        async def __aenter__(self):
            return self

        async def __aexit__(self, *_):
            await asyncio.sleep(0.1)
            raise OSError("the connection was lost")

    async def story():
        asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
        async with starlette._closing(Silent()):
            pass
        await asyncio.sleep(0.2)
        gc.collect()

    asyncio.run(story())
    assert complaints == []
