"""Locks are acquired in the order that lifecycle.py documents. Another order may deadlock in a fork."""

from __future__ import annotations

import subprocess
import sys
import textwrap
import threading

import pytest

from usersync.audit.delivery import lifecycle
from usersync.audit.delivery.lifecycle import ORDER

pytestmark = pytest.mark.newest_server


class Ordered:
    """A lock that reports a violation if a thread acquires it while it holds a later lock."""

    def __init__(self, name, lock, held, wrong):
        self._name, self._lock, self._held, self._wrong = name, lock, held, wrong

    def acquire(self, *arguments):
        mine = self._held.setdefault(threading.get_ident(), [])
        if self._name not in mine and any(ORDER.index(each) > ORDER.index(self._name) for each in mine):
            self._wrong.append((*mine, self._name))
        taken = self._lock.acquire(*arguments)
        mine.append(self._name)
        return taken

    def release(self):
        self._held[threading.get_ident()].remove(self._name)
        self._lock.release()

    __enter__ = acquire

    def __exit__(self, *_):
        self.release()


@pytest.fixture
def watch(monkeypatch):
    """Watch the locks of a log.

    Returns a function that watches the locks of a log, and the list of violations.
    """
    monkeypatch.setattr("usersync.audit.spool.intake._LOOK_MS", 0)
    held, wrong = {}, []
    gate = Ordered("gate", lifecycle.gate, held, wrong)
    for name, module in list(sys.modules.items()):
        if name.startswith("usersync.audit") and hasattr(module, "gate"):
            monkeypatch.setattr(module, "gate", gate)

    def of(log):
        log._lock = Ordered("log", log._lock, held, wrong)
        intake = log._engine.intake
        intake._lock = Ordered("intake", intake._lock, held, wrong)
        intake.spool._lock = Ordered("spool", intake.spool._lock, held, wrong)

    return of, wrong


@pytest.mark.parametrize("has_writer", [False, True])
def test_locks_are_taken_in_their_order(store, make_log, spool_dir, watch, has_writer):
    of, wrong = watch
    log = make_log(store.dsn if has_writer else None)
    log.record("a.b")
    of(log)
    for _ in range(3):
        for path in spool_dir.rglob("*.spool*"):
            path.unlink(missing_ok=True)
        assert log.record("a.b")
    if has_writer:
        assert log.flush()
    log._lock_for_fork()
    log._unlock_after_fork()
    log.stats()
    log.close(5)
    assert wrong == []


@pytest.mark.slow
def test_a_fork_while_another_thread_moves_to_another_spool_file(spool_dir):
    """The process only records, and its files were removed."""
    code = """
        import os, sys, threading
        from pathlib import Path
        from usersync import AuditLog
        from usersync.audit.spool import intake

        intake._LOOK_MS = 0
        root = Path(sys.argv[1])
        log = AuditLog.recording_only(spool_dir=root, project="test")
        log.record("a.b")
        over = threading.Event()

        def work():
            while not over.is_set():
                for path in root.rglob("*.spool"):
                    path.unlink(missing_ok=True)
                log.record("a.b")

        thread = threading.Thread(target=work)
        thread.start()
        for _ in range(100):
            pid = os.fork()
            if pid == 0:
                os._exit(0 if log.record("a.b") else 1)
            assert os.waitpid(pid, 0)[1] == 0
        over.set()
        thread.join()
    """
    command = [sys.executable, "-W", "ignore", "-c", textwrap.dedent(code), str(spool_dir)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stderr


EVENTLET = """
    import eventlet
    eventlet.monkey_patch()
    import select, sys
    assert not hasattr(select, "poll")
    from usersync import AuditLog

    log = AuditLog(sys.argv[1], spool_dir=sys.argv[2], project="test")
    assert log.record("a.b")
    assert log.flush(20), log.stats()
    assert log.close()
"""

# Locks and threads are gevent's, so a greenlet that waits for a lock lets the others run.
GEVENT = """
    from gevent import joinall, monkey, sleep, spawn
    monkey.patch_all()
    import sys
    from usersync import AuditLog

    log = AuditLog(sys.argv[1], spool_dir=sys.argv[2], project="test")

    def request(number):
        with log.context(actor_id=f"user {number}"):
            sleep(0)
            assert log.record("a.b", entity=("request", number))
            assert log.flush(60), log.stats()

    for each in joinall([spawn(request, number) for number in range(20)]):
        each.get()
    assert log.close()
"""

# Changes the module select as eventlet does, without eventlet.
WITHOUT_POLL = """
    import select, sys
    for name in ("poll", "epoll"):
        delattr(select, name)
    from usersync import AuditLog

    log = AuditLog(sys.argv[1], spool_dir=sys.argv[2], project="test")
    assert log.record("a.b")
    assert log.flush(20), log.stats()
    assert log.close()
"""


@pytest.mark.parametrize(
    "code", [pytest.param(EVENTLET, marks=pytest.mark.slow), WITHOUT_POLL], ids=["eventlet", "without poll"]
)
def test_events_are_sent_without_select_poll(store, spool_dir, code):
    if code is EVENTLET:
        pytest.importorskip("eventlet")
    command = [sys.executable, "-W", "ignore", "-c", textwrap.dedent(code), store.dsn, str(spool_dir)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stderr
    assert len(store.ids()) == 1


@pytest.mark.slow
def test_greenlets_of_gevent_record_as_their_own_actors(store, spool_dir):
    command = [sys.executable, "-W", "ignore", "-c", textwrap.dedent(GEVENT), store.dsn, str(spool_dir)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stderr
    recorded = store.owner.execute("select entity_id, actor_id from public.audit_logs").fetchall()
    assert sorted(recorded) == sorted((str(number), f"user {number}") for number in range(20))
