from __future__ import annotations

import sqlite3
import subprocess
import sys

import pytest

from usersync import AuditLog

pytestmark = pytest.mark.newest_server

RECORD_AND_DIE = """
import os, sys
from usersync import AuditLog
log = AuditLog.recording_only(spool_dir=sys.argv[1], project="test")
for number in range(5):
    log.record("shelf.counted", entity=("shelf", number))
os._exit(9)
"""


@pytest.fixture
def events_of_a_dead_process(spool_dir):
    """A process recorded five events and was killed before it sent one."""
    subprocess.run([sys.executable, "-c", RECORD_AND_DIE, spool_dir], check=False)


def test_an_empty_spool_is_reported(usersync, spool_dir):
    done = usersync("audit", "spool", "--dir", spool_dir)
    assert (done.code, done.err) == (0, "")
    assert "no events waiting" in done.out


def test_events_of_a_dead_process_are_shown(usersync, spool_dir, events_of_a_dead_process):
    done = usersync("audit", "spool", "--dir", spool_dir)
    assert done.code == 0
    assert "5 events waiting" in done.out
    assert "gone" in done.out
    assert "usersync audit spool --drain --project test" in done.out
    assert all(len(line) <= 80 for line in done.out.splitlines())
    data = usersync("audit", "spool", "--dir", spool_dir, "--json").json
    assert (data["waiting"], data["quarantined"], data["drained"]) == (5, 0, None)
    (file,) = data["spools"][0]["files"]
    assert (file["waiting"], file["owned"]) == (5, False)
    assert file["oldest_at"]


def test_usersync_spool_dir_names_the_spool_directory(
    usersync, spool_dir, events_of_a_dead_process, monkeypatch
):
    monkeypatch.setenv("USERSYNC_SPOOL_DIR", str(spool_dir))
    assert usersync("audit", "spool", "--json").json["waiting"] == 5


def test_the_file_of_a_running_process_is_not_drained(usersync, spool_dir):
    with AuditLog.recording_only(spool_dir=spool_dir, project="test") as log:
        log.record("shelf.counted")
        done = usersync("audit", "spool", "--dir", spool_dir, "--project", "test")
        assert "alive" in done.out
        assert "--drain" not in done.out


def test_drain_delivers_events_of_a_dead_process(audited, spool_dir, events_of_a_dead_process):
    done = audited("spool", "--drain", "--dir", spool_dir, "--project", "test")
    assert done.code == 0
    assert "Delivering to" in done.err
    assert "no events waiting" in done.out
    assert "Done: 5 events delivered." in done.out
    stored = audited.project.owner.execute("select count(*) from public.audit_logs").fetchone()
    assert stored == (5,)


def test_drain_refuses_a_spool_of_another_database_and_names_the_option(
    audited, spool_dir, events_of_a_dead_process
):
    done = audited("spool", "--drain", "--dir", spool_dir)
    assert done.code == 0
    assert "Done: no events delivered." in done.out
    *_, advice = done.out.splitlines()
    assert advice.strip() == "usersync audit spool --drain --project test"
    assert audited(*advice.split()[2:], "--dir", spool_dir, "--json").json["delivered"] == 5


def test_a_missing_spool_is_an_error(usersync, spool_dir, events_of_a_dead_process):
    done = usersync("audit", "spool", "--dir", spool_dir, "--project", "tset")
    assert done.code == 2
    assert "the spool tset does not exist" in done.err
    assert "Spools: test." in done.err


def test_drain_without_a_database_fails_and_keeps_the_events(usersync, spool_dir, events_of_a_dead_process):
    done = usersync("audit", "spool", "--drain", "--dir", spool_dir, "--dsn", "postgresql://127.0.0.1:1/x")
    assert done.code == 3
    assert usersync("audit", "spool", "--dir", spool_dir, "--json").json["waiting"] == 5


def test_drain_into_a_database_without_usersync_keeps_the_events(
    usersync, database, spool_dir, events_of_a_dead_process
):
    done = usersync("audit", "spool", "--drain", "--dir", spool_dir, "--dsn", database.dsn(), "--json")
    assert (done.code, done.json["error"]["code"]) == (1, "US301")


def test_quarantined_events_are_shown_with_their_reason(usersync, spool_dir, events_of_a_dead_process):
    (path,) = spool_dir.glob("test/*.spool")
    with sqlite3.connect(path) as connection:
        connection.execute(
            "insert into refused (at_ms, event, reason) values (0, ?, 'a \x1b[31mtrigger\nraised')",
            (b'{"id": "1", "action": "x.\\u001b[2Jdone"}',),
        )
    connection.close()
    done = usersync("audit", "spool", "--dir", spool_dir)
    assert done.code == 1
    assert "1 quarantined" in done.out
    assert "usersync audit spool --quarantined" in done.out
    done = usersync("audit", "spool", "--dir", spool_dir, "--quarantined")
    assert "1970-01-01 00:00:00  x.\\u001b[2Jdone" in done.out
    assert "a \\u001b[31mtrigger raised" in done.out
    assert "\x1b" not in done.out


def test_quarantined_events_are_retried(audited, spool_dir):
    owner = audited.project.owner
    owner.execute("alter function public.record_audit_events(jsonb) rename to inner_record")
    owner.execute(
        """create function public.record_audit_events(events jsonb) returns jsonb language plpgsql as $$
        begin
          if events <> '[]' then raise exception 'not today' using errcode = '22023'; end if;
          return '{}';
        end $$"""
    )
    event_id = audited.log.record("shelf.counted", entity=("shelf", 7))
    assert not audited.log.flush()
    arguments = ("--dir", spool_dir, "--project", "test")
    done = audited("spool", "--quarantined", *arguments)
    assert done.code == 1
    assert "not today" in done.out
    assert "usersync audit spool --retry-quarantined" in done.out
    done = audited("spool", "--retry-quarantined", *arguments)
    assert done.code == 1
    assert "1 quarantined event retried: 0 stored now, 1 quarantined again" in done.out
    owner.execute("drop function public.record_audit_events(jsonb)")
    owner.execute("alter function public.inner_record(jsonb) rename to record_audit_events")
    done = audited("spool", "--retry-quarantined", *arguments, "--json")
    assert (done.code, done.json["quarantined"]) == (0, 0)
    assert done.json["retried"] == {"stored": 1, "duplicates": 0, "rejected": 0, "quarantined": 0}
    stored = owner.execute("select id::text from public.audit_logs").fetchall()
    assert stored == [(event_id,)]
    done = audited("spool", "--retry-quarantined", *arguments)
    assert done.code == 0
    assert "This database's spool has no quarantined events." in done.out


def test_unreadable_files_are_named(usersync, spool_dir):
    (spool_dir / "test").mkdir(parents=True)
    (spool_dir / "test" / "77-abc.spool").write_bytes(b"no database at all" * 1000)
    (spool_dir / "test" / "78-abc.damaged-1").write_bytes(b"")
    done = usersync("audit", "spool", "--dir", spool_dir)
    assert done.code == 1
    assert "unreadable: file is not a database" in done.out
    assert "78-abc.damaged-1" in done.out


def test_a_drain_with_an_unreadable_file_is_incomplete(audited, spool_dir, events_of_a_dead_process):
    broken = spool_dir / "test" / "77-abc.spool"
    broken.write_bytes(b"no database at all" * 1000)
    broken.chmod(0o600)
    arguments = ("spool", "--drain", "--dir", spool_dir, "--project", "test")
    done = audited(*arguments)
    assert done.code == 1
    assert "Stopped: 5 events delivered." in done.out
    assert "not read:" in done.out
    assert "77-abc" in done.out


@pytest.mark.parametrize(
    ("arguments", "words"), [(["--timeout", "soon"], "not a duration"), (["--timeout", "5m"], "5min or 5mo")]
)
def test_invalid_durations_are_refused(usersync, arguments, words):
    done = usersync("audit", "spool", *arguments)
    assert done.code == 2
    assert words in done.err
