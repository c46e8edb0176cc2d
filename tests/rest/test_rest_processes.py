"""Clients of the Data API at process exit, after forks, in threads and tasks, and without httpx installed."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import textwrap
import uuid
from concurrent.futures import ThreadPoolExecutor

import pytest
from misbehaving_server import answering

from postgrest_server import SECRET_KEY
from usersync import AsyncUserSync, DataApi, UserSync

USER_ID = uuid.UUID(int=7)
TRUE = answering("200 OK", b"true")


def python(code: str, url: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"SUPABASE_URL": url, "SUPABASE_SECRET_KEY": SECRET_KEY}
    # Newer Python versions warn of a fork in a process with threads. These tests check that such forks work.
    warnings = ["-W", "error", "-W", "ignore:This process:DeprecationWarning"]
    return subprocess.run(
        [sys.executable, *warnings, "-c", textwrap.dedent(code)],
        env=environment, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


def test_an_unclosed_client_does_not_keep_the_process_alive(misbehaving):
    done = python(
        """
        import warnings
        from usersync import DataApi, UserSync
        # The interpreter may come to the open connection while it ends, and may not.
        warnings.simplefilter("ignore", ResourceWarning)
        client = UserSync(DataApi.from_env())
        assert client.ensure_user_exists("00000000-0000-0000-0000-000000000007")
        """,
        misbehaving(TRUE).url,
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_a_forked_process_uses_its_own_connection(misbehaving):
    server = misbehaving(TRUE)
    done = python(
        """
        import os
        from usersync import DataApi, UserSync
        client = UserSync(DataApi.from_env())
        assert client.ensure_user_exists("00000000-0000-0000-0000-000000000007")
        if os.fork() == 0:
            os._exit(0 if client.ensure_user_exists("00000000-0000-0000-0000-000000000008") else 1)
        _, status = os.wait()
        assert status == 0, status
        assert client.ensure_user_exists("00000000-0000-0000-0000-000000000009")
        client.close()
        """,
        server.url,
    )
    assert done.returncode == 0, done.stderr
    # Each process also requests the identity of the database.
    assert len([each for each in server.requests if b'"position"' not in each]) == 3


@pytest.mark.parametrize("kind", ["UserSync", "AuditLog"])
def test_the_error_without_httpx_says_how_to_install_it(kind):
    done = python(
        f"""
        import sys
        sys.modules["httpx"] = None
        from usersync import DataApi, {kind}
        from usersync.errors import SettingsError
        try:
            {kind}(DataApi.from_env())
        except SettingsError as error:
            print(error.hint)
        """,
        "https://abc.supabase.co",
    )
    assert (done.stdout, done.stderr) == ("pip install httpx\n", "")


def test_many_threads_can_share_a_client(misbehaving):
    with UserSync(DataApi(misbehaving(TRUE).url, SECRET_KEY)) as sync, ThreadPoolExecutor(16) as threads:
        ids = [uuid.UUID(int=number) for number in range(64)]
        assert all(threads.map(sync.ensure_user_exists, ids))


def test_a_closed_client_connects_again(misbehaving):
    sync = UserSync(DataApi(misbehaving(TRUE).url, SECRET_KEY))
    for number in range(3):
        assert sync.ensure_user_exists(uuid.UUID(int=number))
        sync.close()
    sync.close()


def test_many_tasks_can_share_a_client(misbehaving):
    api = DataApi(misbehaving(TRUE).url, SECRET_KEY)

    async def call():
        async with AsyncUserSync(api) as sync:
            return await asyncio.gather(*(sync.ensure_user_exists(uuid.UUID(int=n)) for n in range(64)))

    assert all(asyncio.run(call()))
