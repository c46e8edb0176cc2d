"""``usersync audit spool`` delivers events only to the database for which they were recorded."""

from __future__ import annotations

import sqlite3
from contextlib import closing

import pytest

from old_spool_files import old_spool_file
from usersync import AuditLog
from usersync.audit.spool import file_format
from usersync.audit.spool.address import destination_of
from usersync.core.position import DatabasePosition

pytestmark = pytest.mark.newest_server


@pytest.fixture
def actions(project):
    """A function that returns the actions of the stored events."""

    def ask():
        rows = project.owner.execute("select action from public.audit_logs order by id").fetchall()
        return [row[0] for row in rows]

    return ask


def test_a_spool_in_an_old_format_with_an_ambiguous_name_is_reported(project, usersync, spool_dir, actions):
    """Behind a pooler, host, port and database name are the same for every project."""
    for dsn in (
        "postgresql://postgres.abc@aws-0-eu.pooler.supabase.com:6543/postgres",
        "postgresql://postgres@127.0.0.1:54322/postgres",
        "postgresql://postgres@h/db?options=reference%3Dabc",
    ):
        assert destination_of(dsn, None).former is None
    old_spool_file(spool_dir / "pooler-5432-postgres-0123abcd", "of.former")
    spool = (
        "audit",
        "spool",
        "--dir",
        spool_dir,
        "--project",
        "pooler-5432-postgres-0123abcd",
        "--dsn",
        project.database.dsn(),
    )
    done = usersync(*spool, "--drain")
    assert done.code == 1
    assert "1 event for any database" in done.out
    assert "--confirm-project" in done.out
    assert actions() == []
    done = usersync(*spool, "--drain", "--confirm-project", "--json")
    assert (done.code, done.json["delivered"], done.json["left"]) == (0, 1, [])
    assert actions() == ["of.former"]


def test_confirm_project_delivers_to_this_database(project, usersync, spool_dir, actions):
    log = AuditLog("postgresql://postgres@127.0.0.1:1/nowhere", spool_dir=spool_dir)
    log.record("a.b")
    log.close(0)
    (path,) = spool_dir.rglob("*.spool")
    with closing(sqlite3.connect(path)) as connection, connection:
        position = DatabasePosition("00000000-0000-4000-8000-000000000001", "1/1", "00000001")
        file_format.remember(connection, position)
    spool = (
        "audit",
        "spool",
        "--drain",
        "--dir",
        spool_dir,
        "--project",
        path.parent.name,
        "--dsn",
        project.database.dsn(),
    )
    done = usersync(*spool)
    assert (done.code, actions()) == (1, [])
    assert "postgres@127.0.0.1:1/nowhere (installation 00000000-0000-4000-8000-000000000001)" in " ".join(
        done.out.split()
    )
    done = usersync(*spool, "--confirm-project")
    assert done.code == 0
    assert actions() == ["a.b"]


@pytest.mark.slow
def test_rollback_and_apply_keep_the_installation_id(database, usersync):
    found = []
    for _ in range(2):
        assert usersync("apply", "--yes", "--no-trial", "--dsn", database.dsn()).code == 0
        with database.connect() as owner:
            found += owner.execute("select installation from usersync.settings").fetchall()
            assert usersync("apply", "--yes", "--no-trial", "--dsn", database.dsn()).code == 0
            assert owner.execute("select installation from usersync.settings").fetchall() == found[-1:]
        assert usersync("rollback", "--yes", "--dsn", database.dsn()).code == 0
    assert found[0] == found[1]
