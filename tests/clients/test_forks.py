"""A client that is created and used before its process forks."""

from __future__ import annotations

import asyncio
import http.client
import multiprocessing
import os
import socket
import subprocess
import sys
import threading
import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psycopg
import pytest
from psycopg_pool import ConnectionPool

from usersync import AsyncUserSync, UserSync
from usersync.transports.fork_gate import GatedAsyncConnection, GatedConnection
from usersync.transports.psycopg import connect
from usersync.transports.psycopg_async import connect_async
from usersync.transports.steps import query
from waiting import until

pytestmark = [
    pytest.mark.newest_server,
    # Python warns about forks of a process with threads.
    pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning"),
]

UNKNOWN_USER = uuid.UUID(int=7)
FORK = multiprocessing.get_context("fork")
CALLS = 100


def in_child(work):
    """Run ``work`` in a forked process. Calling the result gives the value, or the error as text."""
    receiver, sender = FORK.Pipe(duplex=False)

    def main():
        try:
            sender.send(work())
        except Exception as error:  # noqa: BLE001 - the parent checks it
            sender.send(f"{type(error).__name__}: {error}")

    process = FORK.Process(target=main)
    process.start()
    sender.close()

    def result():
        try:
            assert receiver.poll(60), "the child hangs"
            return receiver.recv()
        finally:
            process.kill()
            process.join()

    return result


def backend_pid(client):
    """The id of the server process that answers this client."""
    return client._transport._own.info.backend_pid


def ask(client, user):
    """Whether each answer belongs to its question. The answers alternate, so a wrong one is noticed."""
    answers = [client.user_exists(user if number % 2 else UNKNOWN_USER) for number in range(CALLS)]
    return answers == [bool(number % 2) for number in range(CALLS)]


@pytest.fixture
def user(project):
    return project.auth.sign_up_email("ada@example.com")


def test_a_parent_and_two_children_get_their_own_answers(project, user):
    with UserSync(project.database.dsn()) as client:
        assert client.user_exists(user)
        children = [in_child(lambda: (ask(client, user), backend_pid(client))) for _ in range(2)]
        here = ask(client, user), backend_pid(client)
        found = [here, *(child() for child in children)]
        assert [right for right, _ in found] == [True] * 3
        assert len({session for _, session in found}) == 3
        assert ask(client, user), "the children have ended"
        assert backend_pid(client) == here[1]


def test_a_child_can_use_the_client_while_a_thread_of_the_parent_waits(project, user):
    waiting = (
        "select 1 from pg_stat_activity where datname = current_database() "
        "and application_name = 'forking' and wait_event = 'advisory'"
    )
    dsn = project.database.dsn() + "?application_name=forking"
    with UserSync(dsn) as client, project.database.connect("supabase_admin") as other:
        other.execute("select pg_advisory_lock(7)")
        with ThreadPoolExecutor(1) as threads:
            call = threads.submit(client._transport.run, query("select pg_advisory_lock(7)"))
            try:
                until(lambda: other.execute(waiting).fetchone() or call.done())
                assert not call.done()
                assert in_child(lambda: ask(client, user))() is True
            finally:
                other.execute("select pg_advisory_unlock(7)")
            assert call.result(90)
        assert ask(client, user)


def test_a_child_can_use_an_asyncio_client(project, user):
    client = AsyncUserSync(project.database.dsn())

    async def main():
        answers = [await client.user_exists(user if number % 2 else UNKNOWN_USER) for number in range(CALLS)]
        return answers == [bool(number % 2) for number in range(CALLS)]

    async def close():
        await client.close()

    with asyncio.Runner() as runner:
        assert runner.run(main())
        child = in_child(lambda: asyncio.run(main()))
        assert runner.run(main())
        assert child() is True
        assert runner.run(main())
        runner.run(close())


def test_a_connection_or_pool_of_the_parent_raises_in_a_child(project, user):
    with (
        psycopg.connect(project.database.dsn(), autocommit=True) as connection,
        ConnectionPool(project.database.dsn(), min_size=1, open=True) as pool,
    ):
        for client in (UserSync(connection), UserSync(pool)):
            assert client.user_exists(user)
            answer = in_child(lambda client=client: client.user_exists(user))()
            assert answer.startswith("ConnectionFailedError: this ")
            assert f"created in process {os.getpid()}" in answer
            assert ask(client, user)


@pytest.mark.slow
def test_children_get_right_answers_while_the_parent_is_busy(project, user):
    with UserSync(project.database.dsn()) as client:
        stop = threading.Event()

        def load():
            right = True
            while not stop.is_set():
                right = right and client.user_exists(user) and not client.user_exists(UNKNOWN_USER)
            return right

        with ThreadPoolExecutor(4) as threads:
            loads = [threads.submit(load) for _ in range(4)]
            try:
                answer = [in_child(lambda: ask(client, user))() for _ in range(10)]
            finally:
                stop.set()
            assert answer == [True] * 10
            assert all(each.result(30) for each in loads)


@pytest.mark.slow
@pytest.mark.parametrize(
    "workers", [("sync",), ("gthread", "--threads", "4"), ("gevent",)], ids=lambda kind: kind[0]
)
def test_gunicorn_workers_with_preload_get_right_answers(project, user, tmp_path, workers):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        command = [
            *(sys.executable, "-m", "gunicorn", "--preload", "--workers", "2", "--worker-class", *workers),
            *("--bind", f"fd://{listener.fileno()}", "--no-control-socket", "preloaded:application"),
        ]
        environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(tmp_path),
            "DSN": project.database.dsn(),
            "PYTHONPATH": str(Path(__file__).parent),
        }
        process = subprocess.Popen(command, env=environment, cwd=tmp_path, pass_fds=[listener.fileno()])
        try:

            def get(number):
                connection = http.client.HTTPConnection(*listener.getsockname(), timeout=60)
                connection.request("GET", f"/{user if number % 2 else UNKNOWN_USER}")
                answer, pid = connection.getresponse().read().split()
                connection.close()
                return answer == str(bool(number % 2)).encode(), pid

            with ThreadPoolExecutor(8) as threads:
                answers = list(threads.map(get, range(300)))
        finally:
            process.terminate()
            process.wait(60)
    assert all(right for right, _ in answers)
    assert len({pid for _, pid in answers}) == 2


def test_a_fork_waits_for_a_client_that_connects(project):
    """Otherwise the child could inherit a lock of libpq or OpenSSL that is never released."""
    with connect(project.database.dsn()) as connection:
        assert isinstance(connection, GatedConnection)

    async def opened():
        async with await connect_async(project.database.dsn()) as connection:
            return isinstance(connection, GatedAsyncConnection)

    assert asyncio.run(opened())
