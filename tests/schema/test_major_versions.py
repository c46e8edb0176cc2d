"""Another major version of PostgreSQL: pg_upgrade, and a dump of 18 that is restored into 17."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from contextlib import ExitStack
from pathlib import Path

import psycopg
import pytest

from audit_settings import with_audit_log
from hooks_skips import skip_without
from usersync import UserSync
from usersync.audit.tracking.operations import track
from usersync.audit.tracking.state import TrackOptions
from usersync.audit.tracking.tables import tracked
from usersync.doctor import examine
from usersync.embedded import EmbeddedPostgres, installed_versions
from usersync.embedded.identity import namespace
from usersync.schema import installation
from usersync.testing import GoTrue, SupabaseCluster
from usersync.testing.install import install
from usersync.transports.run import run

pytestmark = pytest.mark.slow

OLD, NEW = 16, 18


@pytest.fixture
def root(servers):
    """A directory that the servers' account may access."""
    root = Path(tempfile.mkdtemp(prefix="upgrade", dir=servers._root))
    root.chmod(0o711)
    yield root
    shutil.rmtree(root, ignore_errors=True)


@pytest.fixture(autouse=True)
def _versions():
    for version in (OLD, 17, NEW):
        if version not in installed_versions():
            skip_without(f"PostgreSQL {version}")


def fill(database):
    """A user, a tracked table with a row, and the events of both."""
    install(database, with_audit_log())
    with database.connect() as owner, GoTrue(database.dsn("supabase_auth_admin")) as auth:
        user = auth.sign_up_email("ada@example.com")
        owner.execute("create table public.orders (id int primary key, buyer uuid, price float8)")
        run(track(with_audit_log(), "public.orders", TrackOptions(), lambda *_: False), owner)
        owner.execute("insert into public.orders values (1, %s, 0.1)", [user])
    return user


def assert_works(dsn, auth_dsn, user):
    """Check that the installation is complete, no data is lost, and new changes are synced and recorded."""
    with psycopg.connect(dsn, autocommit=True) as owner, GoTrue(auth_dsn) as auth:
        assert not run(installation.plan(with_audit_log()), owner).changes
        assert [table.state for table in run(tracked(with_audit_log()), owner)] == ["current"]
        assert {
            each.code: each.detail for each in run(examine(with_audit_log()), owner) if each.findings
        } == {}
        later = auth.sign_up_email("bob@example.com")
        assert set(owner.execute("select id from public.users").fetchall()) == {(user,), (later,)}
        owner.execute("update public.orders set price = 0.3")
        assert owner.execute(
            "select action, changes -> 'price' from public.audit_logs order by recorded_at"
        ).fetchall() == [
            ("orders.inserted", [None, 0.1]),
            ("orders.updated", [0.1, 0.3]),
        ]
        assert owner.execute("select count(*) from usersync.audit_rejects").fetchone() == (0,)
    with UserSync(dsn) as client:
        assert client.status().in_step


def as_server(root, command, **env):
    """Run a program of the server as the server's account, because it refuses to run as root."""
    owner = (root / "old" / "pgdata").stat()
    way = {}
    if os.geteuid() == 0:
        way = (
            {"preexec_fn": namespace().assume}
            if owner.st_uid == 0
            else {"user": owner.st_uid, "group": owner.st_gid, "extra_groups": []}
        )
    work = root / "work"
    if not work.exists():
        work.mkdir()
        shutil.chown(work, owner.st_uid, owner.st_gid)
    done = subprocess.run(
        [str(each) for each in command],
        cwd=work,
        env={**os.environ, **env},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
        **way,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_an_installation_works_after_pg_upgrade(root):
    with ExitStack() as servers:
        old = servers.enter_context(EmbeddedPostgres(data_dir=root / "old", version=OLD))
        cluster = servers.enter_context(SupabaseCluster.on(old))
        database = cluster.create()
        user = fill(database)
        cluster.maintenance.close()
        old_bin, passwords = old.bin_dir, database.passwords
        login = psycopg.conninfo.conninfo_to_dict(old.dsn())
        old.stop()
        # A cluster of 18 has checksums, so both clusters require them.
        as_server(root, [old_bin / "pg_checksums", "--enable", "-D", root / "old" / "pgdata"])
    with EmbeddedPostgres(data_dir=root / "new", version=NEW) as new:
        new_bin, own = new.bin_dir, psycopg.conninfo.conninfo_to_dict(new.dsn())
        new.stop()

        for home in ("old", "new"):
            # pg_upgrade starts both servers, with sockets in a private directory.
            trust = root / home / "pgdata" / "pg_hba.conf"
            trust.write_text("local all all trust\n")
        as_server(
            root,
            [
                new_bin / "pg_upgrade", "--old-bindir", old_bin, "--new-bindir", new_bin,
                "--old-datadir", root / "old" / "pgdata", "--new-datadir", root / "new" / "pgdata",
                "--username", own["user"], "--no-sync",
            ],
        )  # fmt: skip
        (root / "new" / "pgdata" / "pg_hba.conf").write_text("host all all 127.0.0.1/32 scram-sha-256\n")
        new.start()
        here = {"host": new.host, "port": new.port, "dbname": database.name}
        with psycopg.connect(user=own["user"], password=login["password"], **here) as connection:
            assert connection.info.server_version // 10_000 == NEW
        assert_works(
            psycopg.conninfo.make_conninfo(user="postgres", password=passwords["postgres"], **here),
            psycopg.conninfo.make_conninfo(
                user="supabase_auth_admin", password=passwords["supabase_auth_admin"], **here
            ),
            user,
        )


def test_a_dump_of_18_is_restored_into_17(servers):
    """Tracking continues, because no function uses features of 18."""
    programs = servers.server(NEW).bin_dir
    if not (programs / "pg_dump").exists():
        skip_without("pg_dump", f"none in {programs}")
    there, here = servers.cluster(NEW), servers.cluster(17)
    database, restored = there.create(regime="new"), here.create(regime="new")
    try:
        user = fill(database)
        schemas = ["--schema=public", "--schema=usersync"]
        dump = subprocess.run(
            [programs / "pg_dump", *schemas, database.dsn("supabase_admin")],
            capture_output=True, text=True, check=True,
        ).stdout  # fmt: skip
        # Settings of 18 only, existing objects, and objects of the platform.
        ahead = (
            "SET transaction_timeout",
            "CREATE SCHEMA public;",
            "ALTER DEFAULT",
            "\\restrict",
            "\\unrestrict",
        )
        dump = "\n".join(line for line in dump.splitlines() if not line.startswith(ahead))
        users = subprocess.run(
            [programs / "pg_dump", "--data-only", "--table=auth.users", database.dsn("supabase_admin")],
            capture_output=True, text=True, check=True,
        ).stdout  # fmt: skip
        users = "\n".join(line for line in users.splitlines() if not line.startswith(ahead))
        for text, role in ((users, "supabase_admin"), (dump, "postgres")):
            done = subprocess.run(
                [programs / "psql", restored.dsn(role), "--quiet", "--set=ON_ERROR_STOP=1"],
                input=text, capture_output=True, text=True, check=False,
            )  # fmt: skip
            assert done.returncode == 0, done.stderr
        with restored.connect() as owner:
            subjects = [change.subject for change in run(installation.plan(with_audit_log()), owner).changes]
            assert not [each for each in subjects if each.startswith("function")]
            run(installation.apply(with_audit_log()), owner)
        assert_works(restored.dsn(), restored.dsn("supabase_auth_admin"), user)
    finally:
        there.drop(database)
        here.drop(restored)
