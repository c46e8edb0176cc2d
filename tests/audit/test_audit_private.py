"""Spool files are not trusted: files of other accounts, links, and rows with unexpected content."""

from __future__ import annotations

import os
import sqlite3
import stat
from contextlib import closing
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from audit_settings import with_audit_log
from usersync import AuditLog
from usersync.audit.erasure import personal_keys_of
from usersync.audit.spool.erasing import erase_in_spools
from usersync.audit.spool.file import Spool
from usersync.audit.spool.listing import survey_spool, survey_spools
from usersync.audit.spool.private import NotPrivateError, check_directory, check_file, connect

pytestmark = pytest.mark.newest_server

UNREACHABLE = "postgresql://u@127.0.0.1:1/nowhere"


@pytest.fixture
def spool_of_an_ended_process(make_log, spool_dir):
    """The spool file of a process that has ended, with one event."""
    log = make_log(None)
    log.record("a.b")
    log.close(0)
    (path,) = spool_dir.rglob("*.spool")
    return path


def test_a_directory_of_another_account_is_neither_read_nor_written(
    store, spool_dir, spool_of_an_ended_process, monkeypatch
):
    path, before = spool_of_an_ended_process, spool_of_an_ended_process.read_bytes()
    # The existing files belong to another account.
    monkeypatch.setattr("usersync.audit.spool.private.os.geteuid", lambda: os.getuid() + 1)
    with AuditLog(store.dsn, spool_dir=spool_dir, project="test", keep_delivered=0) as log:
        assert log.record("c.d")
        assert "belongs to another account" in log.stats().spool_error
        assert not log.drain(10)
    assert [event["action"] for event in store.events()] == ["c.d"]
    assert path.read_bytes() == before
    survey = survey_spool(path.parent)
    assert "belongs to another account" in survey.problem
    assert survey.files == ()


def test_symbolic_links_to_spool_files_are_not_followed(
    store, make_log, spool_dir, tmp_path, spool_of_an_ended_process
):
    """No other file is made a database, and no other account's database is changed."""
    victim = tmp_path / "config"
    victim.write_text("precious")
    victim.chmod(0o600)
    foreign = spool_of_an_ended_process.rename(tmp_path / "foreign.db")
    content = foreign.read_bytes()
    (spool_of_an_ended_process.parent / "1-00.spool").symlink_to(victim)
    (spool_of_an_ended_process.parent / "2-00.spool").symlink_to(foreign)
    os.link(foreign, spool_of_an_ended_process.parent / "3-00.spool")
    (spool_of_an_ended_process.parent / "4-00.spool").touch(mode=0o600)
    (spool_of_an_ended_process.parent / "4-00.spool-wal").symlink_to(victim)
    (spool_of_an_ended_process.parent / "5-00.lock").symlink_to(victim)
    (spool_of_an_ended_process.parent / "5-00.spool").touch(mode=0o600)
    log = make_log(store.dsn)
    result = log.drain_all(20)
    assert not result
    assert {path.name for path in result.unreadable} == {f"{n}-00.spool" for n in range(1, 6)}
    assert store.ids() == []
    assert (victim.read_text(), foreign.read_bytes()) == ("precious", content)
    problems = [
        file.problem for file in survey_spool(spool_of_an_ended_process.parent).files if not file.owned
    ]
    assert sum("link" in (problem or "") for problem in problems) == 4


def test_the_error_names_a_link_in_place_of_the_spool_directory(spool_dir, spool_of_an_ended_process):
    (spool_dir / "linked").symlink_to(spool_of_an_ended_process.parent)
    problems = {each.directory.name: each.problem for each in survey_spools(spool_dir)}
    assert problems["test"] is None
    assert "symbolic link" in problems["linked"]


def test_a_parent_directory_of_another_account_is_refused(tmp_path, monkeypatch):
    """An example is the directory below /tmp, whose name other accounts know in advance."""
    shared = tmp_path / "tmp"
    shared.mkdir()
    shared.chmod(0o1777)
    inner = shared / "usersync-1" / "spool"
    inner.mkdir(parents=True, mode=0o700)
    inner.chmod(0o700)
    check_directory(inner)
    status = os.stat

    def foreign(path, *arguments, **options):
        found = status(path, *arguments, **options)
        if str(path) == str(inner.parent):
            return os.stat_result((*found[:4], 12345, *found[5:10]))
        return found

    monkeypatch.setattr("pathlib.os.stat", foreign)
    with pytest.raises(NotPrivateError, match="belongs to another account"):
        check_directory(inner)


@pytest.mark.parametrize("mask", [0, 0o077])
def test_every_created_directory_is_private(tmp_path, mask):
    old = os.umask(mask)
    try:
        with AuditLog.recording_only(spool_dir=tmp_path / "a" / "b" / "c", project="test") as log:
            assert log.record("a.b")
            assert log.stats().spooled == 1
    finally:
        os.umask(old)
    made = [tmp_path / "a", *(each for each in (tmp_path / "a").rglob("*") if each.is_dir())]
    assert len(made) == 4
    assert {stat.S_IMODE(each.stat().st_mode) for each in made} == {0o700}


def test_a_file_that_other_accounts_can_write_is_not_read(spool_of_an_ended_process):
    spool_of_an_ended_process.chmod(0o666)
    with pytest.raises(NotPrivateError, match="can be written by other accounts"):
        check_file(spool_of_an_ended_process)
    spool_of_an_ended_process.chmod(0o600)
    assert check_file(spool_of_an_ended_process)


@pytest.mark.parametrize("value", ["text", 7, 2.5, ""])
def test_a_row_that_is_not_a_blob_is_quarantined_and_the_others_are_delivered(
    store, make_log, spool_of_an_ended_process, value
):
    with closing(sqlite3.connect(spool_of_an_ended_process)) as connection, connection:
        connection.execute("insert into events (at_ms, event) values (0, ?)", (value,))
        connection.execute("insert into events (at_ms, event) values (0, ?)", (b'{"action": "after.it"}',))
    log = make_log(store.dsn, keep_delivered=0)
    log.record("of.another")
    assert log.drain(20)
    assert sorted(event["action"] for event in store.events()) == ["a.b", "after.it", "of.another"]
    (reason,) = [
        each.reason
        for file in survey_spool(spool_of_an_ended_process.parent).files
        for each in file.quarantined
    ]
    assert "not a BLOB" in reason
    assert log.stats().quarantined == 1


@pytest.mark.parametrize("payload", [b"", b'{"action":"x.y"},{"action":"x.z"}', b"[]", b"\xff", b"null"])
def test_a_row_that_is_not_one_event_does_not_affect_others(
    store, make_log, spool_of_an_ended_process, payload
):
    with closing(sqlite3.connect(spool_of_an_ended_process)) as connection, connection:
        connection.execute("insert into events (at_ms, event) values (0, ?)", (payload,))
        connection.execute("insert into events (at_ms, event) values (0, ?)", (b'{"action": "after.it"}',))
    log = make_log(store.dsn, keep_delivered=0)
    log.drain(20)
    assert sorted(event["action"] for event in store.events()) == ["a.b", "after.it"]
    assert log.stats().quarantined + log.stats().rejected == 1


ANYTHING = st.one_of(
    st.none(),
    st.integers(-(2**63), 2**63 - 1),
    st.floats(allow_nan=False),
    st.text(),
    st.binary(max_size=200),
)
BROKEN = settings(max_examples=60)


@BROKEN
@given(
    rows=st.lists(st.tuples(ANYTHING, ANYTHING), max_size=5),
    about=st.dictionaries(
        st.sampled_from(["version", "address", "project", "position", "keep_ms", "x"]), ANYTHING, max_size=6
    ),
    delivered=st.lists(st.tuples(st.integers(-5, 5), ANYTHING, ANYTHING), max_size=3),
)
def test_any_value_in_any_column_is_read_or_raises_a_usersync_error(tmp_path_factory, rows, about, delivered):
    path = tmp_path_factory.mktemp("fuzz") / "1-00.spool"
    spool = Spool(path, 1 << 20)
    spool.append(0, b'{"action": "a.b"}')
    spool.close()
    with closing(sqlite3.connect(path)) as connection, connection:
        for at_ms, event in rows:
            connection.execute("insert or ignore into events (at_ms, event) values (?, ?)", (at_ms, event))
            connection.execute(
                "insert or ignore into refused (at_ms, event, reason) values (?, ?, ?)", (at_ms, event, at_ms)
            )
        connection.executemany("insert or replace into about values (?, ?)", about.items())
        connection.executemany(
            "insert or replace into delivered values (?, ?, ?)", [row for row in delivered if None not in row]
        )
    path.parent.chmod(0o700)
    (file,) = survey_spool(path.parent).files
    assert file.problem is None
    with opened(path) as spool:
        entries = spool.read(100, 1 << 20)
        assert all(isinstance(entry.payload, bytes) for entry in entries)
        spool.oldest_ms()
        spool.quarantined()
        spool.prune(1 << 50)


def opened(path):
    return closing(Spool(path, 1 << 20))


@BROKEN
@given(content=st.binary(max_size=5000), cut=st.integers(0, 20_000))
def test_any_bytes_are_a_spool_or_raise_a_usersync_error(tmp_path_factory, content, cut):
    path = tmp_path_factory.mktemp("fuzz") / "1-00.spool"
    spool = Spool(path, 1 << 20)
    for _ in range(5):
        spool.append(0, b'{"action": "a.b"}')
    spool.close()
    whole = path.read_bytes()
    path.write_bytes(whole[:cut] + content + whole[cut + len(content) :])
    path.parent.chmod(0o700)
    (file,) = survey_spool(path.parent).files
    assert file.problem is None or file.waiting == 0
    try:
        with opened(path) as spool:
            spool.read(100, 1 << 20)
    except (sqlite3.Error, OSError):
        pass


@pytest.mark.slow
def test_an_erased_event_leaves_no_copy_in_the_file_or_the_wal(make_log, spool_dir):
    """The spool belongs to a running process, keeps delivered events, and has had deleted rows."""
    user = UUID("00000000-0000-4000-8000-00000000000a")
    log = make_log(None)
    for n in range(50):
        log.record("a.b", actor_id=str(user), metadata={"email": f"ada{n}@example.com"})
    spool = log._engine.intake.spool
    spool.discard(20)

    def copies():
        return sum(
            path.read_bytes().count(b"@example.com") for path in spool_dir.rglob("*") if path.is_file()
        )

    assert copies() >= 50
    found = erase_in_spools(spool_dir, user, personal_keys_of(with_audit_log()))
    assert found.held == ()
    assert copies() == 0
    assert log.record("a.b")
    # The file is reported while another connection reads it.
    log.record("a.b", actor_id=str(user), metadata={"email": "ada@example.com"})
    with closing(connect(spool.path, 1.0)) as reader:
        reader.execute("begin")
        reader.execute("select count(*) from events").fetchone()
        held = erase_in_spools(spool_dir, user, personal_keys_of(with_audit_log())).held
    assert held == (spool.path,)
