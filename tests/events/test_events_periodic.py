"""The periodic tasks of a worker: retries, upkeep of the audit log, and spools of dead processes."""

from __future__ import annotations

import subprocess
import sys
from datetime import UTC, datetime, timedelta

import pytest
from working import wait_for

from usersync.core.overview import overview
from usersync.transports.run import run
from usersync.worker import periodic, worker
from usersync.worker.periodic import COMPARISON, RETENTION, RETRY, StoppedError, claim, is_due, store_result

pytestmark = pytest.mark.newest_server

NAMES = {"retry failures", "partitions", "retention", "attempts", "comparison"}
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)

#: Records an event without sending it, and ends as in a crash.
CRASHES = """
import os, sys
from usersync import AuditLog
log = AuditLog(sys.argv[1])
assert log.record("left.behind")
assert not log.flush(0.1)
os._exit(0)
"""


@pytest.mark.slow
def test_a_worker_retries_users_and_delivers_spools_of_dead_processes(working, monkeypatch, tmp_path):
    monkeypatch.setenv("USERSYNC_SPOOL_DIR", str(tmp_path / "spool"))
    project = working.project
    working.owner.execute("alter table public.users add column team text not null default 'x'")
    working.owner.execute("alter table public.users alter column team drop default")
    user = project.auth.sign_up_email("ada@example.com")
    assert [each.user_id for each in project.client.failures()] == [user]
    working.owner.execute("alter table public.users alter column team set default 'x'")
    working.owner.execute("update usersync.sync_failures set next_try_at = now()")
    with project.connect() as other, other.transaction():
        other.execute("lock table public.audit_logs in access exclusive mode")
        subprocess.run([sys.executable, "-c", CRASHES, working.dsn], check=True)

    with working.worker():
        wait_for(lambda: not project.client.failures(), "the user to be retried")
        wait_for(lambda: periodic_tasks(working).keys() == NAMES, "the upkeep")
        left = "select count(*) from public.audit_logs where action = 'left.behind'"
        wait_for(lambda: working.owner.execute(left).fetchone() == (1,), "the event of the dead process")
    assert project.row(user)["team"] == "x"
    assert set(periodic_tasks(working).values()) == {None}


def test_a_due_task_is_run_by_one_worker_only(working):
    def due(task, connection, **after):
        return run(is_due(task, at=NOON + timedelta(**after)), connection)

    with working.project.connect() as other:
        for minutes in range(2):
            assert due(RETRY, working.owner, minutes=minutes)
            assert not due(RETRY, other, minutes=minutes, seconds=59)

        # It runs at night, and not when the first worker starts.
        assert not due(COMPARISON, working.owner)
        assert not due(COMPARISON, working.owner, hours=14, minutes=59)
        assert due(COMPARISON, working.owner, hours=15)
        # No other worker runs it while this worker renews its claim.
        assert not due(COMPARISON, other, hours=15, seconds=59)
        run(claim(COMPARISON, at=NOON + timedelta(hours=15, seconds=50)), working.owner)
        assert not due(COMPARISON, other, hours=15, seconds=70)
        assert due(COMPARISON, other, hours=15, seconds=110)
        run(store_result(COMPARISON, None, at=NOON + timedelta(hours=15, minutes=5)), other)
        assert not due(COMPARISON, other, hours=38, minutes=59)
        assert due(COMPARISON, other, hours=39)

        assert due(RETENTION, working.owner)
        run(store_result(RETENTION, "no", at=NOON + timedelta(hours=1)), working.owner)
        assert not due(RETENTION, other, hours=24)
        assert due(RETENTION, other, hours=25)


def test_the_nightly_comparison_continues_over_several_runs_and_is_in_status(
    working, project, insert_without_triggers, monkeypatch
):
    users = insert_without_triggers(5)
    monkeypatch.setattr(periodic.reconcile, "PAGE_SIZE", 2)
    monkeypatch.setattr(worker, "_PERIODIC_S", 0.2)
    with pytest.raises(StoppedError):
        run(periodic.compare(lambda: True), working.owner)
    found = run(overview(), working.owner).comparison
    assert (found.finished, found.counts.missing) == (False, 2)
    with working.worker():
        wait_for(lambda: len(periodic_tasks(working)) == len(NAMES), "the tasks")
        working.owner.execute("update usersync.periodic_tasks set next_at = now() where task = 'comparison'")
        wait_for(lambda: run(overview(), working.owner).comparison.finished, "the comparison")
        assert run(overview(), working.owner).comparison.run_id == found.run_id
        next_at = "select next_at at time zone 'UTC' from usersync.periodic_tasks where task = 'comparison'"
        wait_for(
            lambda: working.owner.execute(next_at).fetchone()[0].strftime("%H:%M") == "03:00", "the next time"
        )
    assert run(overview(), working.owner).comparison.counts.missing == 5
    assert all(project.row(each) for each in users)


def periodic_tasks(working):
    return dict(working.owner.execute("select task, last_error from usersync.periodic_tasks").fetchall())
