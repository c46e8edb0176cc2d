"""The audit log of an earlier release is altered to the current form, without a rewrite or a long lock."""

from __future__ import annotations

import json
from pathlib import Path

import psycopg
import pytest
from test_interruptions import waits

from audit_settings import with_audit_log
from usersync.audit import reading
from usersync.audit.models import EventFilter
from usersync.errors import UsersyncError
from usersync.schema import installation
from usersync.sql.script import install_script
from usersync.transports.run import run

RELEASED = Path(__file__).parent / "released" / "0.1.0.sql"

FILES = """
    select relid::regclass::text, pg_relation_filenode(relid), level
    from pg_partition_tree('public.audit_logs') order by 1
"""
CHECKS = """
    select conrelid::regclass::text, conname from pg_constraint
    where conrelid in (select relid from pg_partition_tree('public.audit_logs')) and contype = 'c'
"""
INDEXES = """
    select indrelid, regexp_replace(pg_get_indexdef(indexrelid), '^.* USING ', ''), indisvalid from pg_index
    where indrelid in (select relid from pg_partition_tree('public.audit_logs'))
"""
NEW_INDEXES = (
    "(tenant_id, occurred_at) where tenant_id is not null",
    "(on_behalf_of, occurred_at) where on_behalf_of is not null",
    "using brin (recorded_at, xid) with (pages_per_range = 64, autosummarize = on)",
)
ADDED = ("tenant_id", "on_behalf_of", "db_role", "traceparent", "severity")


def indexes(connection):
    """The sets of indexes of the log and of its partitions. Equal sets are counted once."""
    found = {}
    for relation, definition, is_valid in connection.execute(INDEXES).fetchall():
        assert is_valid, definition
        found.setdefault(relation, set()).add(definition)
    return {frozenset(each) for each in found.values()}


def record(connection, **fields):
    sent = {"action": "stock.counted", "occurred_at": "2026-01-01T00:00:00Z"} | fields
    answer = connection.execute("select public.record_audit_events(%s)", [json.dumps([sent])]).fetchone()[0]
    assert answer["stored"] == 1, answer


@pytest.fixture
def log_of_0_1_0(installer):
    """A log of release 0.1.0 with two events, one in the default partition, and an owner's CHECK."""
    connection = installer.connection
    connection.execute(RELEASED.read_text(encoding="utf-8"))
    record(connection, action="old.default", metadata={"db_role": "old_role", "traceparent": "00-a-b-01"})
    record(connection, action="old.month", occurred_at="now")
    connection.execute("alter table public.audit_logs add constraint mine check (action <> 'forbidden')")
    return connection


@pytest.mark.parametrize("how", ["apply", "script"])
def test_the_log_of_0_1_0_is_altered_without_a_rewrite(installer, log_of_0_1_0, how):
    before = log_of_0_1_0.execute(FILES).fetchall()
    if how == "apply":
        assert "alter table public.audit_logs" in installer.subjects(with_audit_log())
        installer.apply(with_audit_log())
    else:
        log_of_0_1_0.execute("\n".join(install_script(with_audit_log())))
    assert installer.plan(with_audit_log()).changes == ()
    assert log_of_0_1_0.execute(FILES).fetchall() == before
    assert {name for _, name in log_of_0_1_0.execute(CHECKS).fetchall()} == {"mine"}

    record(log_of_0_1_0, action="new", tenant_id="acme", on_behalf_of="ada", traceparent="t", severity="high")
    record(log_of_0_1_0, action="newer", occurred_at="now")
    events = {each.action: each for each in run(reading.search(EventFilter()), log_of_0_1_0).events}
    new = events["new"]
    assert [getattr(new, name) for name in ADDED] == ["acme", "ada", "postgres", "t", "high"]
    # Earlier releases stored these two values in the metadata.
    old = events["old.default"]
    assert [getattr(old, name) for name in ADDED] == [None, None, "old_role", "00-a-b-01", None]
    order = "select action, seq, xid from public.audit_logs where seq is not null order by seq"
    numbered = log_of_0_1_0.execute(order).fetchall()
    assert [row[0] for row in numbered] == ["new", "newer"]
    assert numbered[0][2] < numbered[1][2]
    wanted = EventFilter(tenant_id="acme", on_behalf_of="ada", severity="high")
    assert [each.action for each in run(reading.search(wanted), log_of_0_1_0).events] == ["new"]


@pytest.mark.slow
def test_the_altered_log_has_the_indexes_of_a_new_one(installer, log_of_0_1_0):
    installer.apply(with_audit_log())
    altered = indexes(log_of_0_1_0)
    installer.rollback(with_audit_log(), drop_audit_log=True, drop_users_table=True)
    installer.apply(with_audit_log())
    assert indexes(log_of_0_1_0) == altered
    assert len(altered) == 1


MANY = """
    insert into public.audit_logs (id, occurred_at, action, outcome, actor_type, source, user_agent)
    select gen_random_uuid(), now(), 'many', 'succeeded', 'user', 'app', repeat('x', 1000)
    from generate_series(1, 9000)
"""


@pytest.mark.newest_server
def test_a_large_partition_gets_its_indexes_while_events_are_recorded(installer, log_of_0_1_0, superuser):
    log_of_0_1_0.execute(MANY)
    log_of_0_1_0.execute("\n".join(install_script(with_audit_log())))
    (month,) = log_of_0_1_0.execute("select to_char(now(), '\"usersync.audit_logs_\"YYYY_MM')").fetchone()
    wanted = sorted(f"create index {each} on {month}" for each in NEW_INDEXES)
    assert sorted(installer.subjects(with_audit_log())) == wanted
    # The replaced index stays in use until the new one exists.
    assert superuser.execute("select to_regclass('public.audit_logs_recorded_at_idx')").fetchone()[0]
    # An interrupted apply leaves an invalid index.
    superuser.execute(f"create index half on {month} (tenant_id, occurred_at) where tenant_id is not null")
    superuser.execute("update pg_index set indisvalid = false where indexrelid = 'usersync.half'::regclass")
    log_of_0_1_0.execute("set statement_timeout = '1min'")
    assert len(installer.apply(with_audit_log()).changes) == len(NEW_INDEXES)
    assert log_of_0_1_0.execute("show statement_timeout").fetchone() == ("1min",)
    assert installer.plan(with_audit_log()).changes == ()
    assert len(indexes(log_of_0_1_0)) == 1
    assert log_of_0_1_0.execute("select to_regclass('usersync.half')").fetchone() == (None,)
    assert log_of_0_1_0.execute("select to_regclass('public.audit_logs_recorded_at_idx')").fetchone() == (
        None,
    )


@pytest.mark.slow
def test_apply_does_not_lock_the_log_while_it_waits(installer, log_of_0_1_0, database):
    """One session has a long transaction. Other sessions write meanwhile, and do not wait for apply."""
    with database.connect("postgres") as writer, database.connect("postgres") as other:
        writer.execute("begin")
        record(writer, action="long.transaction")
        pauses = []

        def waited():
            pauses.append(None)
            other.execute("set lock_timeout = '1s'")
            record(other, action="meanwhile")  # no lock is held or awaited between two attempts
            if len(pauses) == 3:
                writer.execute("commit")

        run(waits(installation.apply(with_audit_log()), waited), log_of_0_1_0)
        assert len(pauses) == 3
    assert installer.plan(with_audit_log()).changes == ()
    found = run(reading.search(EventFilter(action="meanwhile")), log_of_0_1_0).events
    assert len(found) == 3


def test_a_log_that_rollback_kept_numbers_new_events_again(installer):
    connection = installer.connection
    installer.apply(with_audit_log())
    record(connection, action="first")
    installer.rollback(with_audit_log())
    columns = "(id, occurred_at, action, outcome, actor_type, source)"
    values = "(gen_random_uuid(), now(), 'by.hand', 'succeeded', 'user', 'app')"
    connection.execute(f"insert into public.audit_logs {columns} values {values}")
    installer.apply(with_audit_log())
    record(connection, action="second")
    order = "select action from public.audit_logs order by seq nulls last"
    assert [row[0] for row in connection.execute(order).fetchall()] == ["first", "second", "by.hand"]
    assert installer.plan(with_audit_log()).changes == ()


def test_a_column_of_the_owner_with_the_name_of_a_new_one_is_an_error(installer, log_of_0_1_0):
    log_of_0_1_0.execute("alter table public.audit_logs add column tenant_id uuid")
    with pytest.raises(UsersyncError, match="already has another column tenant_id"):
        installer.apply(with_audit_log())
    record(log_of_0_1_0)
    log_of_0_1_0.execute("alter table public.audit_logs rename column tenant_id to customer")
    installer.apply(with_audit_log())
    record(log_of_0_1_0, tenant_id="acme")


@pytest.mark.newest_server
def test_record_audit_events_rejects_invalid_values(installed):
    connection = installed.connection
    for wrong in ({"severity": "urgent"}, {"tenant_id": "x" * 201}, {"outcome": "perhaps"}, {"action": ""}):
        with pytest.raises(AssertionError, match="'rejected': 1"):
            record(connection, **wrong)
    assert connection.execute("select count(*) from public.audit_logs").fetchone() == (0,)
    with pytest.raises(psycopg.errors.NotNullViolation):
        connection.execute(
            "insert into public.audit_logs (id, occurred_at) values (gen_random_uuid(), now())"
        )
