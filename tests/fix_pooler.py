"""PgBouncer in transaction mode, as Supavisor on port 6543: any server for each transaction."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg
import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from usersync.testing import SupabaseDatabase

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
def pooled(database) -> Iterator[str]:
    """The address of a database through PgBouncer."""
    with pgbouncer(database) as dsn:
        yield dsn


@contextmanager
def pgbouncer(database: SupabaseDatabase) -> Iterator[str]:
    """Run one for a database, and give its address; skips where there is none on this machine."""
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
