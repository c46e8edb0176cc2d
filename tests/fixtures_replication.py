"""Two real servers: a primary, and a second one from its base backup, as a standby or as a restored copy."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from audit_settings import with_audit_log
from proxy import Proxy
from usersync import AuditLog
from usersync.embedded import EmbeddedPostgres
from usersync.testing import SupabaseCluster
from usersync.testing.install import install

SETTINGS = {
    "fsync": "off",
    "shared_buffers": "16MB",
    "wal_level": "replica",
    "hot_standby": "on",
    "wal_keep_size": "128MB",
}


@dataclass
class Pair:
    """A primary, the directory of a second server, and the connection string that the application has."""

    root: Path
    primary: EmbeddedPostgres
    database: str
    dsn: str
    front: Proxy

    def back_up(self, *options: str) -> Path:
        """Make a base backup for a second server."""
        home = self.root / "second"
        home.mkdir(mode=0o711)
        shutil.copy(self.root / "first" / "cluster.json", home)
        address = make_conninfo(self.primary.dsn(), dbname="replication")
        command = [
            self.primary.bin_dir / "pg_basebackup",
            "-D",
            home / "pgdata",
            "-X",
            "stream",
            "-c",
            "fast",
        ]
        subprocess.run([*command, *options, "-d", address], check=True, capture_output=True, timeout=100)
        owner = (self.root / "first" / "pgdata").stat()
        for each in (home / "pgdata", *(home / "pgdata").rglob("*")):
            shutil.chown(each, owner.st_uid, owner.st_gid)
        return home

    def second(self, home: Path) -> EmbeddedPostgres:
        return EmbeddedPostgres(data_dir=home, version=self.primary.version, settings=SETTINGS)

    def standby(self, lag: Proxy) -> EmbeddedPostgres:
        """A streaming standby that receives the WAL through the proxy ``lag``."""
        home = self.back_up("-R")
        with (home / "pgdata" / "postgresql.auto.conf").open("a") as settings:
            settings.write(f"primary_conninfo = '{make_conninfo(self.primary.dsn(), port=lag.port)}'\n")
        return self.second(home)

    def restored(self, home: Path, point: str) -> EmbeddedPostgres:
        """A server from the base backup in ``home`` and the stopped primary's WAL up to the LSN ``point``."""
        archive = self.root / "archive"
        shutil.copytree(self.root / "first" / "pgdata" / "pg_wal", archive)
        for each in (archive, *archive.rglob("*")):
            each.chmod(0o755)
        with (home / "pgdata" / "postgresql.auto.conf").open("a") as settings:
            settings.write(
                f"restore_command = 'cp {archive}/%f %p'\nrecovery_target_lsn = '{point}'\n"
                "recovery_target_action = 'promote'\n"
            )
        (home / "pgdata" / "recovery.signal").touch()
        shutil.chown(home / "pgdata" / "recovery.signal", (home / "pgdata").stat().st_uid)
        return self.second(home)

    def lose_events(self, exit_stack: ExitStack, **options: Any) -> tuple[list[str], EmbeddedPostgres]:
        """Record five events, then seven, and restore the database to the point between them.

        Returns the ids of all events, and the restored server, to which the application now connects.
        """
        home = self.back_up()
        with AuditLog(self.dsn, **options) as log:
            ids = [log.record("before") for _ in range(5)]
            assert log.flush(30)
            with psycopg.connect(self.primary.dsn()) as connection:
                (point,) = connection.execute("select pg_current_wal_lsn()").fetchone()
            ids += [log.record("after") for _ in range(7)]
            assert log.flush(30)
        with psycopg.connect(self.primary.dsn(), autocommit=True) as connection:
            connection.execute("select pg_switch_wal()")
        self.primary.stop()
        restored = exit_stack.enter_context(self.restored(home, point))
        self.fail_over_to(restored)
        return ids, restored

    def ids(self, server: EmbeddedPostgres) -> list[str]:
        with psycopg.connect(server.dsn(self.database)) as connection:
            return [str(row[0]) for row in connection.execute("select id from public.audit_logs").fetchall()]

    def fail_over_to(self, server: EmbeddedPostgres) -> None:
        """Make the application's connection string lead to another server, as a failover does."""
        self.front._target = (server.host, server.port)


@pytest.fixture
def exit_stack():
    with ExitStack() as stack:
        yield stack


@pytest.fixture
def pair(servers, exit_stack):
    # A directory that the account that runs the server can read.
    root = Path(tempfile.mkdtemp(prefix="pair", dir=servers._root))
    root.chmod(0o711)
    exit_stack.callback(shutil.rmtree, root, ignore_errors=True)
    primary = exit_stack.enter_context(EmbeddedPostgres(data_dir=root / "first", settings=SETTINGS))
    cluster = exit_stack.enter_context(SupabaseCluster.on(primary))
    database = cluster.create()
    install(database, with_audit_log())
    front = exit_stack.enter_context(Proxy(primary.host, primary.port))
    dsn = front.through(database.dsn())
    cluster.maintenance.close()
    return Pair(root, primary, database.name, dsn, front)


def has_replayed(primary, standby):
    with psycopg.connect(primary.dsn()) as first, psycopg.connect(standby.dsn()) as second:
        (written,) = first.execute("select pg_current_wal_lsn()").fetchone()
        (there,) = second.execute("select pg_last_wal_replay_lsn() >= %s::pg_lsn", [written]).fetchone()
    return there


def is_writable(server):
    with psycopg.connect(server.dsn()) as connection:
        return not connection.execute("select pg_is_in_recovery()").fetchone()[0]
