"""The spool: its privacy, failures to write it, and takeover by another process."""

from __future__ import annotations

import errno
import os
import sqlite3
import stat
import threading
from contextlib import closing

import pytest

from usersync.audit.spool.directory import SpoolDirectory, files_in, survey, take_over
from usersync.audit.spool.file import Spool


def spool_files(root):
    return sorted(root.rglob("*.spool"))


def test_nothing_is_created_before_the_first_event(make_log, spool_dir):
    make_log(None)
    assert not spool_dir.exists()


def test_only_the_owner_can_read_the_spool(offline, spool_dir):
    old = os.umask(0)
    try:
        offline.record("a.b")
    finally:
        os.umask(old)
    (spool,) = spool_files(spool_dir)
    assert stat.S_IMODE(spool.parent.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in spool.parent.iterdir()} == {0o600}


def test_a_directory_that_other_accounts_can_read_is_made_private(make_log, spool_dir):
    (spool_dir / "test").mkdir(parents=True, mode=0o755)
    make_log(None).record("a.b")
    assert stat.S_IMODE((spool_dir / "test").stat().st_mode) == 0o700


def test_a_link_in_place_of_the_spool_directory_is_not_followed(make_log, spool_dir, tmp_path):
    spool_dir.mkdir()
    (tmp_path / "elsewhere").mkdir()
    (spool_dir / "test").symlink_to(tmp_path / "elsewhere")
    log = make_log(None)
    assert log.record("a.b")
    assert log.stats().in_memory == 1
    assert not list((tmp_path / "elsewhere").iterdir())


def test_the_next_process_sends_unsent_events_of_a_closed_log(make_log, store, spool_dir):
    with make_log("postgresql://u@127.0.0.1:1/nowhere", keep_delivered=0) as first:
        ids = [first.record("a.b") for _ in range(5)]
        assert not first.close(0.1)
    assert len(spool_files(spool_dir)) == 1
    second = make_log(store.dsn)
    assert second.drain()
    assert sorted(store.ids()) == sorted(ids)
    assert spool_files(spool_dir) == []
    assert list((spool_dir / "test").iterdir()) == []


def test_the_spool_of_a_running_process_is_not_taken_over(make_log, store, spool_dir):
    first, second = make_log(None), make_log(store.dsn)
    first.record("a.b")
    assert second.drain()
    assert len(spool_files(spool_dir)) == 1
    assert store.ids() == []
    (seen,) = survey(spool_dir / "test")
    assert seen.owned
    first.close(0)
    assert not survey(spool_dir / "test")[0].owned
    assert second.drain()
    assert len(store.ids()) == 1


def test_two_writers_share_the_spools_of_dead_processes(make_log, store, spool_dir):
    ids = []
    for _ in range(12):
        dead = make_log(None)
        ids += [dead.record("a.b") for _ in range(20)]
        dead.close(0)
    writers = [make_log(store.dsn) for _ in range(2)]
    ids += [writer.record("a.b") for writer in writers for _ in range(50)]
    threads = [threading.Thread(target=writer.drain) for writer in writers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(writer.flush() for writer in writers)
    assert writers[0].drain()
    assert sorted(store.ids()) == sorted(ids)
    assert sum(writer.stats().duplicates for writer in writers) == 0


@pytest.mark.slow
def test_events_go_to_memory_while_the_spool_is_full(make_log, store, eventually, caplog):
    log = make_log("postgresql://u@127.0.0.1:1/nowhere", spool_bytes=256 << 10)
    ids = []
    while not log.stats().in_memory:
        ids.append(log.record("a.b", metadata={"x": "y" * 5000}))
    ids.append(log.record("a.b"))
    assert None not in ids
    stats = log.stats()
    assert "full" in stats.spool_error
    assert caplog.text.count("the audit spool is not writable") == 1
    log._engine._writer.sender._source = store.dsn
    assert log.flush()
    assert sorted(store.ids()) == sorted(ids)

    def events_are_back_in_the_spool():
        log.record("a.b")
        return log.stats().spool_error is None

    eventually(events_are_back_in_the_spool)
    assert log.flush()


def test_the_last_events_are_sent_although_their_file_was_removed(make_log, store, spool_dir, monkeypatch):
    """The writer notices the removal before another event is recorded, which would create new files."""
    read, removed = Spool.read, []

    def read_removed(spool, *arguments):
        if not removed:
            removed.extend(each.unlink() for each in spool_dir.rglob("*.spool*"))
            raise FileNotFoundError(errno.ENOENT, "removed")
        return read(spool, *arguments)

    monkeypatch.setattr(Spool, "read", read_removed)
    log = make_log(store.dsn)
    event = log.record("a.b")
    assert log.flush()
    assert removed
    assert store.ids() == [event]
    assert log.stats().spool_error is None


def test_flush_returns_although_the_spool_is_replaced_twice(make_log, store, monkeypatch):
    """Between two checks of flush(), the events move to a new file, and this file is sent and removed."""
    log = make_log(store.dsn)
    log.record("a.b")
    assert log.flush()
    engine = log._engine
    sent = Spool.__new__(Spool)
    sent.done, sent.last = 0, 1
    kept, engine.intake.spool = engine.intake.spool, sent

    def meanwhile(condition, deadline):
        if not condition():
            engine.intake.spool, engine.intake.started_over = None, 1
        return condition()

    monkeypatch.setattr(engine, "_wait", meanwhile)
    assert log.flush()
    engine.intake.spool = kept


def test_a_file_that_received_an_event_meanwhile_is_kept(make_log, spool_dir, monkeypatch):
    """The file was empty when it was checked. An event was stored before the lock was acquired."""
    offline = make_log(None, keep_delivered=0)
    offline.record("a.b")
    intake = offline._engine.intake
    spool = intake.spool
    spool.discard(1)

    def quarantined():
        offline.record("a.b")
        return []

    monkeypatch.setattr(spool, "quarantined", quarantined)
    intake._start_over(spool)
    assert offline.stats().spooled == 1
    assert spool_files(spool_dir) == [spool.path]
    monkeypatch.undo()
    spool.discard(2)
    intake._start_over(spool)
    assert list((spool_dir / "test").iterdir()) == []
    assert offline.record("a.b")
    assert offline.stats().spooled == 1


def test_events_are_dropped_and_counted_if_spool_and_memory_are_full(make_log):
    log = make_log(None, spool_bytes=64 << 10, memory_events=3)
    results = [log.record("a.b", metadata={"x": "y" * 5000}) for _ in range(60)]
    stats = log.stats()
    assert stats.in_memory == 3
    assert stats.dropped == results.count(None) > 0
    assert stats.accepted == 60 - stats.dropped


def test_a_log_that_only_records_moves_events_from_memory_to_the_spool(offline, monkeypatch):
    def fail(_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("usersync.audit.spool.intake._RETRY_S", 0.0)
    with monkeypatch.context() as full:
        full.setattr(SpoolDirectory, "claim", fail)
        waited = [offline.record("a.b") for _ in range(3)]
    assert (offline.stats().in_memory, offline.stats().spooled) == (3, 0)
    assert None not in [*waited, offline.record("a.b")]
    assert (offline.stats().in_memory, offline.stats().spooled) == (0, 4)


@pytest.mark.parametrize("obstacle", ["file", "missing parent"])
def test_events_go_to_memory_if_no_directory_can_be_created(make_log, store, tmp_path, obstacle):
    (tmp_path / "file").write_text("")
    place = tmp_path / "file" / "spool" if obstacle == "file" else tmp_path / ("x" * 300)
    log = make_log(store.dsn, spool_dir=place)
    ids = [log.record("a.b") for _ in range(10)]
    assert log.stats().spool_error
    assert log.flush()
    assert sorted(store.ids()) == sorted(ids)


def test_a_damaged_file_is_renamed_and_recording_continues(make_log, spool_dir, eventually, caplog):
    log = make_log(None)
    for _ in range(200):
        log.record("a.b", metadata={"x": "y" * 500})
    (path,) = spool_files(spool_dir)
    log._engine.intake.spool._recorder.execute("pragma wal_checkpoint(truncate)").fetchall()
    with path.open("r+b") as file:
        file.write(b"\xff" * (path.stat().st_size))
    # SQLite reads only pages that are not in its cache.
    log._engine.intake.spool._recorder.execute("pragma shrink_memory")
    assert all(log.record("a.b") for _ in range(10))
    assert log.stats().dropped == 0
    assert list(spool_dir.rglob("*.damaged-*"))
    assert len(spool_files(spool_dir)) == 1
    assert "a damaged audit spool was renamed" in caplog.text


def test_a_damaged_file_of_a_dead_process_is_renamed(make_log, store, spool_dir, eventually):
    (spool_dir / "test").mkdir(parents=True, mode=0o700)
    (spool_dir / "test" / "1-dead.spool").write_bytes(b"no database" * 1000)
    log = make_log(store.dsn)
    log.record("a.b")
    assert not log.drain()
    assert len(store.ids()) == 1
    assert [path.read_bytes()[:11] for path in spool_dir.rglob("*.damaged-*")] == [b"no database"]


def test_an_unreadable_file_does_not_block_others(make_log, store, spool_dir):
    dead = make_log(None)
    event_id = dead.record("a.b")
    dead.close(0)
    # This file sorts first and is not a regular file.
    (spool_dir / "test" / "0-strange.spool").mkdir()
    log = make_log(store.dsn)
    assert not log.drain()
    assert store.ids() == [event_id]
    assert (spool_dir / "test" / "0-strange.spool").is_dir()


def test_recording_continues_during_a_checkpoint(make_log, spool_dir, monkeypatch):
    monkeypatch.setattr("usersync.audit.spool.file._CHECKPOINT_BYTES", 100_000)
    log = make_log(None)
    log.record("a.b")
    spool = log._engine.intake.spool
    for _ in range(30):
        assert all(log.record("a.b") for _ in range(100))
        spool.maintain()
    # The WAL restarts at each checkpoint, so its size is a tenth of the data written.
    (path,) = spool_files(spool_dir)
    assert path.with_name(path.name + "-wal").stat().st_size < 30 * 100 * 2048 / 5
    assert log.stats().spooled == 3001
    assert len(spool.read(9999, 1 << 30)) == 3001


def test_a_reader_of_the_spool_file_does_not_delay_recording(make_log, store, spool_dir, monkeypatch):
    monkeypatch.setattr("usersync.audit.spool.file._CHECKPOINT_BYTES", 100_000)
    log = make_log(store.dsn)
    ids = [log.record("a.b")]
    (path,) = spool_files(spool_dir)
    with closing(sqlite3.connect(path)) as reader:
        # This transaction stays open, so its snapshot must stay in the WAL.
        reader.execute("begin")
        reader.execute("select count(*) from events").fetchone()
        for _ in range(10):
            ids += [log.record("a.b") for _ in range(200)]
            assert log.flush(20)
        assert log.stats().spool_error is None
    assert sorted(store.ids()) == sorted(ids)


def test_a_log_that_only_records_keeps_its_wal_small(offline, spool_dir):
    for _ in range(3000):
        offline.record("a.b")
    (path,) = spool_files(spool_dir)
    assert path.with_name(path.name + "-wal").stat().st_size < 8 << 20


def test_numbers_continue_in_a_reopened_file(tmp_path):
    spool = Spool(tmp_path / "x.spool", 1 << 20)
    for payload in (b"a", b"b", b"c"):
        spool.append(0, payload)
    spool.discard(1)
    spool.close()
    spool = Spool(tmp_path / "x.spool", 1 << 20)
    assert [(entry.number, entry.payload) for entry in spool.read(9, 9)] == [(2, b"b"), (3, b"c")]
    assert [entry.number for entry in spool.read(9, 1)] == [2]
    assert len(spool) == 2
    spool.remove()


def test_a_claim_is_exclusive_until_it_is_released(tmp_path):
    directory = SpoolDirectory(tmp_path)
    claim = directory.claim()
    claim.path.touch()
    assert files_in(tmp_path) == [claim.path]
    assert take_over(claim.path) is None
    claim.release()
    adopted = take_over(claim.path)
    assert adopted is not None
    assert adopted.path == claim.path
    claim.path.unlink()
    adopted.release()
    assert list(tmp_path.iterdir()) == []
