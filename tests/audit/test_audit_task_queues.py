"""Workers of Celery and RQ whose clients were created before a fork: correct actors, every event once."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import pytest

from fix_lacking import skip_without
from usersync import AuditLog
from usersync.testing import GoTrue

pytestmark = pytest.mark.newest_server

TASKS, JOBS = 20, 6


@pytest.fixture
def users(store):
    """Two users, without rows."""
    with GoTrue(store.database.dsn("supabase_auth_admin")) as auth:
        found = [str(auth.sign_up_email(f"{name}@example.com")) for name in ("ada", "bob")]
    store.owner.execute("delete from public.users")
    return found


@pytest.fixture
def environment(store, tmp_path):
    (tmp_path / "broker").mkdir()
    return os.environ | {
        "TASKS_DSN": store.dsn,
        "TASKS_FOLDER": str(tmp_path / "broker"),
        "TASKS_SPOOL": str(tmp_path / "spool"),
        "PYTHONWARNINGS": "ignore",
    }


@contextmanager
def running(command, environment, log):
    """Run a program, ask it to end, and check that it ends without an error."""
    with log.open("wb") as output:
        program = subprocess.Popen(
            [sys.executable, "-m", *command],
            cwd=Path(__file__).parent, env=environment, stdout=output, stderr=subprocess.STDOUT,
        )  # fmt: skip
    try:
        yield program
        program.send_signal(signal.SIGTERM)
        assert program.wait(60) == 0, log.read_text()
    finally:
        program.kill()
        program.wait()


def orders(store):
    return store.owner.execute(
        "select entity_id::int, actor_id from public.audit_logs where action = 'order.placed' order by 1"
    ).fetchall()


def wait_until(condition, program, log):
    deadline = time.monotonic() + 90
    while not condition():
        assert program.poll() is None, log.read_text()
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.02)


@pytest.mark.parametrize("pool", ["prefork", "threads", "eventlet"])
def test_celery(store, users, environment, tmp_path, pool):
    from tasks import application  # noqa: PLC0415 - celery

    log = tmp_path / "worker.log"
    command = ["celery", "-A", "tasks", "worker", "--pool", pool, "--concurrency", "2", "--without-mingle"]
    if pool == "prefork":
        command += ["--max-tasks-per-child", "5"]  # workers end and are replaced while events are sent
    with running(command, environment, log) as worker:
        with application(environment["TASKS_FOLDER"]) as app:
            for number in range(TASKS):
                app.send_task("order", [users[number % 2], number])
        wait_until(lambda: len(orders(store)) >= TASKS, worker, log)
    assert orders(store) == [(number, users[number % 2]) for number in range(TASKS)]
    assert store.owner.execute("select count(*) from public.users").fetchone() == (2,)


@contextmanager
def redis(directory):
    program = shutil.which("redis-server") or skip_without("Redis")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    options = ["--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(directory)]
    server = subprocess.Popen([program, *options], stdout=subprocess.DEVNULL)
    try:
        yield f"redis://127.0.0.1:{port}"
    finally:
        server.kill()
        server.wait()


def test_rq(store, users, environment, tmp_path):
    """A job's process ends abruptly: the next one sends its events."""
    from redis import Redis  # noqa: PLC0415 - a driver of RQ's
    from redis.backoff import ConstantBackoff  # noqa: PLC0415
    from redis.retry import Retry  # noqa: PLC0415
    from rq import Queue  # noqa: PLC0415

    log = tmp_path / "worker.log"
    with (
        redis(tmp_path) as url,
        Redis.from_url(url, retry=Retry(ConstantBackoff(0.05), 200)) as connection,
        running(["rq.cli", "worker", "--url", url, "--path", "."], environment, log) as worker,
    ):
        queue = Queue(connection=connection)
        jobs = [queue.enqueue("tasks.order", users[number % 2], number) for number in range(JOBS)]
        wait_until(
            lambda: all(job.get_status(refresh=True) in {"finished", "failed"} for job in jobs), worker, log
        )
        assert {job.get_status() for job in jobs} == {"finished"}, log.read_text()
    with AuditLog(store.dsn, spool_dir=environment["TASKS_SPOOL"], project="tasks") as last:
        assert last.drain(30)
    assert orders(store) == [(number, users[number % 2]) for number in range(JOBS)]
