"""D032: spooled events, which were recorded on this machine and are not stored in the database yet."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from proxy import Proxy
from usersync.audit import AuditLog
from usersync.cli.main import run
from usersync.doctor import choose, examine
from usersync.doctor.context import OtherSpool, Spool
from usersync.transports.run import run as run_plan
from waiting import until_spools_are_free

pytestmark = pytest.mark.newest_server

#: Spools with the age of their oldest event, and the status and detail of the check.
NEW, OLD = timedelta(0), timedelta(hours=1)
SPOOLS = {
    "none": (None, "ok", "not checked"),
    "empty": (Spool("here", 0, 0, None, 0), "ok", "no event waits"),
    "waiting": (Spool("here", 3, 0, NEW, 0), "ok", "3 events waiting"),
    "abandoned": (Spool("here", 3, 3, NEW, 0), "warning", "of processes that died"),
    "stuck": (Spool("here", 3, 0, OLD, 0), "problem", "3 events have waited since"),
    "quarantined": (Spool("here", 0, 0, None, 1), "problem", "1 event quarantined"),
    "damaged": (Spool("here", 0, 0, None, 0, ("/spool/file",)), "problem", "/spool/file cannot be read"),
}


@pytest.mark.parametrize("how", SPOOLS)
def test_each_state_of_the_spool_has_its_status(checked, how):
    spool, status, detail = SPOOLS[how]
    if spool and spool.oldest_at is not None:
        spool = replace(spool, oldest_at=datetime.now(UTC) - spool.oldest_at)
    (check,) = run_plan(examine(checked.settings, choose(["D032"]), spool=spool), checked.project.owner)
    assert check.status == status
    assert detail in check.detail


def test_events_of_a_dead_process_are_reported_and_delivered(checked, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("USERSYNC_SPOOL_DIR", str(tmp_path / "spool"))
    dsn = checked.project.database.dsn()
    monkeypatch.setenv("SUPABASE_DB_URL", dsn)
    password = checked.project.database.passwords["postgres"]
    log = AuditLog(dsn.replace(password, "wrong"))
    log.record("stock.adjusted")
    assert not log.close(timeout=0.1)
    until_spools_are_free()
    assert run(["doctor", "--only", "D032", "--strict"]) == 1
    assert "1 event of processes that died" in capsys.readouterr().out
    (spool,) = (tmp_path / "spool").iterdir()
    assert run(["audit", "spool", "--drain", "--project", spool.name]) == 0
    assert run(["doctor", "--only", "D032", "--strict"]) == 0


@pytest.mark.parametrize("refused", ["a link", "a world-writable file", "a directory that is a link"])
def test_a_spool_file_that_is_not_private_is_reported_and_not_read(
    checked, tmp_path, monkeypatch, capsys, refused
):
    root = tmp_path / "spool"
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("USERSYNC_SPOOL_DIR", str(root))
    dsn = checked.project.database.dsn()
    monkeypatch.setenv("SUPABASE_DB_URL", dsn)
    log = AuditLog(dsn.replace(checked.project.database.passwords["postgres"], "wrong"))
    log.record("stock.adjusted")
    log.close(timeout=0.1)
    (path,) = root.rglob("*.spool")
    named = path
    if refused == "a link":
        path.rename(tmp_path / "elsewhere")
        path.symlink_to(tmp_path / "elsewhere")
    elif refused == "a directory that is a link":
        named = path.parent.rename(tmp_path / "elsewhere") and path.parent
        named.symlink_to(tmp_path / "elsewhere")
    else:
        path.chmod(0o666)
    assert run(["doctor", "--only", "D032"]) == 1
    output = "".join(capsys.readouterr().out.split())
    assert f"{named.name}cannotberead" in output


def test_events_of_an_earlier_connection_string_are_reported(checked):
    """The connection string changed, as after a failover. Events of another installation are not reported."""
    (row,) = checked.project.owner.execute("select installation::text from usersync.settings").fetchall()
    elsewhere = (
        OtherSpool("before", 7, row[0]),
        OtherSpool("of-another", 5, "00000000-0000-4000-8000-000000000001"),
    )
    spool = Spool("here", 0, 0, None, 0, (), elsewhere)
    (check,) = run_plan(examine(checked.settings, choose(["D032"]), spool=spool), checked.project.owner)
    assert check.status == "warning"
    (finding,) = check.findings
    assert "7 events of processes that died were recorded for this database with another" in finding.message
    assert finding.fix == "usersync audit spool --drain --project before"


def test_a_spool_of_an_earlier_connection_string_is_found_and_delivered(
    checked, tmp_path, monkeypatch, capsys
):
    """A process died during an outage of the old server. The project now has a new connection string."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("USERSYNC_SPOOL_DIR", str(tmp_path / "spool"))
    database = checked.project.database
    with Proxy(database.host, database.port) as old_server:
        log = AuditLog(old_server.through(database.dsn()), keep_delivered=0)
        log.record("before.outage")
        assert log.flush(30)
        old_server.silent.set()
        for _ in range(7):
            log.record("during.outage")
        assert not log.close(timeout=0.1)
    monkeypatch.setenv("SUPABASE_DB_URL", database.dsn())
    until_spools_are_free()
    assert run(["doctor", "--only", "D032", "--strict"]) == 1
    output = " ".join(capsys.readouterr().out.split())
    assert "7 events of processes that died were recorded for this database with another" in output
    (spool,) = (tmp_path / "spool").iterdir()
    assert f"usersync audit spool --drain --project {spool.name}" in output
    assert run(["audit", "spool", "--drain", "--project", spool.name]) == 0
    assert run(["doctor", "--only", "D032", "--strict"]) == 0
    stored = "select count(*) from public.audit_logs where action = 'during.outage'"
    assert checked.project.owner.execute(stored).fetchone() == (7,)


def test_without_a_log_the_fix_creates_one(checked):
    checked.project.owner.execute("alter function public.record_audit_events(jsonb) rename to gone")
    spool = Spool("here", 3, 0, datetime.now(UTC), 0)
    (check,) = run_plan(examine(checked.settings, choose(["D032"]), spool=spool), checked.project.owner)
    (finding,) = check.findings
    assert "3 events wait, and this database has no audit log" in finding.message
    assert finding.fix == "usersync apply"
