"""A worker that is killed during a request."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from usersync import AuditLog

pytestmark = pytest.mark.newest_server

WORKER = Path(__file__).with_name("django_worker.py")


@pytest.mark.slow
@pytest.mark.parametrize("how", ["wsgi", "asgi"])
def test_an_accepted_event_of_a_killed_worker_is_stored_once(site, tmp_path, how):
    spool = tmp_path / "spool"
    with subprocess.Popen(
        [sys.executable, WORKER, site.database.dsn(), str(spool), how],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as worker:
        said = worker.stdout.readline()
        worker.kill()
    assert (said, worker.returncode) == ("recorded\n", -9)
    with AuditLog(site.database.dsn(), spool_dir=spool) as next_worker:
        assert next_worker.drain()
    assert site.events("action, actor_type") == [("work.begun", "anonymous"), ("work.went_on", "anonymous")]
