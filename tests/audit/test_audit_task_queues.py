"""Celery and RQ workers with clients from before a fork: events have their actors, and are stored once."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from task_queues import redis, running, wait_until
from usersync import AuditLog
from usersync.testing import GoTrue

pytestmark = [pytest.mark.newest_server, pytest.mark.slow]

TASKS, JOBS = 20, 6

FOLDER = Path(__file__).parent


@pytest.fixture
def users(store):
    """Two users without rows."""
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


def orders(store):
    return store.owner.execute(
        "select entity_id::int, actor_id from public.audit_logs where action = 'order.placed' order by 1"
    ).fetchall()


@pytest.mark.parametrize("pool", ["prefork", "threads", "eventlet"])
def test_events_of_celery_tasks_have_their_actors_and_are_stored_once(
    store, users, environment, tmp_path, pool
):
    from tasks import application  # noqa: PLC0415 - celery

    log = tmp_path / "worker.log"
    command = ["celery", "-A", "tasks", "worker", "--pool", pool, "--concurrency", "2", "--without-mingle"]
    if pool == "prefork":
        command += [
            "--max-tasks-per-child",
            "5",
        ]  # workers are replaced meanwhile
    with running(command, FOLDER, environment, log) as worker:
        with application(environment["TASKS_FOLDER"]) as app:
            for number in range(TASKS):
                app.send_task("order", [users[number % 2], number])
        wait_until(lambda: len(orders(store)) >= TASKS, worker, log)
    assert orders(store) == [(number, users[number % 2]) for number in range(TASKS)]
    assert store.owner.execute("select count(*) from public.users").fetchone() == (2,)


def test_events_of_rq_jobs_have_their_actors_and_are_stored_once(store, users, environment, tmp_path):
    """The process of a job ends without cleanup. The next process sends its events."""
    from redis import Redis  # noqa: PLC0415 - a driver of RQ's
    from rq import Queue  # noqa: PLC0415

    log = tmp_path / "worker.log"
    with (
        redis(tmp_path) as url,
        Redis.from_url(url) as connection,
        running(["rq.cli", "worker", "--url", url, "--path", "."], FOLDER, environment, log) as worker,
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
