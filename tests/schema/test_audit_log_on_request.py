"""The audit log is created only on request. An existing log stays in use."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import psycopg
import pytest

from audit_settings import with_audit_log
from usersync.config.settings import Settings, parse_settings
from usersync.doctor import choose, examine
from usersync.errors import ConflictError
from usersync.sql.script import install_script
from usersync.transports.run import run

LOG = "create table public.audit_logs"
RELEASED = sorted((Path(__file__).parent / "released").glob("*.sql"))

#: A table of the application with the default name of the audit log.
APPLICATION = """
    create table if not exists audit_logs(id bigint generated always as identity, what text);
    create function public.note() returns trigger language plpgsql as
        $$ begin insert into public.audit_logs (what) values (tg_op); return null; end $$;
    create trigger note after insert or update or delete on public.users
        for each row execute function public.note();
"""


def has_log(installer, name="public.audit_logs"):
    return installer.connection.execute("select to_regclass(%s) is not null", [name]).fetchone()[0]


def install(installer, settings, how):
    if how == "apply":
        installer.apply(settings)
    else:
        installer.connection.execute("\n".join(install_script(settings)))


def record(installer):
    event = {"action": "stock.counted", "occurred_at": "2026-01-01T00:00:00Z"}
    row = installer.connection.execute("select public.record_audit_events(%s)", [json.dumps([event])])
    return row.fetchone()[0]


APPLY_AND_SCRIPT = pytest.mark.parametrize("how", ["apply", "script"])


@APPLY_AND_SCRIPT
def test_no_log_is_created_without_a_request(installer, how):
    install(installer, Settings(), how)
    assert not has_log(installer)
    assert installer.plan(Settings()).changes == ()
    assert installer.plan(Settings()).findings == ()


@pytest.mark.newest_server
def test_a_log_name_without_enabled_creates_no_log_and_is_reported(installer):
    """The settings are [audit] table = "public.events", without enabled."""
    named = parse_settings({"audit": {"table": "public.events"}})
    (finding,) = installer.plan(named).findings
    assert finding.message == (
        "[audit] table names public.events, and there is no audit log of this name: usersync creates it only "
        "with [audit] enabled = true"
    )
    assert (finding.level, finding.hint) == ("warning", "usersync audit enable")
    assert installer.plan(replace(named, audit=replace(named.audit, enabled=True))).findings == ()


@pytest.mark.newest_server
@pytest.mark.parametrize("table", ["public.events", "public.audit_logs"])
def test_a_log_with_another_name_than_in_the_settings_is_reported(installer, table):
    """A log exists, and [audit] table was changed or removed."""
    first = "public.audit_logs" if table == "public.events" else "public.events"
    installer.apply(parse_settings({"audit": {"table": first, "enabled": True}}))
    (finding,) = installer.plan(parse_settings({"audit": {"table": table}})).findings
    assert finding.message == (
        f"the existing audit log is {first}, but [audit] table names {table}, which is not an audit "
        "log; usersync creates it only with [audit] enabled = true. "
        "Once these settings are applied, no event can be stored"
    )
    assert f'[audit] table = "{first}"' in finding.hint
    assert finding.level == "problem"
    assert installer.plan(parse_settings({"audit": {"table": first}})).findings == ()


@APPLY_AND_SCRIPT
def test_a_later_request_creates_the_log(installer, how):
    install(installer, Settings(), how)
    install(installer, with_audit_log(), how)
    assert record(installer)["stored"] == 1
    assert installer.plan(with_audit_log()).changes == ()


@APPLY_AND_SCRIPT
def test_a_log_that_exists_stays_in_use_without_the_setting(installer, how):
    install(installer, with_audit_log(), how)
    record(installer)
    install(installer, Settings(), how)
    assert record(installer)["stored"] == 1
    assert installer.plan(Settings()).changes == ()
    installer.connection.execute("drop trigger keep_audit_logs on public.audit_logs")
    assert installer.subjects(Settings()) == ["alter table public.audit_logs"]


@pytest.mark.parametrize("released", RELEASED, ids=[path.stem for path in RELEASED])
@APPLY_AND_SCRIPT
def test_the_log_of_an_earlier_release_stays(installer, released, how):
    installer.connection.execute(released.read_text(encoding="utf-8"))
    record(installer)
    install(installer, Settings(), how)
    assert record(installer)["stored"] == 1
    assert installer.connection.execute("select count(*) from public.audit_logs").fetchone() == (2,)


@APPLY_AND_SCRIPT
def test_the_application_may_create_a_table_with_the_logs_name_later(installer, auth, how):
    install(installer, Settings(), how)
    first = auth.sign_up_email("a@example.com")
    installer.connection.execute(APPLICATION)
    second = auth.sign_up_email("b@example.com")
    auth.hard_delete(first)
    whats = installer.connection.execute("select what from public.audit_logs").fetchall()
    assert {what for (what,) in whats} == {"INSERT", "UPDATE"}
    rows = dict(installer.connection.execute("select id, email from public.users").fetchall())
    assert rows == {first: None, second: "b@example.com"}
    assert installer.connection.execute("select count(*) from usersync.sync_failures").fetchone() == (0,)
    assert installer.plan(Settings()).errors == ()
    assert installer.plan(Settings()).changes == ()


def test_nothing_is_recorded_in_the_table_of_the_application(installer):
    installer.apply(Settings())
    installer.connection.execute(APPLICATION)
    with pytest.raises(psycopg.Error, match="usersync audit enable") as caught:
        record(installer)
    assert caught.value.sqlstate == "US301"
    assert installer.connection.execute("select count(*) from public.audit_logs").fetchone() == (0,)


@APPLY_AND_SCRIPT
def test_an_existing_table_with_the_name_of_the_log_is_a_conflict(installer, how):
    installer.connection.execute(APPLICATION.partition(";")[0])
    error = ConflictError if how == "apply" else psycopg.errors.DuplicateTable
    with pytest.raises(error) as caught:
        install(installer, with_audit_log(), how)
    assert "[audit] table" in (str(caught.value) if how == "script" else caught.value.hint)
    if how == "script":
        installer.connection.rollback()
    other_name = with_audit_log({"audit": {"table": "public.audit_events"}})
    install(installer, other_name, how)
    assert record(installer)["stored"] == 1
    assert has_log(installer, "public.audit_events")


def test_rollback_drops_a_log_without_events(installer, catalog):
    before = catalog()
    installer.apply(with_audit_log())
    assert "drop table public.audit_logs" in [
        f"{change.kind} {change.subject}" for change in installer.rollback(with_audit_log()).changes
    ]
    assert not has_log(installer)
    installer.connection.execute("drop table public.users")
    assert catalog() == before


def test_a_partly_restored_log_is_reported(installed):
    record(installed)
    assert installed.plan(with_audit_log()).findings == ()
    # The state after a restore of the schema public alone.
    installed.connection.execute("drop schema usersync cascade")
    (finding,) = [each for each in installed.plan(with_audit_log()).findings if each.code == "D027"]
    assert "pg_dump -n" in finding.message
    installed.apply(with_audit_log())
    assert installed.plan(with_audit_log()).findings == ()


def test_a_log_with_events_stays(installed):
    record(installed)
    installed.rollback(with_audit_log())
    assert installed.connection.execute("select count(*) from public.audit_logs").fetchone() == (1,)


def test_a_log_with_rejected_events_stays(installed):
    assert (
        installed.connection.execute("select public.record_audit_events('[{}]')").fetchone()[0]["rejected"]
        == 1
    )
    installed.rollback(with_audit_log())
    assert has_log(installed)
    assert has_log(installed, "public.audit_rejects")


def test_a_log_with_dependent_objects_stays(installed):
    installed.connection.execute("create view public.recent as select * from public.audit_logs")
    installed.rollback(with_audit_log())
    assert has_log(installed)
    assert not has_log(installed, "usersync.settings")


@pytest.mark.parametrize("settings", [Settings(), with_audit_log()], ids=["without a log", "with a log"])
def test_the_users_table_is_dropped_with_an_unused_log(installer, catalog, settings):
    before = catalog()
    installer.apply(settings)
    installer.rollback(settings, drop_users_table=True)
    assert catalog() == before


def test_rollback_keeps_the_applications_table(installer, catalog):
    installer.connection.execute(APPLICATION.partition(";")[0])
    before = catalog()
    installer.apply(Settings())
    installer.rollback(Settings(), drop_users_table=True)
    assert catalog() == before


MOVES = {
    "renamed": ("alter table public.audit_logs rename to old_log", "public.old_log"),
    "moved": (
        "create schema archive; alter table public.audit_logs set schema archive",
        "archive.audit_logs",
    ),
}


def ids(installer, table):
    return installer.connection.execute(f"select id from {table}").fetchall()


@pytest.mark.parametrize(("move", "name"), MOVES.values(), ids=MOVES)
@pytest.mark.parametrize("drop", [False, True], ids=["keep", "drop"])
def test_rollback_keeps_a_renamed_or_moved_log_with_its_events(installed, move, name, drop):
    """DROP TABLE without CASCADE fails with 2BP01 here."""
    record(installed)
    installed.connection.execute(move)
    events = ids(installed, name)
    done = installed.rollback(with_audit_log(), drop_audit_log=drop)
    (kept,) = [each for each in done.changes if each.subject.endswith(name.removeprefix("public."))]
    assert kept.kind == "keep"
    assert ids(installed, name) == events
    assert len(events) == 1
    assert installed.connection.execute("select to_regnamespace('usersync')").fetchone() == (None,)


@pytest.mark.slow
@pytest.mark.parametrize("how", ["renamed", "another setting"])
def test_rollback_keeps_two_logs_and_apply_uses_the_second_one_again(installed, how):
    """Both logs have partitions for the same months, so names of partitions conflict (42P07)."""
    record(installed)
    if how == "renamed":
        installed.connection.execute("alter table public.audit_logs rename to old_log")
        first, second, settings = "public.old_log", "public.audit_logs", with_audit_log()
    else:
        settings = with_audit_log({"audit": {"table": "public.audit_events"}})
        first, second = "public.audit_logs", "public.audit_events"
    installed.apply(settings)
    record(installed)
    events = ids(installed, first), ids(installed, second)
    installed.rollback(settings)
    assert (ids(installed, first), ids(installed, second)) == events
    is_open = (
        "select relname from pg_class where relname ~ '^audit_logs_' and relkind in ('r', 'p') "
        "and relnamespace = 'public'::regnamespace and not relrowsecurity"
    )
    assert installed.connection.execute(is_open).fetchall() == []
    installed.apply(settings)
    record(installed)
    assert len(ids(installed, second)) == 2
    assert installed.plan(settings).changes == ()
    outside = (
        "select count(*) from pg_inherits join pg_class on pg_class.oid = inhrelid "
        "where inhparent = to_regclass(%s) and relnamespace <> 'usersync'::regnamespace"
    )
    assert installed.connection.execute(outside, [second]).fetchone() == (0,)
    installed.rollback(settings)
    assert len(ids(installed, second)) == 2


@pytest.mark.slow
def test_rollback_keeps_three_logs_that_were_renamed_one_after_another(installer):
    for number in range(3):
        installer.apply(with_audit_log())
        record(installer)
        installer.connection.execute(f"alter table public.audit_logs rename to log_{number}")
    installer.rollback(with_audit_log())
    assert [len(ids(installer, f"public.log_{number}")) for number in range(3)] == [1, 1, 1]


def test_doctor_names_the_log_that_was_renamed(installed):
    record(installed)
    installed.connection.execute("alter table public.audit_logs rename to old_log")
    (check,) = run(examine(with_audit_log(), choose(["D025"])), installed.connection)
    assert "old_log was the audit log" in check.findings[0].message
    assert not check.findings[0].safe
    installed.connection.execute("alter table public.old_log rename to audit_logs")
    (check,) = run(examine(with_audit_log(), choose(["D025"])), installed.connection)
    assert check.findings == ()
    assert record(installed)["stored"] == 1
