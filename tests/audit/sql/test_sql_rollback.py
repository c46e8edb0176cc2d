"""After a rollback, the audit log stays as a table of the application, and apply can use it again."""

from __future__ import annotations

import re
from pathlib import Path

import psycopg
import pytest
from psycopg import sql
from sql_log import event

from audit_settings import with_audit_log
from usersync.audit import reading, upkeep
from usersync.audit.tracking import operations as tracking
from usersync.audit.tracking.state import TrackOptions
from usersync.errors import DatabaseError, NotInstalledError
from usersync.schema import installation
from usersync.sql.script import install_script
from usersync.transports.run import run

SHAPE = """
    select 'relation', relid::regclass::text, null, null
    from pg_partition_tree('public.audit_logs')
    union all
    select 'column', attrelid::regclass::text, attname,
        concat(format_type(atttypid, atttypmod), attnotnull, attcollation)
    from pg_attribute join pg_partition_tree('public.audit_logs') on relid = attrelid where attnum > 0
    union all
    select 'index', indrelid::regclass::text, pg_get_indexdef(indexrelid), null
    from pg_index join pg_partition_tree('public.audit_logs') on relid = indrelid
    union all
    select 'constraint', conrelid::regclass::text, conname, pg_get_constraintdef(pg_constraint.oid)
    from pg_constraint join pg_partition_tree('public.audit_logs') on relid = conrelid
    union all
    select 'trigger', tgrelid::regclass::text, tgname, concat(tgenabled, tgfoid::regprocedure)
    from pg_trigger join pg_partition_tree('public.audit_logs') on relid = tgrelid where not tgisinternal
    union all
    select 'rights', oid::regclass::text,
        coalesce(relacl, acldefault('r', relowner))::text, relrowsecurity::text
    from pg_class join pg_partition_tree('public.audit_logs') on relid = oid
    union all
    select 'function', signature, checksum, fingerprint from usersync.functions
    union all
    select 'type', oid::regtype::text, typtype::text, null from pg_type
    where typnamespace = 'usersync'::regnamespace and typtype = 'd'
    order by 1, 2, 3, 4
"""


def roll_back(log, **options):
    run(installation.rollback(log.project.settings, **options), log.owner)


def test_the_documented_query_reads_the_log_after_a_rollback(log):
    page = (Path(__file__).parents[3] / "docs" / "audit.md").read_text("utf-8")
    section = page.partition("After `usersync rollback`")[2].partition("\n## ")[0]
    (query,) = re.findall(r"^```sql\n(.*?)^```$", section, re.MULTILINE | re.DOTALL)
    log.record(event(action="order.placed"))
    roll_back(log)
    with pytest.raises(NotInstalledError):
        run(reading.tail(), log.owner)
    assert [row[1] for row in log.owner.execute(query)] == ["order.placed"]


def test_after_a_rollback_the_application_owns_the_log(log):
    user_id = log.project.auth.sign_up_email("ada@example.com")
    log.record(event(actor_id=str(user_id)), event(occurred_at="now"))
    before, names = log.rows(), log.partitions()
    roll_back(log)
    assert log.owner.execute("select to_regnamespace('usersync')").fetchone() == (None,)
    assert [row | {"partition": None} for row in log.rows()] == [row | {"partition": None} for row in before]
    assert log.partitions() == names
    columns = "(id, occurred_at, action, outcome, actor_type, source)"
    values = "(gen_random_uuid(), now(), 'by.hand', 'succeeded', 'user', 'app')"
    log.owner.execute(f"insert into {log.table} {columns} values {values}")
    log.owner.execute(f"update {log.table} set action = 'mine.now' where action = 'by.hand'")
    log.owner.execute(f"delete from {log.project.users}")
    assert [row["user_id"] for row in log.rows()] == [None] * 3
    log.owner.execute(f"truncate {log.table}")


def test_apply_uses_the_log_again(log):
    first = event()
    log.record(first)
    before, guards = log.rows(), guarded(log)
    roll_back(log)
    run(installation.apply(log.project.settings), log.owner)
    assert log.rows() == before
    assert guarded(log) == guards
    assert log.record(first, event()) == (1, 1, 0)
    assert run(installation.plan(log.project.settings), log.owner).changes == ()


def guarded(log):
    """Each partition with its protecting triggers."""
    read = """
        select relid::regclass::text, array_agg(tgname::text order by tgname)
        from pg_partition_tree(%s::regclass)
        join pg_trigger on tgrelid = relid and not tgisinternal
        group by 1
    """
    found = dict(log.owner.execute(read, [log.table]).fetchall())
    assert len(found) == 15
    assert {tuple(names) for names in found.values()} == {("keep_all_audit_logs", "keep_audit_logs")}
    return found


def test_the_log_keeps_its_privileges_after_a_rollback(log):
    """The partitions are moved to a schema that the Data API exposes."""
    log.record(event())
    roll_back(log)
    read = """
        select relid::regclass::text, relrowsecurity,
            has_table_privilege('anon', relid, 'select, insert, update, delete'),
            has_table_privilege('service_role', relid, 'insert, update, delete')
        from pg_partition_tree(%s::regclass) join pg_class on pg_class.oid = relid
    """
    found = log.owner.execute(read, [log.table]).fetchall()
    assert len(found) == 15  # the log, the default partition, this month and the next twelve
    assert {tuple(row[1:]) for row in found} == {(True, False, False)}


def test_rejected_events_are_kept_by_rollback_and_restored_by_apply(log):
    """Rejected events are stored nowhere else."""
    bad = event(outcome="perhaps")
    assert log.record(bad) == (0, 0, 1)
    planned = run(installation.plan_rollback(log.project.settings), log.owner).changes
    (kept,) = (each for each in planned if each.subject == "table usersync.audit_rejects")
    assert (kept.kind, kept.reason[:10]) == ("keep", "1 event in")
    roll_back(log)
    home = sql.Identifier(log.names[0], "audit_rejects").as_string()
    stored = log.owner.execute(f"select event from {home}")
    assert stored.fetchall() == [(bad,)]
    run(installation.apply(log.project.settings), log.owner)
    assert [reject[0] for reject in log.rejects()] == [bad]
    log.owner.execute("update usersync.audit_rejects set event = event - 'outcome'")
    assert run(upkeep.retry_rejects(), log.owner).stored == 1
    assert run(installation.plan(log.project.settings), log.owner).changes == ()
    roll_back(log)
    assert log.owner.execute("select to_regclass(%s)", [home]).fetchone() == (None,)


def test_an_existing_table_with_the_name_for_rejected_events_stops_rollback(log):
    log.record(event(outcome="perhaps"))
    home = sql.Identifier(log.names[0], "audit_rejects").as_string()
    log.owner.execute(f"create table {home} (mine int)")
    with pytest.raises(DatabaseError, match="rejected events cannot be moved"):
        roll_back(log)
    assert len(log.rejects()) == 1


def test_the_plan_lists_what_is_removed_and_what_stays(log):
    log.owner.execute("create table public.products (id int primary key)")
    run(tracking.track(log.project.settings, "products", TrackOptions(), lambda *_: False), log.owner)
    log.record(event(outcome="perhaps"))
    planned = run(installation.plan_rollback(log.project.settings), log.owner).changes
    said = {(each.kind, each.subject): each.reason for each in planned}
    assert said["drop", "triggers on public.products"] == "its changes are no longer recorded"
    assert "no longer append-only" in said["keep", f"table {log.project.settings.audit_table}"]
    roll_back(log)
    assert log.owner.execute("select count(*) from pg_trigger where not tgisinternal").fetchone() == (0,)
    run(installation.apply(log.project.settings), log.owner)
    planned = run(installation.plan_rollback(log.project.settings, drop_audit_log=True), log.owner).changes
    dropped = {each.subject: each.reason for each in planned if each.kind == "drop"}
    assert dropped["table usersync.audit_rejects"] == "with 1 event that could not be stored"
    roll_back(log, drop_audit_log=True)


def test_the_log_is_dropped_on_request(log):
    log.record(event(), event(ip="nowhere"))
    roll_back(log, drop_audit_log=True)
    left = (
        "select relname from pg_class where relname like 'audit\\_%' or relnamespace = 'public'::regnamespace"
    )
    assert "audit_logs" not in {row[0] for row in log.owner.execute(left).fetchall()}
    assert log.owner.execute("select to_regclass(%s)", [log.table]).fetchone() == (None,)
    assert log.project.auth.sign_up_email("ada@example.com")
    run(installation.apply(log.project.settings), log.owner)
    assert log.record(event()) == (1, 0, 0)


@pytest.mark.parametrize(
    "damage", ["drop trigger keep_audit_logs on {}", "alter table {} disable trigger user"]
)
def test_apply_restores_a_damaged_protection_of_the_log(log, damage):
    log.owner.execute(sql.SQL(damage).format(sql.Identifier(*log.names)).as_string())
    log.record(event())
    assert [change.subject for change in run(installation.apply(log.project.settings), log.owner).changes]
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        log.owner.execute(f"delete from {log.table}")


def test_the_script_creates_the_same_as_apply(cluster, project, names):
    if names == "hostile":
        pytest.skip("the comparison uses plain names")
    by_apply = project.owner.execute(SHAPE).fetchall()
    assert len(by_apply) > 100
    bare = cluster.clone(cluster.template("supabase_old", regime="old"))
    try:
        with bare.connect("postgres") as owner:
            for _ in range(2):  # it can be repeated
                owner.execute("\n".join(install_script(project.settings)))
            assert owner.execute(SHAPE).fetchall() == by_apply
    finally:
        cluster.drop(bare)


def test_the_settings_can_name_another_log_later(log):
    """The former log keeps its events and partitions, and stays append-only."""
    log.record(event(action="before"))
    names = log.partitions()
    other = with_audit_log(log.project.settings.describe() | {"audit": {"table": "public.other_log"}})
    run(installation.apply(other), log.owner)
    assert log.record(event(action="after")) == (1, 0, 0)
    assert [row["action"] for row in log.rows()] == ["before"]
    assert log.partitions() == names
    assert log.owner.execute("select action from public.other_log").fetchall() == [("after",)]
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        log.owner.execute(f"delete from {log.table}")
