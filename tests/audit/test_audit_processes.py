"""Kills, exits and forks of a process neither lose events nor store them twice."""

from __future__ import annotations

import http.client
import os
import signal
import socket
import subprocess
import sys
import textwrap
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from selectors import DefaultSelector

import psycopg
import pytest
from killing import kill_recorders

from usersync.audit.delivery.engine import Engine
from usersync.audit.delivery.lifecycle import gate
from usersync.audit.spool.directory import SpoolDirectory
from usersync.audit.spool.file import Spool
from usersync.transports.fork_gate import GatedConnection

pytestmark = pytest.mark.newest_server


# Newer Python versions warn of a fork in a process with threads. These tests need such forks.
WARNINGS = ["-W", "error", "-W", "ignore:This process:DeprecationWarning"]


def run_python(code, *arguments, **options):
    return subprocess.run(
        [sys.executable, *WARNINGS, "-c", textwrap.dedent(code), *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
        **options,
    )


@pytest.mark.parametrize("kills", [3, pytest.param(24, marks=pytest.mark.slow)])
def test_accepted_events_of_killed_processes_are_stored_once(store, make_log, spool_dir, monkeypatch, kills):
    # Files without events are deleted.
    monkeypatch.setenv("USERSYNC_KEEP_DELIVERED", "0")
    ids = [each for ids in kill_recorders(store.dsn, spool_dir, kills=kills) for each in ids]
    assert len(ids) >= kills
    assert make_log(store.dsn).drain(90)
    stored = store.ids()
    assert len(stored) == len(set(stored))
    # An event may be in the spool before the process has printed its id. No printed id may be missing.
    assert set(ids) <= set(stored)
    assert list((spool_dir / "test").iterdir()) == []


@pytest.mark.slow
def test_a_running_process_takes_over_the_spool_of_a_killed_one(
    store, make_log, spool_dir, eventually, monkeypatch
):
    monkeypatch.setattr("usersync.audit.spool.orphaned_files._EVERY_S", 0.1)
    monkeypatch.setattr("usersync.audit.delivery.writer._IDLE_S", 0.1)
    running = make_log(store.dsn)
    running.record("a.b")
    assert running.flush()
    (ids,) = kill_recorders("postgresql://u@127.0.0.1:1/nowhere", spool_dir, kills=1)
    eventually(lambda: set(ids) <= set(store.ids()), timeout=60)


REMOVE_AND_EXIT = """
    import os, sys
    from pathlib import Path
    from usersync import AuditLog

    log = AuditLog(sys.argv[1], spool_dir=Path(sys.argv[2]), project="test")
    log.record("a.b")
    assert log.flush(30)
    unlink, left = Path.unlink, [int(sys.argv[3])]

    def dying(path, missing_ok=False):
        if not left[0]:
            os._exit(9)
        left[0] -= 1
        unlink(path, missing_ok)

    Path.unlink = dying
    log.close()
"""


@pytest.mark.slow
@pytest.mark.parametrize("removed", [0, 1, 2, 3])
def test_files_of_a_process_killed_during_removal_are_removed_later(
    store, make_log, spool_dir, removed, monkeypatch
):
    monkeypatch.setenv("USERSYNC_KEEP_DELIVERED", "0")
    assert run_python(REMOVE_AND_EXIT, store.dsn, spool_dir, removed).returncode == 9
    place = spool_dir / "test"
    assert list(place.iterdir())
    # A file that was just claimed, and a damaged file whose WAL is not renamed yet.
    claim = SpoolDirectory(place).claim()
    for name in ("1-0.damaged-7", "1-0.spool-wal", "1-0.lock"):
        (place / name).touch()
    log = make_log(store.dsn)
    assert log.drain(60)
    assert sorted(path.name for path in place.iterdir()) == sorted(
        [f"{claim.path.stem}.lock", "1-0.damaged-7", "1-0.spool-wal"]
    )
    claim.release()
    assert len(store.ids()) == 1


FORK = """
    import os, sys
    from pathlib import Path
    from usersync import AuditLog

    log = AuditLog(sys.argv[1], spool_dir=Path(sys.argv[2]), project="test")
    if sys.argv[3] != "nothing":
        assert log.record("parent.before", request_id="parent")
    if sys.argv[3] == "sent":
        assert log.flush(20)
    children = []
    for n in range(4):
        pid = os.fork()
        if pid == 0:
            for _ in range(50):
                assert log.record("child.recorded", request_id=f"child{n}")
            assert log.flush(20)
            assert log.stats().accepted == 50
            # Two end as gunicorn's workers do, two as multiprocessing's.
            sys.exit(0) if n % 2 else os._exit(0)
        children.append(pid)
    for _ in range(50):
        assert log.record("parent.after", request_id="parent")
    for pid in children:
        assert os.waitpid(pid, 0)[1] == 0
    assert log.flush(20)
    assert log.close()
"""


@pytest.mark.slow
@pytest.mark.parametrize("before", ["nothing", "sent", "waiting"])
def test_a_forked_process_has_its_own_spool_and_writer(store, make_log, spool_dir, before):
    result = run_python(FORK, store.dsn, spool_dir, before)
    assert (result.returncode, result.stderr) == (0, "")
    assert make_log(store.dsn).drain()
    events = store.events()
    expected = (before != "nothing") + 50 + 4 * 50
    assert len(events) == len({event["id"] for event in events}) == expected
    for n in range(4):
        assert sum(event["request_id"] == f"child{n}" for event in events) == 50


@pytest.mark.slow
def test_a_process_forked_while_other_threads_record_can_record(store, make_log, spool_dir):
    code = """
        import os, sys, threading
        from pathlib import Path
        from usersync import AuditLog

        log = AuditLog(sys.argv[1], spool_dir=Path(sys.argv[2]), project="test")
        over = threading.Event()

        def work():
            while not over.is_set():
                log.record("parent.recorded")

        threads = [threading.Thread(target=work) for _ in range(3)]
        for thread in threads:
            thread.start()
        for n in range(30):
            pid = os.fork()
            if pid == 0:
                os._exit(0 if log.record("child.recorded") else 1)
            assert os.waitpid(pid, 0)[1] == 0
        over.set()
        for thread in threads:
            thread.join()
        assert log.flush(30)
        print(log.stats().accepted)
    """
    result = run_python(code, store.dsn, spool_dir)
    assert (result.returncode, result.stderr) == (0, "")
    assert make_log(store.dsn).drain()
    actions = [event["action"] for event in store.events()]
    assert actions.count("child.recorded") == 30
    assert actions.count("parent.recorded") == int(result.stdout)


def test_a_process_forked_while_another_thread_has_every_lock_can_record(spool_dir):
    """A lock held by a thread that does not exist in the child would never be released."""
    code = """
        import os, sys, threading
        from pathlib import Path
        from usersync import AuditLog

        log = AuditLog.recording_only(spool_dir=Path(sys.argv[1]), project="test")
        log.record("a.b")
        held, over = threading.Event(), threading.Event()

        def hold():
            with log._builder._clock._lock, log._engine.counters._lock, log._engine.intake.memory._lock:
                held.set()
                over.wait()

        thread = threading.Thread(target=hold)
        thread.start()
        held.wait()
        pid = os.fork()
        if pid == 0:
            log.stats()
            os._exit(0 if log.record("a.b") else 1)
        assert os.waitpid(pid, 0)[1] == 0
        over.set()
        thread.join()
    """
    result = run_python(code, spool_dir)
    assert (result.returncode, result.stderr) == (0, "")


def test_a_fork_waits_until_a_connection_is_open(store, monkeypatch):
    """A child forked while OpenSSL runs could never connect."""
    connect, held = psycopg.Connection._connect_gen.__func__, []

    def watched(cls, *arguments, **options):
        steps, ready = connect(cls, *arguments, **options), None
        while True:
            held.append(gate._is_owned())
            try:
                wanted = steps.send(ready)
            except StopIteration as end:
                return end.value
            ready = yield wanted

    def select(poller, timeout=None):
        held.append(not gate._is_owned())
        return wait(poller, timeout)

    wait = DefaultSelector.select
    monkeypatch.setattr(psycopg.Connection, "_connect_gen", classmethod(watched))
    monkeypatch.setattr(DefaultSelector, "select", select)
    with GatedConnection.connect(store.dsn) as connection:
        assert connection.execute("select 1").fetchone() == (1,)
    assert len(held) > 4
    assert all(held)
    assert not gate._is_owned()


@pytest.mark.slow
def test_a_forked_process_does_not_lock_its_parents_spool(store, make_log, spool_dir, eventually):
    """The parent is killed while its child still runs. Another process takes over its events."""
    code = """
        import os, sys
        from pathlib import Path
        from usersync import AuditLog

        log = AuditLog.recording_only(spool_dir=Path(sys.argv[1]), project="test")
        ids = [log.record("a.b") for _ in range(10)]
        pid = os.fork()
        if pid == 0:
            os.close(1)
            os.close(2)
            os.read(int(sys.argv[2]), 1)
            os._exit(0)
        print(*ids, pid, flush=True)
        os.kill(os.getpid(), 9)
    """
    read, write = os.pipe()
    try:
        # The child runs until the other end of the pipe is closed.
        result = run_python(code, spool_dir, read, pass_fds=(read,))
        *ids, _child = result.stdout.split()
        assert len(ids) == 10, result.stderr
        assert make_log(store.dsn).drain()
        assert sorted(store.ids()) == sorted(ids)
    finally:
        os.close(write)
        os.close(read)


# Sending delays the end of the interpreter by five seconds at most. A slow machine may need more to connect.
EXIT = """
    import atexit, sys
    from pathlib import Path
    from usersync import AuditLog
    from usersync.audit.delivery import lifecycle

    lifecycle._DEADLINE_S = 90.0

    def last_words():
        print(log.record("a.b"))

    if sys.argv[3] == "late":
        atexit.register(last_words)
    log = AuditLog(sys.argv[1], spool_dir=Path(sys.argv[2]), project="test", exit_timeout=float(sys.argv[4]))
    for _ in range(100):
        print(log.record("a.b"))
"""


@pytest.mark.slow
def test_waiting_events_are_sent_at_exit(store, spool_dir):
    result = run_python(EXIT, store.dsn, spool_dir, "no", 80)
    assert result.stderr == ""
    assert sorted(store.ids()) == sorted(result.stdout.split())


UNREFERENCED = """
    import gc, os, sys, threading
    from pathlib import Path
    from usersync import AuditLog
    from usersync.audit.delivery import lifecycle

    lifecycle._DEADLINE_S = 90.0

    def work():
        log = AuditLog(sys.argv[1], spool_dir=Path(sys.argv[2]), project="test", durability="memory",
                       exit_timeout=80)
        print(log.record("a.b"), flush=True)

    work()
    gc.collect()
    child = os.fork()
    if child == 0:
        os._exit(0)
    os.waitpid(child, 0)
"""


@pytest.mark.slow
def test_an_unreferenced_log_handles_a_fork_and_the_exit(store, spool_dir):
    result = run_python(UNREFERENCED, store.dsn, spool_dir)
    assert result.stderr == ""
    assert store.ids() == result.stdout.split()


@pytest.mark.slow
def test_exit_is_not_delayed_and_the_next_process_sends_the_remaining_events(
    store, make_log, proxy, spool_dir
):
    proxy.silent.set()
    result = run_python(EXIT, proxy.through(store.dsn), spool_dir, "late", 0.2)
    ids = result.stdout.split()
    assert (result.returncode, len(ids)) == (0, 101)
    assert "None" not in ids
    assert make_log(store.dsn).drain()
    assert sorted(store.ids()) == sorted(ids)


@pytest.mark.slow
def test_sigterm_during_a_flush_leaves_the_events_to_the_next_process(
    store, make_log, proxy, spool_dir, eventually
):
    code = """
        import sys
        from pathlib import Path
        from usersync import AuditLog

        log = AuditLog(sys.argv[1], spool_dir=Path(sys.argv[2]), project="test", exit_timeout=0.2)
        print(*[log.record("a.b") for _ in range(50)], flush=True)
        if sys.argv[3] == "handled":
            import signal
            signal.signal(signal.SIGTERM, lambda *_: (log.record("term.received"), sys.exit(7)))
        log.flush(60)
    """
    proxy.silent.set()
    ids = []
    for how, status in (("default", -signal.SIGTERM), ("handled", 7)):
        command = [sys.executable, "-c", textwrap.dedent(code), proxy.through(store.dsn), str(spool_dir), how]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            ids += process.stdout.readline().split()
            if how == "handled":
                eventually(lambda pid=process.pid: catches_sigterm(pid))
            process.terminate()
            assert process.wait(30) == status
    assert make_log(store.dsn).drain()
    stored = store.ids()
    assert len(stored) == len(set(stored)) == 101
    assert set(ids) <= set(stored)


def catches_sigterm(pid):
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    caught = next(line for line in lines if line.startswith("SigCgt:"))
    return int(caught.split()[1], 16) & 1 << (signal.SIGTERM - 1)


@pytest.mark.parametrize(
    "beginning",
    [(Engine, "__init__"), (SpoolDirectory, "claim"), (Spool, "__init__"), (threading.Thread, "start")],
    ids=["engine", "claim", "file", "thread"],
)
def test_a_signal_handler_may_record_during_the_first_event(
    store, make_log, spool_dir, monkeypatch, beginning
):
    """The handler must use the engine that is being created, and not create another one."""
    owner, name = beginning
    plain, left = getattr(owner, name), [3]

    def interrupted(*arguments, **options):
        if left[0]:
            left[0] -= 1
            signal.raise_signal(signal.SIGALRM)
        return plain(*arguments, **options)

    monkeypatch.setattr(owner, name, interrupted)
    log, ids = make_log(store.dsn), []
    previous = signal.signal(signal.SIGALRM, lambda *_: ids.append(log.record("signal.received")))
    try:
        ids.append(log.record("a.b"))
    finally:
        signal.signal(signal.SIGALRM, previous)
    assert len(ids) >= 2
    assert None not in ids
    assert log.stats().accepted == len(ids)
    assert len(list((spool_dir / "test").glob("*.spool"))) == 1
    assert log.flush()
    assert sorted(store.ids()) == sorted(ids)
    assert sum(each.name == "usersync-audit" for each in threading.enumerate()) == 1


def test_a_signal_handler_may_record_while_its_thread_records(make_log):
    log = make_log(None)
    ids = []
    previous = signal.signal(signal.SIGALRM, lambda *_: ids.append(log.record("signal.received")))
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)
        ids += [log.record("a.b") for _ in range(3000)]
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)
    assert None not in ids
    assert log.stats().accepted == len(ids) == len(set(ids))


@pytest.mark.slow
def test_events_are_stored_with_gunicorn_gevent_and_preload(store, tmp_path):
    """The log is created before the fork. gevent replaces threads and locks after it."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        command = [
            *(sys.executable, "-m", "gunicorn", "--preload", "--workers", "2", "--worker-class", "gevent"),
            *("--bind", f"fd://{listener.fileno()}", "--no-control-socket", "preloaded_log:application"),
        ]
        environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(tmp_path),
            "DSN": store.dsn,
            "SPOOL": str(tmp_path / "spool"),
            "PYTHONPATH": str(Path(__file__).parent),
        }
        process = subprocess.Popen(command, env=environment, cwd=tmp_path, pass_fds=[listener.fileno()])
        try:

            def get(number):
                connection = http.client.HTTPConnection(*listener.getsockname(), timeout=60)
                connection.request("GET", f"/{number}")
                answer = connection.getresponse().read().split()
                connection.close()
                return answer

            with ThreadPoolExecutor(16) as threads:
                answers = list(threads.map(get, range(200)))
        finally:
            process.terminate()
            assert process.wait(60) == 0
    assert {tuple(said) for *said, _ in answers} == {(b"True", b"True")}
    assert len({pid for *_, pid in answers}) == 2
    # The workers sent their events before they ended.
    recorded = store.owner.execute(
        "select entity_id, actor_id, action from public.audit_logs where action <> 'server.loaded'"
    ).fetchall()
    assert sorted(recorded) == sorted(
        (str(n), str(n), action) for n in range(200) for action in ("order.placed", "order.paid")
    )
