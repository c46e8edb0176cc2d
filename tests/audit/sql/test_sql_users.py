"""The link from an event to its user (user_id). An event is stored in any state of the user."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from uuid import uuid4

import psycopg
import pytest
from sql_log import event, send, wait_until_blocked

from usersync.testing import BREAKAGES, broken_users_table
from waiting import wait_for_locks

pytestmark = pytest.mark.key_types


def forget(log, user_id):
    """Delete the user's row without usersync."""
    log.owner.execute(f'delete from {log.project.users} where "{log.project.settings.key}" = %s', [user_id])
    assert log.project.row(user_id) is None


def test_a_user_without_a_row_gets_one_in_the_same_transaction(log):
    user_id = log.project.auth.sign_up_email("ada@example.com")
    forget(log, user_id)
    with log.owner.transaction(force_rollback=True):
        assert log.record(event(actor_id=str(user_id))) == (1, 0, 0)
        assert log.row()["user_id"] == user_id
        assert log.project.row(user_id)["email"] == "ada@example.com"
    assert log.project.row(user_id) is None
    assert log.rows() == []


def test_an_event_of_an_unknown_user_has_the_reason_why_it_is_not_linked(log):
    user_id = uuid4()
    assert log.record(event(actor_id=str(user_id), metadata={"kept": 1})) == (1, 0, 0)
    row = log.row()
    assert (row["user_id"], row["actor_id"], row["actor_type"]) == (None, str(user_id), "user")
    assert row["metadata"] == {
        "kept": 1,
        "original_user_id": str(user_id),
        "user_sync_error": "the auth server has no such user",
    }


def test_an_actor_with_the_form_of_a_uuid_is_a_user(log):
    user_id = str(log.project.auth.sign_up_email("ada@example.com"))
    ids = [user_id, user_id.upper()]
    others = [
        *(user_id.replace("-", each) for each in ("", "_")),
        *(f"{each}{user_id[1:]}" for each in ("-", " ", "g", "\n", " " + user_id[0])),
        *(f"{user_id}{each}" for each in ("\n", " ", "0")),
        user_id[:8] + user_id[9:18] + "--" + user_id[18:],
        f"{{{user_id}}}",
        user_id[:-1],
        "________-____-____-____-____________",
        "-" * 36,
        "٣" * 36,
        "",
    ]
    assert log.record(*(event(actor_id=each) for each in ids + others)) == (len(ids + others), 0, 0)
    linked = {row["actor_id"]: str(row["user_id"]) for row in log.rows() if row["user_id"] is not None}
    assert linked == dict.fromkeys(ids, user_id)
    assert not any("user_sync_error" in row["metadata"] for row in log.rows())


@pytest.mark.parametrize("how", sorted(set(BREAKAGES) - {"locked"}))
def test_events_are_stored_while_users_cannot_be_synced(log, how):
    synced = log.project.auth.sign_up_email("ada@example.com")
    unsynced = log.project.auth.sign_up_email("bob@example.com")
    forget(log, unsynced)
    place = {"table": log.project.settings.users_table, "column": log.project.columns["email"]}
    with broken_users_table(log.project.database.dsn(), how, **place):
        events = [
            event(actor_id=str(each), occurred_at=f"2026-03-0{n}")
            for n, each in enumerate((synced, unsynced), 1)
        ]
        assert log.record(*events) == (2, 0, 0)
    first, second = log.rows()
    assert (first["actor_id"], second["actor_id"]) == (str(synced), str(unsynced))
    # Events of users with a row are linked. Other events have the reason instead.
    unreachable = how in {"missing", "renamed"}
    assert first["user_id"] == (None if unreachable else synced)
    if log.project.row(unsynced):
        assert second["user_id"] == unsynced
    else:
        assert second["user_id"] is None
        assert second["metadata"]["original_user_id"] == str(unsynced)
        assert (BREAKAGES[how].sqlstate or "US002") in second["metadata"]["user_sync_error"]


@pytest.mark.slow
def test_recording_waits_for_a_locked_users_table_until_the_lock_timeout(log):
    """PostgreSQL locks the referenced table even to check a null, so no event can be stored meanwhile."""
    user_id = log.project.auth.sign_up_email("ada@example.com")
    with broken_users_table(
        log.project.database.dsn(),
        "locked",
        table=log.project.settings.users_table,
        column=log.project.columns["email"],
    ):
        with pytest.raises(psycopg.errors.LockNotAvailable):
            log.record(event(actor_id=str(user_id)))
        assert log.rejects() == []
    assert log.rows() == []
    assert log.record(event(actor_id=str(user_id))) == (1, 0, 0)
    assert log.row()["user_id"] == user_id


def test_a_locked_row_unlinks_no_event_of_another_user(log, session):
    held, free = (log.project.auth.sign_up_email(f"{name}@example.com") for name in ("ada", "bob"))
    unsynced = log.project.auth.sign_up_email("eve@example.com")
    forget(log, unsynced)
    other = session()
    with other.transaction():
        other.execute(
            f'select from {log.project.users} where "{log.project.settings.key}" = %s for update', [held]
        )
        assert log.record(*(event(actor_id=str(each)) for each in (held, free, unsynced))) == (3, 0, 0)
    links = {row["actor_id"]: row for row in log.rows()}
    assert links[str(free)]["user_id"] == free
    assert links[str(unsynced)]["user_id"] == unsynced
    assert links[str(held)]["user_id"] is None
    assert links[str(held)]["metadata"]["user_sync_error"].startswith("55P03")
    assert log.project.failure(held) is None  # a lock is not a sync failure


@pytest.mark.parametrize(
    ("fields", "linked"),
    [
        ({"actor_type": "service"}, False),
        ({"actor_type": "user"}, True),
        ({"actor_type": None}, True),
        ({"actor_type": "service", "user_id": True}, True),
    ],
)
def test_only_events_of_users_are_linked(log, fields, linked):
    user_id = log.project.auth.sign_up_email("ada@example.com")
    fields = {key: str(user_id) if value is True else value for key, value in fields.items()}
    log.record(event(actor_id=str(user_id), **fields))
    assert log.row()["user_id"] == (user_id if linked else None)
    assert log.row()["metadata"] == {}


def test_an_actor_that_is_not_a_uuid_is_not_linked(log):
    assert log.record(event(actor_id="import-job")) == (1, 0, 0)
    assert (log.row()["actor_id"], log.row()["user_id"], log.row()["metadata"]) == ("import-job", None, {})


def test_the_user_may_differ_from_the_actor(log):
    actor, affected = (log.project.auth.sign_up_email(f"{name}@example.com") for name in ("ada", "bob"))
    log.record(event(actor_id=str(actor), user_id=str(affected)))
    assert (log.row()["actor_id"], log.row()["user_id"]) == (str(actor), affected)


def test_an_event_of_a_user_being_deleted_does_not_violate_the_foreign_key(log, session):
    """The deletion of the row is not committed yet when the events are recorded."""
    user_id = log.project.auth.sign_up_email("ada@example.com")
    other = session()
    with other.transaction():
        other.execute(f'delete from {log.project.users} where "{log.project.settings.key}" = %s', [user_id])
        assert log.record(event(actor_id=str(user_id))) == (1, 0, 0)
    assert (log.row()["user_id"], log.row()["actor_id"]) == (None, str(user_id))


@pytest.mark.one_isolation_level
def test_deleting_a_user_waits_until_the_batch_commits(log, session):
    """The deletion starts when the events are stored but not committed."""
    user_id = log.project.auth.sign_up_email("ada@example.com")
    wait_for_locks(log.owner)
    writer, deleter = session(), session()
    delete = f'delete from {log.project.users} where "{log.project.settings.key}" = %s'
    with ThreadPoolExecutor(1) as pool:
        with writer.transaction():
            assert send(writer, event(actor_id=str(user_id))) == (1, 0, 0)
            deletion = pool.submit(deleter.execute, delete, [user_id])
            wait_until_blocked(log.owner, deleter)
        deletion.result()
    assert log.project.row(user_id) is None
    assert (log.row()["user_id"], log.row()["actor_id"]) == (None, str(user_id))
