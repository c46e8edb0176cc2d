"""What usersync does because somebody asked for it is in the audit log: who, when, how much."""

from __future__ import annotations

import json

import pytest

from logged import write_settings

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


def acts(connection):
    rows = connection.execute(
        "select action, actor_id, metadata from public.audit_logs "
        "where action like 'usersync.%' order by recorded_at"
    )
    return {action: (by, metadata) for action, by, metadata in rows}


def test_a_log_without_events_gets_none_of_its_own(installed):
    assert acts(installed) == {}


def test_apply_and_retry_and_rollback(usersync, installed):
    record(installed)
    installed.execute("alter function usersync.handle_new_user() reset search_path")
    assert usersync("apply", "--yes", "--no-trial").code == 0
    installed.execute(
        "insert into usersync.sync_failures (user_id, outcome, sqlstate, message) "
        "values (gen_random_uuid(), 'failed', '23505', 'made up')"
    )
    usersync("retry")
    assert usersync("rollback", "--yes").code == 0
    found = acts(installed)
    assert list(found) == ["usersync.applied", "usersync.failures_retried", "usersync.rollback_started"]
    by, metadata = found["usersync.applied"]
    assert "@" in by
    assert metadata["changes"] >= 1
    assert metadata["db_role"] == "postgres"
    assert found["usersync.failures_retried"][1]["users"] == 1


def test_prune(usersync, installed):
    installed.execute("select set_config('usersync.maintaining', 'audit', false)")
    record(installed)
    installed.execute("update public.audit_logs set recorded_at = occurred_at")
    record(installed)
    assert usersync("audit", "prune", "--keep", "13mo", "--yes").code == 0
    by, metadata = acts(installed)["usersync.log_pruned"]
    assert "@" in by
    assert metadata["events"] == 1
