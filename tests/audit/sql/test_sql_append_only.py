"""The audit log is append-only for the owner and the service role, in every partition."""

from __future__ import annotations

import psycopg
import pytest
from sql_log import event

from usersync.schema import installation
from usersync.transports.run import run

pytestmark = pytest.mark.key_types

WRITES = {
    "update": "update {} set action = 'forged'",
    "unlink": "update {} set user_id = null",
    "delete": "delete from {}",
    "truncate": "truncate {}",
    "merge update": "merge into {} using (select) x on true when matched then update set action = 'forged'",
    "merge delete": "merge into {} using (select) x on true when matched then delete",
}


@pytest.fixture
def user_id(log):
    """An existing user with an event in this month's partition and one in the default partition."""
    user_id = log.project.auth.sign_up_email("ada@example.com")
    now = log.owner.execute("select now()::text").fetchone()[0]
    log.record(*(event(actor_id=str(user_id), occurred_at=at) for at in (now, "2020-01-01")))
    return user_id


def attach_by_hand(log):
    log.owner.execute(f"create table public.archive (like {log.table} including all)")
    dated = """jsonb_populate_record(log, '{"occurred_at": "2019-06-01Z"}')"""
    log.owner.execute(f"insert into public.archive select ({dated}).* from {log.table} as log limit 1")
    bounds = "for values from ('2019-06-01Z') to ('2019-07-01Z')"
    log.owner.execute(f"alter table {log.table} attach partition public.archive {bounds}")


def refused(log, relation, statement, message="append-only"):
    with pytest.raises(psycopg.errors.InsufficientPrivilege, match=message):
        log.owner.execute(statement.replace("{}", relation))


@pytest.mark.parametrize("write", WRITES)
def test_the_owner_is_refused_on_the_log_and_on_every_partition(log, user_id, write):
    attach_by_hand(log)
    log.owner.execute("select usersync.guard_audit_partitions()")
    before = log.rows()
    occupied = {row["partition"] for row in before}
    assert len(occupied) == 3
    for relation in (log.table, *occupied):
        refused(log, relation, WRITES[write])
    assert log.rows() == before


def test_empty_partitions_refuse_truncate_too(log):
    """The test only sees empty partitions. They may have rows later."""
    for name in log.partitions():
        refused(log, f"usersync.{name}", WRITES["truncate"])


def test_apply_protects_a_partition_that_was_attached_by_hand(log, user_id):
    attach_by_hand(log)
    for write in ("update", "delete"):
        refused(log, "public.archive", WRITES[write])
    run(installation.apply(log.project.settings), log.owner)
    refused(log, "public.archive", WRITES["truncate"])


def test_an_upsert_cannot_overwrite_an_event(log, user_id):
    refused(
        log,
        log.table,
        "insert into {} select * from {} on conflict (id, occurred_at) do update set action = 'forged'",
    )


@pytest.mark.parametrize("write", WRITES)
def test_the_service_role_is_refused(log, user_id, project, write):
    with (
        project.database.connect("service_role") as service,
        pytest.raises(psycopg.errors.InsufficientPrivilege),
    ):
        service.execute(WRITES[write].replace("{}", log.table))
    assert {row["action"] for row in log.rows()} == {"stock.adjusted"}


@pytest.mark.parametrize("write", WRITES)
def test_a_role_with_all_privileges_is_refused(log, user_id, project, write):
    """The privileges may be granted by mistake or by default. The setting for maintenance has no effect."""
    for table, right in (
        (log.project.settings.audit_table, "all"),
        (log.project.settings.users_table, "select"),
    ):
        schema_name = psycopg.sql.Identifier(table.schema).as_string()
        log.owner.execute(f"grant usage on schema {schema_name} to service_role")
        log.owner.execute(f"grant {right} on {table.quoted} to service_role")
    with project.database.connect("service_role") as service:
        service.execute("set usersync.maintaining = 'audit'")
        with pytest.raises(psycopg.errors.InsufficientPrivilege, match="append-only"):
            service.execute(WRITES[write].replace("{}", log.table))


def test_deleting_a_user_removes_only_the_user_id_of_events(log, user_id):
    before = log.rows()
    log.owner.execute(f'delete from {log.project.users} where "{log.project.settings.key}" = %s', [user_id])
    assert log.rows() == [row | {"user_id": None} for row in before]


@pytest.mark.parametrize(
    "change",
    [
        "action = 'forged'",
        "actor_id = null",
        "metadata = '[1]'",
        "occurred_at = occurred_at + interval '1 second'",
        "recorded_at = now() - interval '1 day'",
    ],
)
def test_no_other_column_can_change_together_with_the_user_id(log, user_id, project, change):
    """This applies even without the foreign key, whose action a session could otherwise imitate."""
    constraint = "select conname from pg_constraint where conrelid = %s::regclass and contype = 'f'"
    (name,) = log.owner.execute(constraint, [log.table]).fetchone()
    log.owner.execute(f"alter table {log.table} drop constraint {psycopg.sql.Identifier(name).as_string()}")
    log.owner.execute(f'delete from {log.project.users} where "{log.project.settings.key}" = %s', [user_id])
    refused(log, log.table, f"update {{}} set user_id = null, {change}")
    log.owner.execute(f"update {log.table} set user_id = null")  # only the user id


def test_only_the_owner_can_start_maintenance_and_it_ends_with_the_transaction(log, user_id):
    with log.owner.transaction():
        log.owner.execute("set local usersync.maintaining = 'audit'")
        log.owner.execute(f"delete from {log.table} where occurred_at < '2021-01-01'")
    assert len(log.rows()) == 1
    refused(log, log.table, WRITES["delete"])


def test_creating_a_partition_leaves_maintenance_off(log, user_id):
    with log.owner.transaction():
        log.owner.execute("select usersync.make_audit_partition('2020-01-01')")
        moved = [row["partition"] for row in log.rows()]
        assert moved[0] == "usersync.audit_logs_2020_01"
        with pytest.raises(psycopg.errors.InsufficientPrivilege), log.owner.transaction():
            log.owner.execute(f"delete from {log.table}")
