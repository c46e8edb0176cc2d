"""Commands on a table that another session has locked: each stops soon and names that session."""

from __future__ import annotations

import threading

import psycopg
import pytest

from audit_settings import with_audit_log
from fixtures_project import clone_installed
from usersync.cli.main import run
from usersync.sql.render import COMMAND_LOCK_TIMEOUT, LOCK_KEY
from waiting import give_up_soon, until

pytestmark = pytest.mark.newest_server


@pytest.fixture
def database(cluster):
    database = clone_installed(cluster, with_audit_log())
    yield database
    cluster.drop(database)


@pytest.fixture
def locked(database, tmp_path, monkeypatch):
    """A function that locks a table until the end of the test."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SUPABASE_DB_URL", database.dsn())
    with psycopg.connect(database.dsn("supabase_admin")) as other:

        def lock(table):
            other.execute(f"lock table {table} in access exclusive mode")
            return other.info.backend_pid

        yield lock


@pytest.fixture
def locked_to_the_end(locked, database, monkeypatch):
    """The same, and commands wait for a lock for 0.1 s instead of 5 s."""
    with database.connect() as owner:
        give_up_soon(monkeypatch, owner)
    return locked


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
def test_the_error_names_the_session_with_the_lock(locked_to_the_end, capsys, command, table):
    pid = locked_to_the_end(table)
    assert run(command) == 1
    said = " ".join("".join(capsys.readouterr()).split())
    assert "US204" in said
    assert f"pid {pid}, user supabase_admin, idle in transaction since" in said
    assert f"holds AccessExclusiveLock on {table}: lock table {table}" in said
    assert f"select pg_terminate_backend({pid})" in said


@pytest.mark.parametrize("table", ["public.audit_logs", "public.users", "auth.users"])
def test_doctor_names_the_session_with_the_lock(locked_to_the_end, capsys, table):
    pid = locked_to_the_end(table)
    assert run(["doctor"]) == 1
    said = " ".join(capsys.readouterr().out.split())
    assert f"pid {pid}, user supabase_admin" in said
    assert "cannot inspect" not in said


def test_a_command_leaves_no_setting_in_a_poolers_session(locked, database):
    """The lock timeout is set for the session on a direct connection, and for the function otherwise."""
    with psycopg.connect(database.dsn(), autocommit=True) as connection:
        (config,) = connection.execute(
            "select proconfig from pg_proc where oid = 'public.user_sync_status()'::regprocedure"
        ).fetchone()
    assert f"lock_timeout={COMMAND_LOCK_TIMEOUT}" in config


@pytest.mark.slow
@pytest.mark.parametrize(
    ("command", "table"),
    [
        (["apply", "--yes", "--no-trial"], "auth.users"),
        (["rollback", "--yes"], "auth.users"),
        (["audit", "track", "public.orders"], "public.orders"),
    ],
)
def test_a_command_reports_that_it_retries_and_then_continues(locked, database, capsys, command, table):
    """The lock is released after the command has named its session."""
    with psycopg.connect(database.dsn(), autocommit=True) as owner:
        owner.execute("create table public.orders (id int primary key)")
    with psycopg.connect(database.dsn("supabase_admin"), autocommit=True) as superuser:
        superuser.execute("drop trigger on_auth_user_created on auth.users")
    said, codes = [], []
    with psycopg.connect(database.dsn("supabase_admin")) as other:
        # Reads do not wait. Only changes of the table do.
        other.execute(f"lock table {table} in share row exclusive mode")
        pid = other.info.backend_pid
        thread = threading.Thread(target=lambda: codes.append(run(command)))
        thread.start()
        until(lambda: said.append("".join(capsys.readouterr())) or "Trying again" in "".join(said))
        other.rollback()
        thread.join()
    text = " ".join("".join(said).split())
    assert codes == [0]
    assert f"pid {pid}, user supabase_admin" in text
    assert f"holds ShareRowExclusiveLock on {table}" in text


def test_apply_reports_that_it_waits_for_another_installation(locked, database, capsys):
    said, codes = [], []
    with psycopg.connect(database.dsn()) as other:
        other.execute("select pg_advisory_xact_lock(%s)", [LOCK_KEY])
        thread = threading.Thread(target=lambda: codes.append(run(["apply", "--yes", "--no-trial"])))
        thread.start()
        until(lambda: said.append("".join(capsys.readouterr())) or "Waiting for up to" in "".join(said))
        pid = other.info.backend_pid
        other.rollback()
        thread.join()
    assert codes == [0]
    assert f"Another usersync is changing the schema (pid {pid}, user postgres" in " ".join(
        "".join(said).split()
    )
