"""usersync works with an audit log whose table its owner has altered."""

from __future__ import annotations

import psycopg
import pytest
from sql_log import event

from audit_settings import with_audit_log

ALTERATIONS = {
    "generated": "alter table {} add column search tsvector "
    "generated always as (to_tsvector('simple', action)) stored",
    "json": """alter table {} add column extra json not null default '{{"a": 1, "a": 2}}'""",
    "both": "alter table {0} add column extra json default '[]', "
    "add column twice text generated always as (action || action) stored",
    "no equality": "alter table {} add column place point default '(1,2)'",
    "dropped": "alter table {0} add column gone int; alter table {0} drop column gone",
}


@pytest.fixture
def settings():
    return with_audit_log({"on_delete": "delete"})


@pytest.fixture(params=ALTERATIONS.values(), ids=ALTERATIONS)
def altered(log, request):
    log.owner.execute(request.param.format(log.table))
    return log


def test_a_user_with_events_can_be_deleted(altered):
    user = altered.project.auth.sign_up_email("ada@example.com")
    assert altered.record(event(user_id=str(user), actor_id=str(user))) == (1, 0, 0)
    assert altered.row()["user_id"] == user
    altered.project.auth.hard_delete(user)
    assert altered.project.client.failures() == []
    assert altered.project.row(user) is None
    row = altered.row()
    assert (row["user_id"], row["actor_id"], row["action"]) == (None, str(user), "stock.adjusted")


def test_the_log_stays_append_only(altered):
    user = altered.project.auth.sign_up_email("ada@example.com")
    altered.record(event(user_id=str(user)))
    before = altered.rows()
    for change in ("action = 'forged'", "user_id = null", "user_id = null, action = 'forged'"):
        with pytest.raises(psycopg.errors.InsufficientPrivilege, match="append-only"):
            altered.owner.execute(f"update {altered.table} set {change}")
    assert altered.rows() == before


def test_partitions_are_created_and_receive_their_rows(altered):
    for name in altered.partitions():
        if not name.endswith("default"):
            altered.owner.execute(f"drop table usersync.{name}")
    now = altered.owner.execute("select now()::text").fetchone()[0]
    assert altered.record(event(occurred_at=now)) == (1, 0, 0)
    before = altered.row()
    assert before.pop("partition") == "usersync.audit_logs_default"
    assert altered.record() == (0, 0, 0)
    assert len(altered.partitions()) == 4
    after = altered.row()
    assert after.pop("partition") != "usersync.audit_logs_default"
    # The column's type point has no equality operator.
    assert {name: str(value) for name, value in after.items()} == {
        name: str(value) for name, value in before.items()
    }


def test_the_reason_for_a_missing_partition_is_reported(log):
    log.owner.execute("drop function usersync.guard_audit_partitions()")
    for name in log.partitions():
        if not name.endswith("default"):
            log.owner.execute(f"drop table usersync.{name}")
    said = []
    log.owner.add_notice_handler(lambda notice: said.append(notice.message_primary))
    assert log.record() == (0, 0, 0)
    assert "could not be created" in said[0]
    assert "42883" in said[0]
