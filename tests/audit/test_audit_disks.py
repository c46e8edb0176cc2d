"""Full and read-only disks, of the spool and of the database server."""

from __future__ import annotations

import json
import textwrap

import pytest

import tiny_disk
from hooks_skips import skip_without

pytestmark = pytest.mark.newest_server


@pytest.fixture
def on_tiny_disk(tmp_path):
    """A function that runs a script with its own small disk. Returns the ids that the script printed."""
    if reason := tiny_disk.why_not():
        skip_without("a mount namespace", reason)
    place = tmp_path / "disk"
    place.mkdir()
    # The database server may run under another account.
    for each in (place, tmp_path, tmp_path.parent):
        each.chmod(0o711)

    def run(script, size, *arguments):
        done = tiny_disk.run_python(script, place, size, *arguments)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    return run


PREAMBLE = """
import json, os, subprocess, sys
from contextlib import suppress
from pathlib import Path

from usersync import AuditLog
from usersync.audit.spool import intake

intake._RETRY_S = 0.05
disk, dsn = Path(sys.argv[1]), sys.argv[2]
NOWHERE = "postgresql://u@127.0.0.1:1/nowhere"
ids = []


def make(source):
    return AuditLog(source, spool_dir=disk / "spool", project="test", exit_timeout=0)


def fill(log):
    "Record until events go to memory, because none is sent and the disk is full."
    while not log.stats().in_memory:
        ids.append(log.record("a.b", metadata={"x": "y" * 5000}))
    assert "full" in log.stats().spool_error


def fill_disk(path):
    "Fill it with another file."
    with path.open("wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(bytes(4096))


def come_back(log):
    "Record until events go to the spool again, and not faster than memory is emptied."
    while log.stats().spool_error:
        ids.append(log.record("a.b"))
        assert log.flush(30)


def end(log):
    assert log.flush(30)
    stats = log.stats()
    assert (stats.waiting, stats.dropped, stats.quarantined, stats.rejected) == (0, 0, 0, 0), stats
    assert None not in ids
    print(json.dumps(ids))
"""

SPOOL_DISKS = {
    "full of our own events": """
        log = make(NOWHERE)
        fill(log)
        ids += [log.record("a.b") for _ in range(100)]
        log._engine._writer.sender._source = dsn
        assert log.flush(30)
        # The space of the delivered events is free, so the spool is writable again.
        come_back(log)
        ids += [log.record("a.b") for _ in range(1000)]
        end(log)
        assert log.close()
    """,
    "full of a dead process's events": """
        read, write = os.pipe()
        if os.fork() == 0:
            log = make(NOWHERE)
            fill(log)
            # Events in memory are lost with the process.
            os.write(write, json.dumps(ids[: log.stats().spooled]).encode())
            os._exit(9)
        os.close(write)
        with open(read) as told:
            ids = json.load(told)
        log = make(dsn)
        ids.append(log.record("a.b"))
        assert log.drain(30)
        # The complete file was deleted, although no row could be deleted in it.
        assert not list((disk / "spool" / "test").glob("*.spool"))
        come_back(log)
        end(log)
    """,
    "full of other things": """
        log = make(dsn)
        ids.append(log.record("a.b"))
        fill_disk(disk / "other")
        ids += [log.record("a.b", metadata={"x": "y" * 5000}) for _ in range(1000)]
        assert log.stats().spool_error
        assert log.flush(30)
        (disk / "other").unlink()
        come_back(log)
        end(log)
    """,
    "full from the beginning": """
        fill_disk(disk / "other")
        log = make(dsn)
        ids += [log.record("a.b") for _ in range(100)]
        stats = log.stats()
        assert (stats.accepted, stats.spooled, stats.dropped) == (100, 0, 0)
        assert log.flush(30)
        (disk / "other").unlink()
        come_back(log)
        end(log)
    """,
    "read-only": """
        subprocess.run(["mount", "-o", "remount,bind,ro", disk], check=True)
        log = make(dsn)
        ids += [log.record("a.b") for _ in range(100)]
        assert "Read-only" in log.stats().spool_error
        assert log.flush(30)
        subprocess.run(["mount", "-o", "remount,bind,rw", disk], check=True)
        come_back(log)
        end(log)
    """,
}


@pytest.mark.parametrize("script", SPOOL_DISKS.values(), ids=SPOOL_DISKS)
def test_every_event_is_stored_although_the_spools_disk_fails(on_tiny_disk, store, script):
    ids = on_tiny_disk(PREAMBLE + textwrap.dedent(script), "4m", store.dsn)
    assert len(ids) > 100
    assert sorted(store.ids()) == sorted(ids)


@pytest.mark.slow
def test_every_event_is_stored_after_the_servers_disk_was_full(on_tiny_disk, tmp_path):
    """All files of the server are on the small disk. The spool is on another disk."""
    script = """
        from usersync.embedded import EmbeddedPostgres
        from usersync.config.settings import parse_settings
        from usersync.testing import SupabaseCluster
        from usersync.testing.install import install

        disk.chmod(0o711)
        settings = {"fsync": "off", "shared_buffers": "16MB", "max_wal_size": "32MB", "min_wal_size": "32MB"}
        with (
            EmbeddedPostgres(data_dir=disk / "server", settings=settings) as server,
            SupabaseCluster.on(server) as cluster,
        ):
            database = cluster.create()
            install(database, parse_settings({"audit": {"enabled": True}}))
            log = AuditLog(database.dsn(), spool_dir=sys.argv[2])
            ids.append(log.record("a.b"))
            assert log.flush(30)
            fill_disk(disk / "other")
            while not log.stats().consecutive_failures:
                ids += [log.record("a.b", metadata={"x": os.urandom(500).hex()}) for _ in range(100)]
            assert "No space left on device" in log.stats().last_error, log.stats()
            ids += [log.record("a.b") for _ in range(1000)]
            assert not log.flush(0.5)
            (disk / "other").unlink()
            with database.connect() as connection:
                assert log.flush(60), log.stats()
                rows = connection.execute("select id from public.audit_logs").fetchall()
            stats = log.stats()
            assert (stats.waiting, stats.dropped, stats.quarantined, stats.rejected) == (0, 0, 0, 0), stats
            assert sorted(str(each) for (each,) in rows) == sorted(ids)
            log.close()
        print(json.dumps(ids))
    """
    assert len(on_tiny_disk(PREAMBLE + textwrap.dedent(script), "128m", tmp_path / "spool")) > 1000
