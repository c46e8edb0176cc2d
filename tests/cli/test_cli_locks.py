"""A table that another session has locked: every command gives up soon, and says who holds the lock."""

from __future__ import annotations

import time

import psycopg
import pytest

from usersync.cli.main import run
from usersync.settings import Settings
from usersync.sql.render import COMMAND_LOCK_TIMEOUT
from usersync.testing.install import install

pytestmark = pytest.mark.newest_server


@pytest.fixture
def locked(database, tmp_path, monkeypatch):
    """Locks a table for as long as the test runs."""
    install(database, Settings())
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SUPABASE_DB_URL", database.dsn())
    with psycopg.connect(database.dsn("supabase_admin")) as other:

        def lock(table):
            other.execute(f"lock table {table} in access exclusive mode")
            return other.info.backend_pid

        yield lock


@pytest.mark.parametrize(
    ("command", "table"),
    [
        (["status"], "auth.users"),
        (["sync"], "public.users"),
        (["failures"], "usersync.sync_failures"),
        (["metrics"], "public.users"),
        (["plan"], "usersync.functions"),
        (["apply", "--yes"], "usersync.settings"),
        (["audit", "search"], "public.audit_logs"),
        (["audit", "track", "public.users"], "public.users"),
    ],
)
def test_a_command_says_who_holds_the_lock(locked, capsys, command, table):
    pid, started = locked(table), time.monotonic()
    assert run(command) == 1
    said = " ".join("".join(capsys.readouterr()).split())
    assert time.monotonic() - started < 60
    assert "US204" in said
    assert f"pid {pid}, user supabase_admin, idle in transaction since" in said
    assert f"holds AccessExclusiveLock on {table}: lock table {table}" in said
    assert f"select pg_terminate_backend({pid})" in said


@pytest.mark.parametrize("table", ["public.audit_logs", "public.users", "auth.users"])
def test_doctor_says_who_holds_the_lock(locked, capsys, table):
    pid = locked(table)
    assert run(["doctor"]) == 1
    said = " ".join(capsys.readouterr().out.split())
    assert f"pid {pid}, user supabase_admin" in said
    assert "cannot look" not in said


def test_a_command_leaves_no_setting_in_the_session_of_a_pooler(locked, database):
    """The time-out is the session's own on a direct connection, and the function's elsewhere."""
    with psycopg.connect(database.dsn(), autocommit=True) as connection:
        (config,) = connection.execute(
            "select proconfig from pg_proc where oid = 'public.user_sync_status()'::regprocedure"
        ).fetchone()
    assert f"lock_timeout={COMMAND_LOCK_TIMEOUT}" in config
