"""Spool files that are removed while a process uses them. Every accepted event is stored."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys

import pytest

from usersync.audit.spool import intake

pytestmark = pytest.mark.newest_server


@pytest.fixture(autouse=True)
def _checks_files_at_each_event(monkeypatch):
    """Check the files at every event instead of once a second."""
    monkeypatch.setattr(intake, "_LOOK_MS", 0)


def remove_lock(directory):
    for path in directory.rglob("*.lock"):
        path.unlink()


def remove_spool(directory):
    for path in directory.rglob("*.spool"):
        path.unlink()


def remove_wal(directory):
    for path in directory.rglob("*.spool-wal"):
        path.unlink()


REMOVALS = [remove_lock, remove_spool, remove_wal, shutil.rmtree]

RECORDER = """
import json, os, sys
from usersync import AuditLog
from usersync.audit.spool import intake

intake._LOOK_MS = 0
log = AuditLog.recording_only(spool_dir=sys.argv[1], project="test")
ids = [log.record("a.b") for _ in range(3)]
print("recorded", flush=True)
sys.stdin.readline()
ids += [log.record("a.b") for _ in range(5)]
print(json.dumps(ids), flush=True)
os.kill(os.getpid(), 9)
"""


@pytest.mark.parametrize("remove", REMOVALS)
def test_no_event_is_lost_if_files_are_removed_and_the_process_is_killed(store, make_log, spool_dir, remove):
    with subprocess.Popen(
        [sys.executable, "-c", RECORDER, str(spool_dir)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as recorder:
        assert recorder.stdout.readline() == "recorded\n"
        remove(spool_dir)
        log = make_log(store.dsn)
        # Without the lock file, this process takes the spool for one of a dead process, and deletes it.
        assert log.drain()
        recorder.stdin.write("\n")
        recorder.stdin.flush()
        ids = json.loads(recorder.stdout.readline())
    assert log.drain()
    assert sorted(store.ids()) == ids


@pytest.mark.parametrize("remove", REMOVALS)
def test_no_event_is_lost_if_files_are_removed_during_an_outage(store, make_log, eventually, caplog, remove):
    log = make_log(store.dsn, keep_delivered=0)
    store.owner.execute("alter function public.record_audit_events(jsonb) rename to gone")
    ids = [log.record("a.b") for _ in range(3)]
    eventually(lambda: log.stats().consecutive_failures)
    remove(log._root.parent)
    ids += [log.record("a.b") for _ in range(3)]
    assert log.stats().spool_error is None
    assert log.stats().waiting >= 6
    store.owner.execute("alter function public.gone(jsonb) rename to record_audit_events")
    assert log.flush()
    assert sorted(store.ids()) == ids
    assert "files of the audit spool were removed" in caplog.text
    log.close()
    assert not list(log._root.glob("*.spool"))


def test_files_in_use_are_touched_regularly(make_log, spool_dir):
    log = make_log(None)
    log.record("a.b")
    files = [*spool_dir.rglob("*.lock"), *spool_dir.rglob("*.spool*")]
    for each in files:
        os.utime(each, (0, 0))
    log._running().intake._touched_ms = 0
    log.record("a.b")
    assert all(each.stat().st_mtime > 0 for each in files)
