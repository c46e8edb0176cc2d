"""Through PgBouncer in transaction mode, as Supavisor on port 6543: any server for each transaction."""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
import subprocess
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psycopg
import pytest

from usersync import AsyncUserSync, UserSync
from usersync.connecting import connection_options
from usersync.models import Counts
from usersync.plans import schema
from usersync.runner import run
from usersync.settings import Settings

pytestmark = pytest.mark.newest_server

SERVERS = 3

CONFIGURATION = """
[databases]
* = host={host} port={server_port}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
pool_mode = transaction
default_pool_size = {servers}
max_client_conn = 200
auth_type = scram-sha-256
auth_file = {directory}/users.txt
logfile = {directory}/log
pidfile = {directory}/pid
"""

# It refuses to be root. The signal on the parent's death: no process is left behind, however the suite ends.
AS_NOBODY = ["setpriv", "--pdeathsig", "TERM", "--reuid", "65534", "--regid", "65534", "--clear-groups"]
AS_OURSELVES = ["setpriv", "--pdeathsig", "TERM"]


@pytest.fixture
def pooled(database):
    """The address of a database through PgBouncer."""
    binary = shutil.which("pgbouncer", path=f"{os.environ['PATH']}:/usr/sbin")
    if binary is None or shutil.which("setpriv") is None:
        pytest.skip("needs pgbouncer and setpriv (apt-get install pgbouncer util-linux)")
    with tempfile.TemporaryDirectory(prefix="usersync-pgbouncer-") as name:
        directory = Path(name)
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        users = "".join(f'"{role}" "{password}"\n' for role, password in database.passwords.items())
        (directory / "users.txt").write_text(users)
        (directory / "ini").write_text(
            CONFIGURATION.format(
                host=database.host, server_port=database.port, port=port, directory=directory, servers=SERVERS
            )
        )
        root = os.geteuid() == 0
        for each in (directory, *directory.iterdir()):
            if root:
                os.chown(each, 65534, 65534)
        command = [*(AS_NOBODY if root else AS_OURSELVES), binary, "--quiet", str(directory / "ini")]
        process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        try:
            dsn = database.dsn().replace(f":{database.port}/", f":{port}/")
            wait_for(dsn, process, directory / "log")
            yield dsn
        finally:
            process.terminate()
            process.wait(10)


def wait_for(dsn: str, process: subprocess.Popen, log: Path) -> None:
    deadline = time.monotonic() + 20
    while True:
        try:
            psycopg.connect(dsn, connect_timeout=5).close()
        except psycopg.OperationalError:
            said = log.read_text() if log.exists() else ""
            assert process.poll() is None, said
            assert time.monotonic() < deadline, said
        else:
            return


@pytest.fixture
def installed(pooled):
    with psycopg.connect(pooled, **connection_options()) as connection:
        run(schema.apply(Settings()), connection)
    return pooled


def test_it_is_installed_and_taken_back_through_the_pooler(installed, database):
    with psycopg.connect(installed, **connection_options()) as connection:
        assert run(schema.plan(Settings()), connection).changes == ()
        assert run(schema.apply(Settings()), connection).changes == ()
        run(schema.rollback(Settings(), drop_users_table=True, drop_audit_log=True), connection)
    with database.connect() as direct:
        assert direct.execute("select to_regnamespace('usersync')").fetchone() == (None,)


def sign_ups(database, count: int) -> list:
    with database.connect("supabase_admin") as superuser:
        superuser.execute("set session_replication_role = replica")
        rows = superuser.execute(
            "insert into auth.users (id, email) select gen_random_uuid(), n || '@example.com' "
            "from generate_series(1, %s) as n returning id",
            [count],
        ).fetchall()
    return [row[0] for row in rows]


def test_many_clients_share_a_few_servers(installed, database):
    users = sign_ups(database, 120)

    def work(mine):
        with UserSync(installed) as client:
            answers = [client.ensure_user_exists(user) for user in mine]
            return (*answers, *(client.sync_auth_user(user) for user in mine), client.status().failed == 0)

    with ThreadPoolExecutor(24) as threads:
        assert all(all(answers) for answers in threads.map(work, (users[start::24] for start in range(24))))
    with database.connect() as direct:
        count = "select count(*) from pg_stat_activity where datname = %s and pid <> pg_backend_pid()"
        sessions = direct.execute(count, [database.name]).fetchone()[0]
    assert 1 <= sessions <= SERVERS
    with UserSync(installed) as client:
        assert client.status().in_step


def test_many_asyncio_clients_share_a_few_servers(installed, database):
    users = sign_ups(database, 120)

    async def work(mine):
        async with AsyncUserSync(installed) as client:
            answers = [await client.ensure_user_exists(user) for user in mine]
            return answers + [await client.sync_auth_user(user) for user in mine]

    async def story():
        return await asyncio.gather(*(work(users[start::24]) for start in range(24)))

    assert all(all(answers) for answers in asyncio.run(story()))


@pytest.mark.parametrize("workers", [1, 4])
def test_a_run_goes_through_the_pooler(installed, database, workers):
    sign_ups(database, 30)
    with UserSync(installed) as client:
        assert client.reconcile(page_size=2, workers=workers).counts == Counts(examined=30, missing=30)
        assert client.reconcile(dry_run=True).counts == Counts(examined=30)
        assert client.retry().counts == Counts()
        assert client.failures() == []


def test_nothing_that_was_set_stays_behind_on_a_shared_server(installed, database):
    with psycopg.connect(installed, **connection_options()) as connection:
        run(schema.apply(Settings()), connection)
        for _ in range(SERVERS * 2):
            shown = connection.execute(
                "select current_setting('lock_timeout'), current_setting('search_path')"
            ).fetchone()
            assert shown[0] == "0"
            assert "public" in shown[1]
