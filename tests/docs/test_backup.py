"""Runs docs/backup.md as it is written, on real servers: backup, restore, failover to a standby."""

from __future__ import annotations

import inspect
import re
from collections import deque

import psycopg
import pytest
from procedure_pages import (
    CLOSED,
    DOCS,
    Procedure,
    blocks,
    build,
    privileges,
    record,
    row,
    sections_of,
    test_name,
)

from fixtures_replication import has_replayed, is_writable
from proxy import Proxy
from usersync import AuditLog
from usersync.config.settings import parse_settings
from usersync.testing import GoTrue
from usersync.testing.install import install
from waiting import until

pytestmark = pytest.mark.newest_server

PAGE = (DOCS / "backup.md").read_text("utf-8")
SECTIONS = sections_of(PAGE)

DUMP = 'pg_dump "$SUPABASE_DB_URL" --format=custom --schema=public --schema=usersync --file=backup.dump'


def test_every_block_belongs_to_a_procedure_with_a_test():
    tests = [globals()[test_name(heading)] for heading, text in SECTIONS.items() if blocks(text)]
    assert all({"procedure", "moved"} & inspect.signature(test).parameters.keys() for test in tests)


@pytest.mark.slow
@pytest.mark.usefixtures("dumps")
def test_back_up(procedure, auth, database):
    record(database, auth.sign_up_email("ada@example.com"))
    procedure.run()


@pytest.fixture
def moved(pair, capsys, monkeypatch, tmp_path, request):
    """A section of the page, on two servers behind one connection string."""
    for variable in ("DATABASE_URL", "SUPABASE_URL", "SUPABASE_SECRET_KEY", "SUPABASE_SERVICE_ROLE_KEY"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("SUPABASE_DB_URL", pair.dsn)
    monkeypatch.setenv("USERSYNC_SPOOL_DIR", str(tmp_path / "spool"))
    monkeypatch.chdir(tmp_path)
    (text,) = [text for heading, text in SECTIONS.items() if test_name(heading) == request.node.name]
    procedure = Procedure(deque(blocks(text)), None, None, capsys)
    yield procedure
    assert not procedure.blocks


@pytest.mark.slow
def test_restore_the_whole_project(moved, pair, exit_stack):
    ids, restored = pair.lose_events(exit_stack)
    until(lambda: is_writable(restored))
    assert len(pair.ids(restored)) == 5
    moved.run()
    assert sorted(pair.ids(restored)) == sorted(ids)


@pytest.mark.slow
def test_fail_over_to_a_standby(moved, pair, exit_stack):
    lag = exit_stack.enter_context(Proxy(pair.primary.host, pair.primary.port))
    standby = exit_stack.enter_context(pair.standby(lag))
    with AuditLog(pair.dsn) as log, GoTrue(pair.primary.dsn(pair.database)) as auth:
        ids = [log.record("before")]
        assert log.flush(30)
        auth.sign_up_email("ada@example.com")
        until(lambda: has_replayed(pair.primary, standby))
        lag.silent.set()
        ids += [log.record("confirmed") for _ in range(9)]
        assert log.flush(30)
    pair.primary.kill()
    with psycopg.connect(standby.dsn(), autocommit=True) as connection:
        assert connection.execute("select pg_promote()").fetchone() == (True,)
    pair.fail_over_to(standby)
    moved.run()
    assert sorted(pair.ids(standby)) == sorted(ids)


@pytest.mark.slow
@pytest.mark.usefixtures("dumps")
@pytest.mark.parametrize("regime", ["old", "new"])
def test_restore_your_own_schema_from_a_dump(procedure, auth, postgres, sync, database):
    postgres.execute(CLOSED)
    granted = privileges(database)
    before, changed = auth.sign_up_email("before@example.com"), auth.sign_up_email("changed@example.com")
    gone = auth.sign_up_email("gone@example.com")
    postgres.execute("insert into public.orders (user_id, item) values (%s, 'bolt')", [before])
    record(database, before)
    assert procedure.shell(DUMP) == (0, "")
    after = auth.sign_up_email("after@example.com")
    auth.change_email(changed, "new@example.com")
    auth.hard_delete(gone)
    record(database, after)
    postgres.execute("truncate public.orders; alter table public.users drop column full_name")
    procedure.run()
    assert privileges(database) == granted
    assert row(postgres, before) == ("before@example.com", None)
    assert row(postgres, changed) == ("new@example.com", None)
    assert row(postgres, after) == ("after@example.com", None)
    assert row(postgres, gone)[0] is None
    assert postgres.execute("select item from public.orders").fetchall() == [("bolt",)]
    assert sync.user_exists(auth.sign_up_email("later@example.com"))
    assert postgres.execute("select count(*) from public.secrets").fetchone() == (4,)
    events = "select actor_id, user_id from public.audit_logs where source <> 'sync' order by occurred_at"
    assert postgres.execute(events).fetchall() == [(str(before), before), (str(after), after)]


@pytest.fixture
def restoring(shell):
    """Run the blocks of the restore, from the export of the log to the last attempt of psql."""
    text = SECTIONS["Restore your own schema from a dump"]
    return deque(blocks(text.partition("$ usersync apply --yes")[0] + "```\n"))


@pytest.mark.slow
@pytest.mark.usefixtures("dumps")
def test_after_a_failed_restore_apply_repairs_the_installation(restoring, auth, postgres, database, capsys):
    restore = Procedure(restoring, database, None, capsys)
    before = auth.sign_up_email("before@example.com")
    record(database, before)
    assert restore.shell(DUMP) == (0, "")
    postgres.execute("""
        create schema elsewhere;
        create table elsewhere.favours (user_id uuid references public.users);
    """)
    with pytest.raises(AssertionError, match="other objects depend on it"):
        restore.run()
    after = auth.sign_up_email("after@example.com")
    assert row(postgres, after) is None
    assert restore.usersync("usersync apply --yes")[0] == 0
    assert [row(postgres, each)[0] for each in (before, after)] == ["before@example.com", "after@example.com"]
    assert restore.usersync("usersync doctor")[0] == 0


def test_rows_of_deleted_users_stay_with_on_delete_keep(cluster, monkeypatch, capsys, shell):
    database = cluster.create()
    install(database, parse_settings({"on_delete": "keep"}))
    monkeypatch.setenv("SUPABASE_DB_URL", database.dsn())
    command = Procedure(deque(), database, None, capsys)
    with GoTrue(database.dsn("supabase_auth_admin")) as auth:
        auth.hard_delete(auth.sign_up_email())
    code, out = command.usersync("usersync sync --remove-orphans --yes --max 10")
    assert (code, "US101" in out) == (2, True), out
    code, out = command.usersync("usersync status")
    assert (code, re.search(r"orphaned +0 ", out) is not None) == (0, True), out
    cluster.drop(database)


@pytest.mark.slow
@pytest.mark.usefixtures("dumps")
def test_dump_and_load_data_only(procedure, auth, postgres, other_project, monkeypatch):
    user = auth.sign_up_email("ada@example.com")
    postgres.execute("insert into public.orders (user_id, item) values (%s, 'bolt')", [user])
    record(procedure.database, user)
    build(other_project)
    monkeypatch.delenv("SUPABASE_DB_URL")
    monkeypatch.setenv("OLD_DB_URL", procedure.database.dsn())
    monkeypatch.setenv("NEW_DB_URL", other_project.dsn("supabase_admin"))
    procedure.run()
    with other_project.connect() as owner:
        assert owner.execute("select user_id, item from public.orders").fetchall() == [(user, "bolt")]
        assert owner.execute("select user_id from public.audit_logs").fetchall() == [(user,)]
        assert row(owner, user) == ("ada@example.com", None)
