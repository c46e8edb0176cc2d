"""What keeps the log from storing events, and objects that took the place of others."""

from __future__ import annotations

import json
import uuid

import psycopg
import pytest

from logged import logged
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


def canary(clinic):
    tried = Trial(event=run(try_event(clinic.settings), clinic.project.owner))
    return next(check for check in judge(tried) if check.code == "D037")


def record(clinic, **event):
    event = {"id": str(uuid.uuid4()), "action": "test.done"} | event
    return clinic.project.owner.execute(RECORD, [json.dumps([event])]).fetchone()[0]


def events(clinic):
    table = clinic.settings.audit_table.quoted
    return clinic.project.owner.execute(f"select user_id, metadata from {table} order by id").fetchall()


def test_the_canary_records_an_event_and_rolls_it_back(clinic):
    assert canary(clinic).status == "ok"
    assert events(clinic) == []


@pytest.mark.parametrize(
    ("breakage", "fix"),
    [
        ("alter table public.audit_logs owner to supabase_admin", "usersync doctor --only D008"),
        ("revoke insert on table public.audit_logs from postgres", "usersync doctor --only D008"),
        ("drop type usersync.audit_event", "usersync apply"),
        ("drop table public.audit_logs cascade", None),
    ],
)
def test_a_log_that_takes_nothing(theatre, breakage, fix):
    theatre.surgeon.execute(breakage)
    if fix and "D008" in fix:
        findings = run(installation.plan(theatre.settings), theatre.project.owner).findings
        assert {each.code for each in findings} >= {"D008"}, "plan does not say that all is well"
    check = canary(theatre)
    assert (check.status, check.fix) == ("problem" if fix else "skipped", fix)
    if fix == "usersync apply":
        theatre.apply(check)
    elif fix:
        theatre.cures("D008")
    if fix:
        assert canary(theatre).status == "ok"
        assert record(theatre)["stored"] == 1


def test_the_log_is_not_dropped_by_accident(clinic):
    owner = clinic.project.owner
    with pytest.raises(psycopg.errors.DependentObjectsStillExist):
        owner.execute("drop table public.audit_logs")
    owner.execute("alter table public.audit_logs alter column user_agent type varchar(400)")
    owner.execute("alter table public.audit_logs add column team text, drop column user_agent")
    owner.execute("drop view usersync.audit_logs_guard")
    assert "can be dropped by accident" in clinic.cures("D024", "warning").detail
    run(installation.rollback(clinic.settings, drop_audit_log=True), owner)


def test_rollback_leaves_a_log_that_can_be_dropped(clinic):
    owner = clinic.project.owner
    # A log without events goes with the rollback.
    event = """[{"action": "order.created", "actor_type": "system"}]"""
    owner.execute("select public.record_audit_events(%s::jsonb)", [event])
    run(installation.rollback(clinic.settings), owner)
    owner.execute("drop table public.audit_logs")


SWAP = """
    create table public.users_new (like public.users including all);
    insert into public.users_new select * from public.users;
    alter table public.users rename to users_old;
    alter table public.users_new rename to users;
"""


def test_no_event_is_rejected_for_a_user_whose_table_was_swapped(project, clinic):
    if clinic.settings.users_table.name != "users":
        pytest.skip("the names of the table are those of the default settings")
    old = project.auth.sign_up_email("ada@example.com")
    project.owner.execute(SWAP)
    new = project.auth.sign_up_email("bob@example.com")
    assert record(clinic, actor_id=str(new))["stored"] == 1
    ((linked, metadata),) = events(clinic)
    assert linked is None
    assert metadata["original_user_id"] == str(new)
    assert metadata["user_sync_error"].startswith("23503 ")
    check = clinic.cures("D025")
    assert "refers to public.users_old instead of public.users" in check.detail
    record(clinic, actor_id=str(new))
    record(clinic, actor_id=str(old))
    assert {row[0] for row in events(clinic)} == {None, old, new}


def test_a_renamed_users_table_is_found_by_its_columns(clinic):
    project = clinic.project
    project.owner.execute(f"alter table {project.users} rename to people")
    check = clinic.check("D012")
    assert check.fix.startswith("-- If it was renamed, write into usersync.toml: users_table = ")
    assert "people" in check.fix.splitlines()[0]
    assert all(line.startswith("--") for line in check.fix.splitlines())


def test_a_tracked_table_that_was_dropped_and_replaced(clinic):
    owner = clinic.project.owner
    create = "create table public.bolts (id int primary key, size int, secret_of_it text)"
    owner.execute(create)
    run(track(clinic.settings, "public.bolts", TrackOptions(columns=("id", "size")), lambda _: False), owner)
    owner.execute(f"drop table public.bolts; {create}")
    check = clinic.check("D029")
    assert check.status == "problem"
    assert "another table has its name, and is not recorded" in check.detail
    assert check.fix == "usersync audit track public.bolts --columns id,size"
    run(track(clinic.settings, "public.bolts", TrackOptions(columns=("id", "size")), lambda _: False), owner)
    assert clinic.check("D029").status == "ok"
    owner.execute("insert into public.bolts values (1, 2)")
    assert len(events(clinic)) == 1


def test_an_overload_of_one_of_our_functions(clinic):
    clinic.project.owner.execute(
        "create function public.record_audit_events(text) returns text language sql as 'select $1'"
    )
    check = clinic.cures("D007")
    assert "public.record_audit_events(text) is not usersync's" in check.detail


@pytest.mark.parametrize("table", ["pg_temp.users", "pg_catalog.users", "information_schema.users"])
def test_a_table_of_postgresqls_own_schemas_is_refused_at_once(table):
    with pytest.raises(SettingsError, match="in a schema of PostgreSQL's own"):
        logged({"users_table": table})
