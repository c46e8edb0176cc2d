"""An audit log that stores no events, and tables that were renamed or replaced."""

from __future__ import annotations

import json
import uuid

import psycopg
import pytest

from audit_settings import with_audit_log
from usersync.audit.tracking.operations import track
from usersync.audit.tracking.state import TrackOptions
from usersync.doctor import judge
from usersync.doctor.checks.d037_canary_event import try_event
from usersync.errors import SettingsError
from usersync.schema import installation
from usersync.schema.trial.observation import Trial
from usersync.transports.run import run

pytestmark = pytest.mark.newest_server

RECORD = "select public.record_audit_events(%s::jsonb)"


def canary(checked):
    tried = Trial(event=run(try_event(checked.settings), checked.project.owner))
    return next(check for check in judge(tried) if check.code == "D037")


def record(checked, **event):
    event = {"id": str(uuid.uuid4()), "action": "test.done"} | event
    return checked.project.owner.execute(RECORD, [json.dumps([event])]).fetchone()[0]


def events(checked):
    table = checked.settings.audit_table.quoted
    return checked.project.owner.execute(f"select user_id, metadata from {table} order by id").fetchall()


def test_the_canary_records_an_event_and_rolls_it_back(checked):
    assert canary(checked).status == "ok"
    assert events(checked) == []


@pytest.mark.parametrize(
    ("breakage", "fix"),
    [
        ("alter table public.audit_logs owner to supabase_admin", "usersync doctor --only D008"),
        ("revoke insert on table public.audit_logs from postgres", "usersync doctor --only D008"),
        ("drop type usersync.audit_event", "usersync apply"),
        ("drop table public.audit_logs cascade", None),
    ],
)
def test_a_log_that_stores_no_event_is_reported_and_fixed(checked_as_superuser, breakage, fix):
    checked_as_superuser.fix_connection.execute(breakage)
    if fix and "D008" in fix:
        findings = run(
            installation.plan(checked_as_superuser.settings), checked_as_superuser.project.owner
        ).findings
        assert {each.code for each in findings} >= {"D008"}, "plan also reports it"
    check = canary(checked_as_superuser)
    assert (check.status, check.fix) == ("problem" if fix else "skipped", fix)
    if fix == "usersync apply":
        checked_as_superuser.apply(check)
    elif fix:
        checked_as_superuser.is_fixed_by_pasting("D008")
    if fix:
        assert canary(checked_as_superuser).status == "ok"
        assert record(checked_as_superuser)["stored"] == 1


def test_the_guard_prevents_dropping_the_log(checked):
    owner = checked.project.owner
    with pytest.raises(psycopg.errors.DependentObjectsStillExist):
        owner.execute("drop table public.audit_logs")
    owner.execute("alter table public.audit_logs alter column user_agent type varchar(400)")
    owner.execute("alter table public.audit_logs add column team text, drop column user_agent")
    owner.execute("drop view usersync.audit_logs_guard")
    assert "can be dropped by accident" in checked.is_fixed_by_pasting("D024", "warning").detail
    run(installation.rollback(checked.settings, drop_audit_log=True), owner)


def test_rollback_leaves_a_log_that_can_be_dropped(checked):
    owner = checked.project.owner
    # Rollback drops a log without events.
    event = """[{"action": "order.created", "actor_type": "system"}]"""
    owner.execute("select public.record_audit_events(%s::jsonb)", [event])
    run(installation.rollback(checked.settings), owner)
    owner.execute("drop table public.audit_logs")


SWAP = """
    create table public.users_new (like public.users including all);
    insert into public.users_new select * from public.users;
    alter table public.users rename to users_old;
    alter table public.users_new rename to users;
"""


def test_no_event_is_rejected_if_the_users_table_was_replaced(project, checked):
    if checked.settings.users_table.name != "users":
        pytest.skip("the SQL uses the names of the default settings")
    old = project.auth.sign_up_email("ada@example.com")
    project.owner.execute(SWAP)
    new = project.auth.sign_up_email("bob@example.com")
    assert record(checked, actor_id=str(new))["stored"] == 1
    ((linked, metadata),) = events(checked)
    assert linked is None
    assert metadata["original_user_id"] == str(new)
    assert metadata["user_sync_error"].startswith("23503 ")
    check = checked.is_fixed_by_pasting("D025")
    assert "refers to public.users_old instead of public.users" in check.detail
    record(checked, actor_id=str(new))
    record(checked, actor_id=str(old))
    assert {row[0] for row in events(checked)} == {None, old, new}


def test_a_renamed_users_table_is_found_by_its_columns(checked):
    project = checked.project
    project.owner.execute(f"alter table {project.users} rename to people")
    check = checked.check("D012")
    assert check.fix.startswith("-- If it was renamed, write in usersync.toml: users_table = ")
    assert "people" in check.fix.splitlines()[0]
    assert all(line.startswith("--") for line in check.fix.splitlines())


def test_a_tracked_table_that_was_dropped_and_replaced_is_reported(checked):
    owner = checked.project.owner
    create = "create table public.bolts (id int primary key, size int, secret_of_it text)"
    owner.execute(create)
    run(
        track(checked.settings, "public.bolts", TrackOptions(columns=("id", "size")), lambda *_: False), owner
    )
    owner.execute(f"drop table public.bolts; {create}")
    check = checked.check("D029")
    assert check.status == "problem"
    assert "another table has its name, and is not recorded" in check.detail
    assert check.fix == "usersync audit track public.bolts --columns id,size"
    run(
        track(checked.settings, "public.bolts", TrackOptions(columns=("id", "size")), lambda *_: False), owner
    )
    assert checked.check("D029").status == "ok"
    owner.execute("insert into public.bolts values (1, 2)")
    assert len(events(checked)) == 1


def test_an_overload_of_a_function_of_usersync_is_reported(checked):
    checked.project.owner.execute(
        "create function public.record_audit_events(text) returns text language sql as 'select $1'"
    )
    check = checked.is_fixed_by_pasting("D007")
    assert "public.record_audit_events(text) is not usersync's" in check.detail


@pytest.mark.parametrize("table", ["pg_temp.users", "pg_catalog.users", "information_schema.users"])
def test_a_users_table_in_a_system_schema_is_rejected(table):
    with pytest.raises(SettingsError, match="in a system schema of PostgreSQL"):
        with_audit_log({"users_table": table})
