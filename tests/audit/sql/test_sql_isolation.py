"""Recording at each isolation level while other transactions change the users."""

from __future__ import annotations

import psycopg
import pytest
from psycopg.types.json import Jsonb
from sql_log import event, send

from fixtures_servers import ISOLATION_LEVELS as LEVELS
from usersync import AuditLog
from usersync.transports.run import run
from usersync.transports.steps import in_transaction, query

pytestmark = [pytest.mark.one_isolation_level, pytest.mark.parametrize("level", LEVELS)]


@pytest.fixture
def users(log):
    email = log.project.column("email")
    log.owner.execute(f"alter table {log.project.users} add unique ({email})")
    return [log.project.auth.sign_up_email(f"{name}@example.com") for name in ("ada", "bob")]


def begin(connection, level):
    """Begin a transaction and take its snapshot."""
    connection.execute(f"begin isolation level {level}")
    connection.execute("select 1 from pg_class").fetchone()


def test_an_event_is_linked_to_a_user_whose_row_was_changed(log, session, level, users):
    connection = session()
    begin(connection, level)
    full_name = log.project.column("full_name")
    log.owner.execute(f"update {log.project.users} set {full_name} = 'Somebody'")
    assert send(connection, *(event(actor_id=str(user)) for user in users)) == (2, 0, 0)
    connection.execute("commit")
    assert {row["user_id"] for row in log.rows()} == set(users)
    assert all(row["metadata"] == {} for row in log.rows())


def test_a_changed_unique_value_of_one_user_unlinks_no_other_users_event(log, session, level, users):
    ada, bob = users
    connection = session()
    begin(connection, level)
    email = log.project.column("email")
    change = f"update {log.project.users} set {email} = 'new@example.com' where {email} = 'ada@example.com'"
    log.owner.execute(change)
    assert send(connection, *(event(actor_id=str(user)) for user in users)) == (2, 0, 0)
    connection.execute("commit")
    rows = {row["actor_id"]: row for row in log.rows()}
    assert rows[str(bob)]["user_id"] == bob
    if level == "read committed":
        assert rows[str(ada)]["user_id"] == ada
    else:
        assert rows[str(ada)]["metadata"]["original_user_id"] == str(ada)
        assert rows[str(ada)]["metadata"]["user_sync_error"].startswith("40001 ")


def test_a_retry_after_a_serialization_failure_links_the_event(log, session, level, users):
    connection = session()
    begin(connection, level)
    connection.execute("set local usersync.user_links = 'wait'")
    email = log.project.column("email")
    log.owner.execute(f"update {log.project.users} set {email} = 'new@example.com' where {email} like 'ada%'")
    events = [event(actor_id=str(user)) for user in users]
    if level != "read committed":
        with pytest.raises(psycopg.errors.SerializationFailure):
            send(connection, *events)
        connection.execute("rollback")
        begin(connection, level)
    assert send(connection, *events) == (2, 0, 0)
    connection.execute("commit")
    assert {row["user_id"] for row in log.rows()} == set(users)


def test_the_sender_links_events_with_any_default_isolation_level(log, level, users, tmp_path):
    log.owner.execute(
        f"alter role postgres in database {log.project.database.name} "
        f"set default_transaction_isolation = '{level}'"
    )
    with AuditLog(log.project.database.dsn(), spool_dir=tmp_path) as audit:
        for user in users:
            audit.record("a.b", user_id=user)
        assert audit.flush(30)
    assert {row["user_id"] for row in log.rows()} == set(users)


def test_a_user_without_a_row_gets_one_at_each_isolation_level(log, session, level):
    user = log.project.auth.sign_up_email("ada@example.com")
    log.owner.execute(f'delete from {log.project.users} where "{log.project.settings.key}" = %s', [user])
    connection = session()
    begin(connection, level)
    assert send(connection, event(actor_id=str(user))) == (1, 0, 0)
    connection.execute("commit")
    assert log.row()["user_id"] == user


def test_an_event_of_a_user_deleted_since_the_snapshot_is_stored(log, session, level, users):
    ada, bob = users
    connection = session()
    begin(connection, level)
    log.owner.execute(f'delete from {log.project.users} where "{log.project.settings.key}" = %s', [ada])
    answer = connection.execute(
        "select public.record_audit_events(%s)", [Jsonb([event(actor_id=str(each)) for each in users])]
    ).fetchone()[0]
    connection.execute("commit")
    assert (answer["stored"], answer["rejected"]) == (2, 0)
    rows = {row["actor_id"]: row for row in log.rows()}
    assert rows[str(bob)]["user_id"] == bob


def test_a_duplicate_stored_since_the_snapshot_is_found_after_a_retry(log, session, level):
    """PostgreSQL cannot skip a duplicate that the transaction does not see. The sender retries."""
    connection, events = session(), [event() for _ in range(3)]
    begin(connection, level)
    assert log.record(*events) == (3, 0, 0)
    if level != "read committed":
        with pytest.raises(psycopg.errors.SerializationFailure):
            send(connection, *events)
        connection.execute("rollback")
        begin(connection, level)
    assert send(connection, *events) == (0, 3, 0)
    connection.execute("commit")
    assert len(log.rows()) == 3


def test_transactions_of_usersyncs_own_are_read_committed(log, level):
    log.owner.execute(
        f"alter role postgres in database {log.project.database.name} "
        f"set default_transaction_isolation = '{level}'"
    )
    with log.project.database.connect() as connection:
        shown = run(
            in_transaction(query("select current_setting('transaction_isolation') as level")), connection
        )
    assert shown == [{"level": "read committed"}]
