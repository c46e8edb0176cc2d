"""The audit context is passed with a job to real workers of Celery, RQ, procrastinate and Dramatiq."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from task_queues import redis, running, wait_until
from usersync import AuditLog
from usersync.audit.event.context import begun, entered
from usersync.contrib.carrying import KEY, carried_context, resumed_context

pytestmark = pytest.mark.newest_server

EXAMPLES = Path(__file__).parents[3] / "examples"
HERE = Path(__file__).parent
ADA = {
    "actor_id": "ada",
    "request_id": "r-1",
    "ip": "192.0.2.1",
    "tenant_id": "acme",
    "metadata": {"page": 7},
}
BOB = {"actor_id": lambda: "bob"}

FIELDS = "entity_id, actor_id, request_id, tenant_id"


@pytest.fixture
def environment(backend, tmp_path):
    return os.environ | {
        "SUPABASE_DB_URL": backend.dsn,
        "USERSYNC_SPOOL_DIR": str(tmp_path / "spool"),
        "QUEUE_DSN": backend.dsn,
        "QUEUE_SPOOL": str(tmp_path / "spool"),
        "PYTHONWARNINGS": "ignore",
    }


@pytest.fixture
def events(backend):
    def read(fields=FIELDS, action="%"):
        return backend.owner.execute(
            f"select {fields} from public.audit_logs where source = 'app' and action like %s order by 1, id",
            [action],
        ).fetchall()

    return read


def call(folder, environment, *command, python=sys.executable):
    done = subprocess.run(
        [python, *command], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def placed(folder, environment, user_id, python):
    call(folder, environment, "shop.py", "--user", user_id, "--tenant", "acme", "1", python=python)
    call(folder, environment, "shop.py", "2", python=python)


def assert_shipped(found, user_id, orders):
    """The first order is the user's. The second is nobody's; the same worker ships it after the first."""
    assert [(action, order) for action, order, *_ in found] == orders
    request_ids = {request_id for _, order, *_, request_id in found if order == "1"}
    assert len(request_ids) == 1
    for _, order, actor, user, tenant, request_id in found:
        expected = (user_id, user_id, "acme", True) if order == "1" else (None, None, None, False)
        assert (actor, user, tenant, request_id is not None) == expected


SHIPPED = "action, entity_id, actor_id, user_id::text, tenant_id, request_id"


@pytest.mark.slow
def test_the_example_of_celery(backend, environment, events, tmp_path, example_python):
    """Installed from the wheel, as the README says."""
    python = example_python("celery", "celery[redis]")
    folder, log = EXAMPLES / "celery", tmp_path / "worker.log"
    user_id = str(backend.sign_up())
    with redis(tmp_path) as url:
        environment["CELERY_BROKER"] = f"{url}/0"
        command = ["celery", "-A", "shop", "worker", "--pool", "threads", "--concurrency", "1"]
        with running(command, folder, environment, log, python) as worker:
            placed(folder, environment, user_id, python)
            wait_until(lambda: len(events(action="order.shipped")) == 2, worker, log)
    orders = [("order.placed", "1"), ("order.placed", "2"), ("order.shipped", "1"), ("order.shipped", "2")]
    assert_shipped(events(SHIPPED), user_id, orders)


@pytest.mark.slow
def test_the_example_of_procrastinate(backend, environment, events, example_python):
    """Installed from the wheel, as the README says."""
    python = example_python("procrastinate")
    folder = EXAMPLES / "procrastinate"
    user_id = str(backend.sign_up())
    procrastinate = ("-m", "procrastinate", "--app=shop.app")
    call(folder, environment, *procrastinate, "schema", "--apply", python=python)
    placed(folder, environment, user_id, python)
    call(folder, environment, *procrastinate, "worker", "--one-shot", python=python)
    actions = ("order.billed", "order.placed", "order.shipped")
    orders = [(action, order) for action in actions for order in ("1", "2")]
    assert_shipped(events(SHIPPED), user_id, orders)
    states = backend.owner.execute("select distinct status::text from procrastinate_jobs").fetchall()
    assert states == [("succeeded",)]


@pytest.mark.slow
def test_rq_jobs_have_the_context_of_their_sender(environment, events, tmp_path):
    from redis import Redis  # noqa: PLC0415 - a driver of RQ's
    from rq import Queue, Retry  # noqa: PLC0415

    from usersync.contrib.rq import ContextJob  # noqa: PLC0415

    with redis(tmp_path) as url, Redis.from_url(url) as connection:
        environment["QUEUE_URL"] = url
        queue = Queue(connection=connection, job_class=ContextJob)
        with entered(ADA):
            queue.enqueue("queued.work", "a", meta={"page": 7})
            queue.enqueue("queued.work", "b", str(tmp_path / "failed"), retry=Retry(max=1))
        queue.enqueue("queued.work", "c")
        with entered(BOB):
            queue.enqueue("queued.work", "d")
        # One process runs all jobs, so that a context which is left behind would be seen.
        command = ["-m", "rq.cli", "worker", "--burst", "--url", url, "--path", "."]
        call(HERE, environment, *command, "--worker-class", "rq.SimpleWorker", "--job-class",
             "usersync.contrib.rq.ContextJob")  # fmt: skip
    ada = ("ada", "r-1", "acme")
    assert events() == [
        ("a", *ada), ("b", *ada), ("b", *ada), ("c", None, None, None), ("d", "bob", None, None)
    ]  # fmt: skip


@pytest.mark.slow
def test_dramatiq_jobs_have_the_context_of_their_sender(environment, events, tmp_path, monkeypatch):
    log = tmp_path / "worker.log"
    with redis(tmp_path) as url:
        environment["QUEUE_URL"] = url
        for name in ("QUEUE_URL", "QUEUE_DSN", "QUEUE_SPOOL"):
            monkeypatch.setenv(name, environment[name])
        monkeypatch.syspath_prepend(HERE)
        import queued  # noqa: PLC0415 - connects when it is imported

        with entered(ADA):
            queued.worked.send("a")
            queued.worked.send("b", str(tmp_path / "failed"))
            (queued.worked.message("c") | queued.followed.message()).run()
        queued.worked.send("d")
        with entered(BOB):
            queued.worked.send("e")
        command = ["dramatiq", "queued", "--processes", "1", "--threads", "1", "--path", "."]
        with running(command, HERE, environment, log) as worker:
            wait_until(lambda: len(events()) == 7, worker, log)
        queued.audit.close()
        queued.broker.close()
    ada = ("ada", "r-1", "acme")
    assert events() == [
        ("a", *ada), ("b", *ada), ("b", *ada), ("c", *ada), ("c, followed", *ada), ("d", None, None, None),
        ("e", "bob", None, None),
    ]  # fmt: skip


def test_celery_sends_the_context_and_eager_tasks_have_it(monkeypatch):
    """Tasks that run where they are called, and what is sent."""
    from celery import Celery  # noqa: PLC0415

    from usersync.contrib.celery import pass_context  # noqa: PLC0415

    pass_context()
    app = Celery("test", broker="memory://")
    sent = []
    monkeypatch.setattr("kombu.Producer.publish", lambda *_, headers, **__: sent.append(headers))

    @app.task(name="inner")
    def inner():
        return carried_context()

    @app.task(name="outer")
    def outer():
        with begun(BOB):
            return [carried_context(), inner.apply().get(), carried_context()]

    @app.task(name="broken")
    def broken():
        raise ValueError

    with entered(ADA):
        carried = carried_context()
        assert outer.apply().get() == [{"actor_id": "bob"}] * 3
        assert isinstance(broken.apply().result, ValueError)
        assert carried_context() == carried
        inner.delay()
        inner.apply_async(headers={KEY: {"actor_id": "carl"}})
    inner.delay()
    assert [headers.get(KEY) for headers in sent] == [carried, {"actor_id": "carl"}, None]


def test_the_fields_that_are_passed_with_a_job():
    with entered({**ADA, "user_agent": "curl", "actor_type": "user", "user_id": 5}):
        carried = carried_context()
    assert carried == {
        "actor_id": "ada", "actor_type": "user", "user_id": "5", "request_id": "r-1", "tenant_id": "acme"
    }  # fmt: skip
    with entered({"actor_id": "x" * 500}), resumed_context(carried):
        assert carried_context() == carried
        with resumed_context({"actor_id": 5, "password": "x", "tenant_id": "b"}):
            assert carried_context() == {"tenant_id": "b"}
        for malformed in (None, "text", [], 7):
            with resumed_context(malformed):
                assert carried_context() == {}


def test_an_actor_function_that_raises_is_not_passed_with_a_job():
    def find():
        raise RuntimeError

    with entered({"actor_id": find, "request_id": "r"}):
        assert carried_context() == {"request_id": "r"}


def test_a_log_of_a_job_has_its_context(backend, tmp_path):
    with (
        AuditLog(backend.dsn, spool_dir=tmp_path) as audit,
        resumed_context({"actor_id": "ada", "tenant_id": "t"}),
    ):
        audit.record("job.run")
    (event,) = backend.events()
    assert (event["actor_id"], event["tenant_id"]) == ("ada", "t")
