"""What a worker does from time to time: failures that are due, the log's upkeep, spools of dead processes."""

from __future__ import annotations

import subprocess
import sys

import pytest
from working import wait_for

from usersync.transports.run import run
from usersync.worker.periodic import RETRY, is_due

pytestmark = pytest.mark.newest_server

#: Records an event that cannot be sent, and ends as after a crash.
CRASHES = """
import os, sys
from usersync import AuditLog
log = AuditLog(sys.argv[1])
assert log.record("left.behind")
assert not log.flush(0.1)
os._exit(0)
"""


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

    def tasks():
        return dict(working.owner.execute("select task, last_error from usersync.periodic_tasks").fetchall())

    with working.worker():
        wait_for(lambda: not project.client.failures(), "the user to be retried")
        wait_for(
            lambda: tasks().keys() == {"retry failures", "partitions", "retention", "attempts"}, "the upkeep"
        )
        left = "select count(*) from public.audit_logs where action = 'left.behind'"
        wait_for(lambda: working.owner.execute(left).fetchone() == (1,), "the event of the dead process")
    assert project.row(user)["team"] == "x"
    assert set(tasks().values()) == {None}


def test_a_task_that_is_due_is_done_by_one_worker(working):
    with working.project.connect() as other:
        for _ in range(2):
            assert run(is_due(RETRY), working.owner)
            assert not run(is_due(RETRY), other)
            working.owner.execute("update usersync.periodic_tasks set next_at = now()")
