"""``usersync erase``: users, tracked tables, and spooled events."""

from __future__ import annotations

import sqlite3
from contextlib import closing

import pytest

from usersync import AuditLog
from usersync.audit.spool.file import Spool

pytestmark = pytest.mark.newest_server


@pytest.fixture
def erase(usersync, project, spool_dir):
    return lambda *words: usersync("erase", *words, "--dir", spool_dir, "--dsn", project.database.dsn())


@pytest.fixture
def user(project):
    return project.auth.sign_up_email("ada@example.com")


def spooled(spool_dir):
    """The contents of all spool files."""
    content = b""
    for path in spool_dir.glob("*/*.spool"):
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
            for table in ("events", "refused"):
                content += b"".join(row[0] for row in connection.execute(f"select event from {table}"))
    return content


@pytest.mark.slow
def test_erasing_an_existing_or_unknown_user_is_refused(erase, user):
    alive = erase(user, "--yes")
    assert (alive.code, "US402" in alive.err) == (1, True)
    assert "Delete the user there first" in alive.err
    unknown = erase("00000000-0000-0000-0000-000000000009", "--yes")
    assert (unknown.code, "US401" in unknown.err) == (1, True)


def test_erase_with_dry_run_once_and_again(erase, audited, user):
    audited.record(
        "stock.adjusted", actor_id=str(user), ip="192.0.2.1", metadata={"email": "ada@example.com"}
    )
    audited.project.auth.hard_delete(user)
    nobody_to_ask = erase(user)
    assert nobody_to_ask.code == 2
    assert "--yes" in nobody_to_ask.err
    dry = erase(user, "--dry-run")
    assert dry.code == 0
    assert "would be erased" in dry.out
    assert "1  events in public.audit_logs" in dry.out
    done = erase(user, "--yes", "--json")
    assert done.code == 0
    assert (done.json["erased"]["events"], done.json["erased"]["recorded"]) == (1, True)
    shown = audited("search", "--json").out
    assert "192.0.2.1" not in shown
    assert "ada@example.com" not in shown
    assert "user.erased" in shown
    assert "nothing to erase" in erase(user, "--yes").out


def test_events_of_a_tracked_users_table_are_erased(erase, audited, user):
    """Erasing the row records an event with the old values, which is erased too."""
    project = audited.project
    assert audited("track", str(project.settings.users_table)).code == 0
    project.owner.execute(f"update {project.users} set {project.column('full_name')} = 'Countess'")
    with project.database.connect("supabase_admin") as superuser:
        superuser.execute("set session_replication_role = replica")
        superuser.execute("delete from auth.users")
    done = erase(user, "--yes", "--json")
    assert done.json["erased"]["row"] is True
    assert project.row(user)["email"] is None
    found = str(project.owner.execute("select log::text from public.audit_logs as log").fetchall())
    assert "Countess" not in found
    assert "ada@example.com" not in found
    assert found.count("update") >= 2 or found.count("UPDATE") >= 2


def test_spooled_events_are_erased(erase, project, user, spool_dir):
    """Spools of a running process and of a dead one. Events of other users stay unchanged."""
    project.auth.hard_delete(user)
    fact = {"actor_id": str(user), "ip": "192.0.2.1", "metadata": {"email": "ada@example.com", "kept": 1}}
    with AuditLog("postgresql://nobody@127.0.0.1:1/none", spool_dir=spool_dir, project="away") as log:
        log.record("a.b", **fact)
        log.record("a.b", actor_id="eve", ip="192.0.2.7")
        dead = Spool(spool_dir / "away" / "1-00.spool", 1 << 20)
        payload = spooled(spool_dir)
        dead.append(1, b'{"action":"c.d","user_id":"%s","user_agent":"Mozilla"}' % str(user).upper().encode())
        dead.append(2, b"no json " + str(user).encode())
        dead.append(3, b'{"action":"e.f","actor_id":"%s"}' % str(user).encode())
        dead.quarantine(dead.read(1, 1 << 20)[0], "quarantined")
        dead.close()
        assert b"192.0.2.1" in payload
        assert erase(user, "--dry-run", "--json").json["erased"]["spooled"] == 2
        assert b"192.0.2.1" in spooled(spool_dir)
        done = erase(user, "--yes", "--json")
        assert done.json["erased"]["spooled"] == 2
        after = spooled(spool_dir)
        assert b"192.0.2.1" not in after
        assert b"ada@example.com" not in after
        assert b"Mozilla" not in after
        assert b"192.0.2.7" in after
        assert b'"kept":1' in after
        assert after.lower().count(str(user).encode()) == 4
        # The running process continues.
        log.record("a.b", actor_id="eve", ip="192.0.2.8")
        assert b"192.0.2.8" in spooled(spool_dir)
        assert erase(user, "--yes", "--json").json["erased"]["spooled"] == 0
        log.close(timeout=0)


def test_an_unreadable_spool_file_is_named(erase, project, user, spool_dir):
    project.auth.hard_delete(user)
    (spool_dir / "away").mkdir(parents=True)
    (spool_dir / "away" / "1-00.spool").write_bytes(b"no database at all")
    (spool_dir / "away" / "2-00.damaged-1").write_bytes(b"")
    done = erase(user, "--yes")
    assert done.code == 0
    assert done.out.count("left:") == 2
