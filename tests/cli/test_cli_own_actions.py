"""usersync records its administrative actions in the audit log: the actor, the time and the counts."""

from __future__ import annotations

import json

import pytest

from audit_settings import write_settings
from usersync import UserSync

pytestmark = pytest.mark.newest_server


@pytest.fixture
def installed(usersync, database, postgres, monkeypatch, directory):
    monkeypatch.setenv("SUPABASE_DB_URL", database.dsn())
    write_settings(directory)
    assert usersync("apply", "--yes", "--no-trial").code == 0
    return postgres


def record(connection):
    event = {
        "action": "order.made",
        "occurred_at": "2001-01-01T00:00:00Z",
        "recorded_at": "2001-01-01T00:00:00Z",
    }
    connection.execute("select public.record_audit_events(%s::jsonb)", [json.dumps([event])])


def own_events(connection):
    rows = connection.execute(
        "select action, actor_id, metadata || jsonb_build_object('db_role', db_role) from public.audit_logs "
        "where action like 'usersync.%' order by recorded_at"
    )
    return {action: (by, metadata) for action, by, metadata in rows}


@pytest.mark.slow
def test_an_empty_log_gets_no_administrative_event(installed):
    assert own_events(installed) == {}


@pytest.mark.slow
def test_apply_retry_and_rollback_are_recorded(usersync, installed):
    record(installed)
    installed.execute("alter function usersync.handle_new_user() reset search_path")
    assert usersync("apply", "--yes", "--no-trial").code == 0
    installed.execute(
        "insert into usersync.sync_failures (user_id, outcome, sqlstate, message) "
        "values (gen_random_uuid(), 'failed', '23505', 'made up')"
    )
    usersync("retry")
    assert usersync("rollback", "--yes").code == 0
    found = own_events(installed)
    assert list(found) == ["usersync.applied", "usersync.failures_retried", "usersync.rollback_started"]
    by, metadata = found["usersync.applied"]
    assert "@" in by
    assert metadata["changes"] >= 1
    assert metadata["db_role"] == "postgres"
    assert found["usersync.failures_retried"][1]["users"] == 1


@pytest.mark.slow
def test_track_untrack_and_retries_of_rejected_events_are_recorded(usersync, installed):
    installed.execute("create table public.products (id int primary key)")
    assert usersync("audit", "track", "products").code == 0
    # The second call changes nothing, so it is not recorded.
    assert usersync("audit", "track", "products").code == 0
    installed.execute("select public.record_audit_events('[{}]')")
    assert usersync("audit", "rejects", "--retry").code == 1
    assert usersync("audit", "untrack", "products").code == 0
    found = own_events(installed)
    assert list(found) == ["usersync.table_tracked", "usersync.rejects_retried", "usersync.table_untracked"]
    by, metadata = found["usersync.table_tracked"]
    assert "@" in by
    assert (metadata["table"], metadata["columns"]) == ("public.products", ["id"])
    assert found["usersync.rejects_retried"][1]["rejected"] == 1
    entities = installed.execute(
        "select entity_type, entity_id from public.audit_logs order by seq"
    ).fetchall()
    products, log = ("table", "public.products"), ("table", "public.audit_logs")
    assert entities == [products, log, products]


def test_a_retry_from_python_is_recorded(installed, database):
    with UserSync(database.dsn()) as sync:
        sync.retry()
        sync.retry(due=True)
        assert own_events(installed) == {}
        installed.execute(
            "insert into usersync.sync_failures (user_id, outcome, sqlstate, message) "
            "values (gen_random_uuid(), 'failed', '23505', 'made up')"
        )
        sync.retry()
    assert [(action, by) for action, (by, _) in own_events(installed).items()] == [
        ("usersync.failures_retried", "postgres")
    ]


@pytest.mark.slow
def test_an_erasure_is_recorded_with_its_actor(usersync, installed, auth):
    user = auth.sign_up_email("ada@example.com")
    auth.hard_delete(user)
    assert usersync("erase", user, "--yes").code == 0
    (by,) = installed.execute(
        "select actor_id from public.audit_logs where action = 'user.erased'"
    ).fetchone()
    assert "@" in by


def test_an_erasure_from_python_names_the_role(installed, database, auth):
    user = auth.sign_up_email("ada@example.com")
    auth.hard_delete(user)
    with UserSync(database.dsn()) as sync:
        assert sync.erase(user).recorded
    assert installed.execute(
        "select actor_id, entity_id from public.audit_logs where action = 'user.erased'"
    ).fetchall() == [("postgres", str(user))]


@pytest.mark.slow
def test_fixes_of_doctor_are_recorded(usersync, installed):
    record(installed)
    installed.execute("alter function usersync.handle_new_user() reset search_path")
    assert usersync("doctor", "--fix", "--yes").code == 0
    # The second call finds nothing to fix, so it is not recorded.
    assert usersync("doctor", "--fix", "--yes").code == 0
    ((action, (by, metadata)),) = own_events(installed).items()
    assert action == "usersync.fixes_run"
    assert "@" in by
    assert (metadata["fixes"], metadata["checks"]) == (1, ["D006", "D007"])
    assert installed.execute("select count(*) from public.audit_logs").fetchone() == (2,)


@pytest.mark.slow
def test_prune_is_recorded(usersync, installed):
    installed.execute("select set_config('usersync.maintaining', 'audit', false)")
    record(installed)
    installed.execute("update public.audit_logs set recorded_at = occurred_at")
    record(installed)
    assert usersync("audit", "prune", "--keep", "13mo", "--yes").code == 0
    by, metadata = own_events(installed)["usersync.log_pruned"]
    assert "@" in by
    assert metadata["events"] == 1
