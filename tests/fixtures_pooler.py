"""PgBouncer in transaction mode, like Supavisor on port 6543: each transaction may get another server
connection.
"""

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

from hooks_skips import skip_without

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

# PgBouncer does not run as root. --pdeathsig ends it with the suite, even if the suite is killed.
AS_NOBODY = ["setpriv", "--pdeathsig", "TERM", "--reuid", "65534", "--regid", "65534", "--clear-groups"]
AS_OURSELVES = ["setpriv", "--pdeathsig", "TERM"]


@pytest.fixture
def pooled(database) -> Iterator[str]:
    """The connection string of a database through PgBouncer."""
    with pgbouncer(database) as dsn:
        yield dsn


@contextmanager
def pgbouncer(database: SupabaseDatabase) -> Iterator[str]:
    """Run PgBouncer for a database.

    Yields its connection string, or skips the test if PgBouncer is not installed.
    """
    binary = shutil.which("pgbouncer", path=f"{os.environ['PATH']}:/usr/sbin")
    if binary is None or shutil.which("setpriv") is None:
        skip_without("PgBouncer")
    with tempfile.TemporaryDirectory(prefix="usersync-pgbouncer-") as name:
        process, port = _start(binary, database, Path(name))
        try:
            yield database.dsn().replace(f":{database.port}/", f":{port}/")
        finally:
            process.terminate()
            process.wait(60)


def _start(binary: str, database: SupabaseDatabase, directory: Path) -> tuple[subprocess.Popen, int]:
    """Start PgBouncer.

    Returns the process and its port. Tries another port if another program takes the first one.
    """
    for _ in range(5):
        port = _configure(database, directory)
        command = [*(AS_NOBODY if os.geteuid() == 0 else AS_OURSELVES), binary, "--quiet"]
        process = subprocess.Popen([*command, str(directory / "ini")], stderr=subprocess.DEVNULL)
        if serves(database.dsn().replace(f":{database.port}/", f":{port}/"), process):
            return process, port
        process.terminate()
        process.wait(60)
    raise AssertionError((directory / "log").read_text())


def _configure(database: SupabaseDatabase, directory: Path) -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    users = "".join(f'"{role}" "{password}"\n' for role, password in database.passwords.items())
    (directory / "users.txt").write_text(users)
    (directory / "ini").write_text(
        CONFIGURATION.format(
            host=database.host, server_port=database.port, port=port, directory=directory, servers=SERVERS
        )
    )
    if os.geteuid() == 0:
        for each in (directory, *directory.iterdir()):
            os.chown(each, 65534, 65534)
    return port


def serves(dsn: str, process: subprocess.Popen) -> bool:
    """Wait until the process accepts connections.

    False if it ended, or does not accept them within a minute.
    """
    deadline = time.monotonic() + 60
    while process.poll() is None and time.monotonic() < deadline:
        try:
            psycopg.connect(dsn, connect_timeout=30).close()
        except psycopg.OperationalError:
            time.sleep(0.02)
        else:
            return True
    return False
