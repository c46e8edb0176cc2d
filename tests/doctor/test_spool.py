"""D032: what was recorded on this machine and is not in the database."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from proxy import Proxy
from usersync.audit import AuditLog
from usersync.cli.main import run
from usersync.doctor import choose, examine
from usersync.doctor.context import Elsewhere, Spool
from usersync.transports.run import run as run_plan

pytestmark = pytest.mark.newest_server

#: Spools with the age of their oldest event, and what the check says of each.
NEW, OLD = timedelta(0), timedelta(hours=1)
SPOOLS = {
    "none": (None, "ok", "not looked at"),
    "empty": (Spool("here", 0, 0, None, 0), "ok", "nothing waits"),
    "on the way": (Spool("here", 3, 0, NEW, 0), "ok", "3 events on the way"),
    "abandoned": (Spool("here", 3, 3, NEW, 0), "warning", "of processes that died"),
    "stuck": (Spool("here", 3, 0, OLD, 0), "problem", "3 events wait since"),
    "refused": (Spool("here", 0, 0, None, 1), "problem", "refused 1 event in every form"),
    "damaged": (Spool("here", 0, 0, None, 0, ("/spool/file",)), "problem", "/spool/file cannot be read"),
}


@pytest.mark.parametrize("how", SPOOLS)
def test_what_waits(clinic, how):
    spool, status, said = SPOOLS[how]
    if spool and spool.oldest_at is not None:
        spool = replace(spool, oldest_at=datetime.now(UTC) - spool.oldest_at)
    (check,) = run_plan(examine(clinic.settings, choose(["D032"]), spool=spool), clinic.project.owner)
    assert check.status == status
    assert said in check.detail


def test_what_a_dead_process_left_for_this_database_is_seen_and_delivered(
    clinic, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("USERSYNC_SPOOL_DIR", str(tmp_path / "spool"))
    dsn = clinic.project.database.dsn()
    monkeypatch.setenv("SUPABASE_DB_URL", dsn)
    password = clinic.project.database.passwords["postgres"]
    log = AuditLog(dsn.replace(password, "wrong"))
    log.record("stock.adjusted")
    assert not log.close(timeout=0.1)
    assert run(["doctor", "--only", "D032", "--strict"]) == 1
    assert "1 event of processes that died" in capsys.readouterr().out
    (spool,) = (tmp_path / "spool").iterdir()
    assert run(["audit", "spool", "--drain", "--project", spool.name]) == 0
    assert run(["doctor", "--only", "D032", "--strict"]) == 0


@pytest.mark.parametrize("refused", ["a link", "a file that anybody can write", "a directory that is a link"])
def test_what_is_not_trusted_is_named(clinic, tmp_path, monkeypatch, capsys, refused):
    """Nothing is read from it, so its events wait for somebody who looks."""
    root = tmp_path / "spool"
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("USERSYNC_SPOOL_DIR", str(root))
    dsn = clinic.project.database.dsn()
    monkeypatch.setenv("SUPABASE_DB_URL", dsn)
    log = AuditLog(dsn.replace(clinic.project.database.passwords["postgres"], "wrong"))
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
    said = "".join(capsys.readouterr().out.split())
    assert f"{named.name}cannotberead" in said


def test_what_dead_processes_left_under_a_former_address_is_named(clinic):
    """As after a failover or a move. What is for another installation is not this database's."""
    (row,) = clinic.project.owner.execute("select installation::text from usersync.settings").fetchall()
    elsewhere = (
        Elsewhere("before", 7, row[0]),
        Elsewhere("of-another", 5, "00000000-0000-4000-8000-000000000001"),
    )
    spool = Spool("here", 0, 0, None, 0, (), elsewhere)
    (check,) = run_plan(examine(clinic.settings, choose(["D032"]), spool=spool), clinic.project.owner)
    assert check.status == "warning"
    (finding,) = check.findings
    assert "7 events of processes that died were recorded for this database under another" in finding.message
    assert finding.fix == "usersync audit spool --drain --project before"


def test_a_spool_of_a_former_address_is_found_and_delivered(clinic, tmp_path, monkeypatch, capsys):
    """A process recorded during an outage of the old address and died; the project has a new address now."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("USERSYNC_SPOOL_DIR", str(tmp_path / "spool"))
    database = clinic.project.database
    with Proxy(database.host, database.port) as former:
        log = AuditLog(former.through(database.dsn()), keep_delivered=0)
        log.record("before.outage")
        assert log.flush(30)
        former.silent.set()
        for _ in range(7):
            log.record("during.outage")
        assert not log.close(timeout=0.1)
    monkeypatch.setenv("SUPABASE_DB_URL", database.dsn())
    assert run(["doctor", "--only", "D032", "--strict"]) == 1
    said = " ".join(capsys.readouterr().out.split())
    assert "7 events of processes that died were recorded for this database under another" in said
    (spool,) = (tmp_path / "spool").iterdir()
    assert f"usersync audit spool --drain --project {spool.name}" in said
    assert run(["audit", "spool", "--drain", "--project", spool.name]) == 0
    assert run(["doctor", "--only", "D032", "--strict"]) == 0
    stored = "select count(*) from public.audit_logs where action = 'during.outage'"
    assert clinic.project.owner.execute(stored).fetchone() == (7,)


def test_where_there_is_no_log_it_says_what_to_run(clinic):
    clinic.project.owner.execute("alter function public.record_audit_events(jsonb) rename to gone")
    spool = Spool("here", 3, 0, datetime.now(UTC), 0)
    (check,) = run_plan(examine(clinic.settings, choose(["D032"]), spool=spool), clinic.project.owner)
    (finding,) = check.findings
    assert "3 events wait, and this database has no audit log" in finding.message
    assert finding.fix == "usersync apply"
