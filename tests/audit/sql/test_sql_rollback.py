"""The log outlives usersync, belongs to the application meanwhile, and is taken on again."""

from __future__ import annotations

import psycopg
import pytest
from psycopg import sql
from sql_log import event

from usersync.plans import schema
from usersync.runner import run
from usersync.settings import parse_settings
from usersync.sql.script import install_script

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


def back(log, **options):
    run(schema.rollback(log.project.settings, **options), log.owner)


def test_the_log_stays_and_is_the_applications(log):
    user_id = log.project.auth.sign_up_email("ada@example.com")
    log.record(event(actor_id=str(user_id)), event(occurred_at="now"))
    before, names = log.rows(), log.partitions()
    back(log)
    assert log.owner.execute("select to_regnamespace('usersync')").fetchone() == (None,)
    assert [row | {"partition": None} for row in log.rows()] == [row | {"partition": None} for row in before]
    assert log.partitions() == names
    columns = "(id, occurred_at, action, outcome, actor_type, source)"
    values = "(gen_random_uuid(), now(), 'by.hand', 'succeeded', 'user', 'app')"
    log.owner.execute(f"insert into {log.table} {columns} values {values}")
    log.owner.execute(f"update {log.table} set action = 'mine.now' where action = 'by.hand'")
    with pytest.raises(psycopg.errors.CheckViolation):
        log.owner.execute(f"update {log.table} set outcome = 'perhaps'")
    log.owner.execute(f"delete from {log.project.users}")
    assert [row["user_id"] for row in log.rows()] == [None] * 3
    log.owner.execute(f"truncate {log.table}")


def test_it_is_taken_on_again(log):
    first = event()
    log.record(first)
    before, guards = log.rows(), guarded(log)
    back(log)
    run(schema.apply(log.project.settings), log.owner)
    assert log.rows() == before
    assert guarded(log) == guards
    assert log.record(first, event()) == (1, 1, 0)
    assert run(schema.plan(log.project.settings), log.owner).changes == ()


def guarded(log):
    """Each partition with the triggers that keep it."""
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


def test_the_log_goes_too_if_it_is_to(log):
    log.record(event(), event(ip="nowhere"))
    back(log, drop_audit_log=True)
    left = (
        "select relname from pg_class where relname like 'audit\\_%' or relnamespace = 'public'::regnamespace"
    )
    assert "audit_logs" not in {row[0] for row in log.owner.execute(left).fetchall()}
    assert log.owner.execute("select to_regclass(%s)", [log.table]).fetchone() == (None,)
    assert log.project.auth.sign_up_email("ada@example.com")
    run(schema.apply(log.project.settings), log.owner)
    assert log.record(event()) == (1, 0, 0)


@pytest.mark.parametrize(
    "damage", ["drop trigger keep_audit_logs on {}", "alter table {} disable trigger user"]
)
def test_apply_mends_a_log_that_is_not_kept(log, damage):
    log.owner.execute(sql.SQL(damage).format(sql.Identifier(*log.names)).as_string())
    log.record(event())
    assert [change.subject for change in run(schema.apply(log.project.settings), log.owner).changes]
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        log.owner.execute(f"delete from {log.table}")


def test_the_script_makes_the_same_as_apply(cluster, project, names):
    if names == "hostile":
        pytest.skip("the shape is read by name")
    by_apply = project.owner.execute(SHAPE).fetchall()
    assert len(by_apply) > 100
    bare = cluster.clone(cluster.template("supabase_old", regime="old"))
    try:
        with bare.connect("postgres") as owner:
            for _ in range(2):  # it may be run again
                owner.execute(install_script(project.settings, transaction=True))
            assert owner.execute(SHAPE).fetchall() == by_apply
    finally:
        cluster.drop(bare)


def test_another_log_may_be_named_later(log):
    """The former one keeps its events and its partitions, and stays append-only."""
    log.record(event(action="before"))
    names = log.partitions()
    other = parse_settings(log.project.settings.describe() | {"audit_table": "public.other_log"})
    run(schema.apply(other), log.owner)
    assert log.record(event(action="after")) == (1, 0, 0)
    assert [row["action"] for row in log.rows()] == ["before"]
    assert log.partitions() == names
    assert log.owner.execute("select action from public.other_log").fetchall() == [("after",)]
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        log.owner.execute(f"delete from {log.table}")
