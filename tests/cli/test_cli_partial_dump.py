"""A dump of the schema public alone has the audit log's table without events. Commands report this."""

from __future__ import annotations

import subprocess

import pytest

from audit_settings import write_settings
from hooks_skips import skip_without

pytestmark = pytest.mark.newest_server


@pytest.fixture
def dump(server, usersync, database, directory, monkeypatch):
    """A dump of the schema public, from a project with an event and a tracked table."""
    if not (server.bin_dir / "pg_dump").exists():
        skip_without("pg_dump", f"none in {server.bin_dir}")
    write_settings(directory)
    monkeypatch.setenv("SUPABASE_DB_URL", database.dsn())
    assert usersync("apply", "--yes", "--no-trial").code == 0
    with database.connect() as owner:
        owner.execute("create table public.orders (id int primary key)")
        assert usersync("audit", "track", "orders").code == 0
        owner.execute("insert into public.orders values (1)")
    return subprocess.run(
        [server.bin_dir / "pg_dump", "--schema=public", database.dsn("supabase_admin")],
        capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip


@pytest.fixture
def restored(cluster, server, dump, monkeypatch):
    """The dump, restored into another database."""
    other = cluster.create(regime="new")
    # psql continues after errors, as by default.
    subprocess.run(
        [server.bin_dir / "psql", other.dsn("supabase_admin"), "--quiet"],
        input=dump, capture_output=True, text=True, check=True,
    )  # fmt: skip
    monkeypatch.setenv("SUPABASE_DB_URL", other.dsn())
    yield other
    cluster.drop(other)


@pytest.mark.slow
def test_commands_report_the_missing_events_after_a_restore_of_public(usersync, restored):
    with restored.connect() as owner:
        assert owner.execute("select count(*) from public.audit_logs").fetchone() == (0,)
    for command in (["plan"], ["doctor"], ["apply", "--yes", "--no-trial"]):
        said = " ".join(usersync(*command).out.split())
        assert "public.audit_logs has no partitions, so it has no events" in said, (command, said)
        assert "nor the triggers of tracked tables" in said, (command, said)
        assert "usersync audit track" in said, (command, said)
