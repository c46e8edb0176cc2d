"""D036: a read-only database. Supabase makes a database read-only if its disk is full."""

from __future__ import annotations

import psycopg
import pytest
from prometheus_client import CollectorRegistry

from audit_settings import with_audit_log
from usersync import UserSync
from usersync.cli.main import run
from usersync.doctor import choose, examine
from usersync.errors import ReadOnlyDatabaseError
from usersync.metrics.prometheus import UsersyncCollector
from usersync.schema import installation
from usersync.testing.install import install
from usersync.transports.run import run as run_plan

pytestmark = pytest.mark.newest_server


@pytest.fixture
def read_only(database, superuser, tmp_path, monkeypatch):
    install(database, with_audit_log())
    superuser.execute(f"alter database {database.name} set default_transaction_read_only = on")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SUPABASE_DB_URL", database.dsn())
    return database


def test_doctor_names_the_setting_and_resets_it(read_only, superuser):
    with psycopg.connect(read_only.dsn(), autocommit=True) as connection:
        (check,) = run_plan(examine(with_audit_log(), choose(["D036"])), connection)
    assert check.status == "problem"
    assert "transactions of supabase_auth_admin are read-only" in check.detail
    assert "each sign-up and sign-in fails" in check.detail
    superuser.execute("set default_transaction_read_only = off")
    superuser.execute("\n".join(line for line in check.fix.splitlines() if not line.startswith("--")))
    with psycopg.connect(read_only.dsn(), autocommit=True) as connection:
        (check,) = run_plan(examine(with_audit_log(), choose(["D036"])), connection)
    assert check.status == "ok"


@pytest.mark.slow
def test_commands_report_a_read_only_database(read_only, capsys):
    assert run(["status"]) == 1
    assert "read-only: the database accepts no writes" in capsys.readouterr().out
    assert run(["plan"]) == 1
    assert "this database accepts no writes" in capsys.readouterr().out
    assert run(["doctor", "--only", "D036"]) == 1
    assert run(["apply", "--yes"]) == 1
    assert "accepts no writes" in capsys.readouterr().out
    for command in (["sync"], ["rollback", "--yes"], ["audit", "track", "public.users"]):
        assert run(command) == 1, command
        assert "US205" in capsys.readouterr().err, command


def test_a_read_only_database_is_in_metrics_and_raises_its_error(read_only):
    registry = CollectorRegistry()
    with UserSync(read_only.dsn()) as sync:
        registry.register(UsersyncCollector(sync=sync, max_age=0))
        assert registry.get_sample_value("usersync_database_writable") == 0
        assert sync.status().read_only == "setting"
        with pytest.raises(ReadOnlyDatabaseError) as caught:
            sync.reconcile()
    assert "disk is full" in caught.value.hint
    with (
        psycopg.connect(read_only.dsn(), autocommit=True) as connection,
        pytest.raises(ReadOnlyDatabaseError),
    ):
        run_plan(installation.apply(with_audit_log()), connection)


def test_a_user_without_a_row_is_not_reported_as_in_sync(read_only, superuser, capsys):
    """The row cannot be created, and no failure can be recorded."""
    superuser.execute("set default_transaction_read_only = off")
    superuser.execute("set session_replication_role = replica")
    ((user,),) = superuser.execute(
        "insert into auth.users (id, email) values (gen_random_uuid(), 'ada@example.com') returning id"
    ).fetchall()
    assert run(["sync", "--user", str(user)]) == 1
    assert "US205" in capsys.readouterr().err
    with UserSync(read_only.dsn()) as sync:
        with pytest.raises(ReadOnlyDatabaseError):
            sync.sync_auth_user(user)
        with pytest.raises(ReadOnlyDatabaseError):
            sync.ensure_user_exists(user)  # False would say that there is no such user


def test_a_writable_database_is_not_reported_as_read_only(project):
    assert project.client.status().read_only is None
