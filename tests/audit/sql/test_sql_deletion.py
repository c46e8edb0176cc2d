"""The auth server deletes a user with events: the deletion succeeds, and the events keep their actor."""

from __future__ import annotations

import pytest
from sql_log import HOSTILE_TABLE, event, send

from audit_settings import with_audit_log
from fixtures_project import NAMES

pytestmark = pytest.mark.key_types

POLICIES = ("anonymize", "soft", "keep", "delete")


@pytest.fixture(params=POLICIES)
def policy(request):
    return request.param


@pytest.fixture
def settings(names, policy):
    hostile = HOSTILE_TABLE if names == "hostile" else {}
    return with_audit_log(NAMES[names][0] | hostile | {"on_delete": policy})


def test_events_of_a_deleted_user_keep_their_actor(log, policy):
    user_id = log.project.auth.sign_up_email("ada@example.com")
    log.record(event(actor_id=str(user_id), changes={"quantity": [1, 2]}, metadata={"why": "sold"}))
    before = log.row()
    log.project.auth.hard_delete(user_id)
    assert log.project.failure(user_id) is None
    # Only the event's user_id is emptied, and only if the row is deleted.
    assert log.row() == before | {"user_id": None if policy == "delete" else user_id}


def test_a_deletion_during_an_open_batch_succeeds(log, session, policy):
    user_id = log.project.auth.sign_up_email("ada@example.com")
    writer = session()
    with writer.transaction():
        send(writer, event(actor_id=str(user_id)))
        log.project.auth.hard_delete(user_id)  # the batch does not delay the deletion
    log.project.client.retry()
    assert log.project.client.status().in_step
    row = log.row()
    assert row["actor_id"] == str(user_id)
    assert row["user_id"] == (None if policy == "delete" else user_id)


def test_events_recorded_while_the_deletion_is_uncommitted_are_stored(log, project):
    """The auth server's transaction is open, so other sessions do not see the deletion yet."""
    user_id = log.project.auth.sign_up_email("ada@example.com")
    with project.database.connect("supabase_auth_admin") as auth, auth.transaction():
        auth.execute("delete from auth.users where id = %s", [user_id])
        assert log.record(event(actor_id=str(user_id))) == (1, 0, 0)
    assert log.row()["actor_id"] == str(user_id)
    assert log.row()["user_id"] in (None, user_id)
    assert log.record(event(actor_id=str(user_id))) == (1, 0, 0)


@pytest.mark.newest_server
def test_a_user_with_many_events_does_not_delay_the_auth_servers_deletion(log, policy):
    """Emptying user_id of many events takes long, so it is done later, in batches."""
    ada, bob = (log.project.auth.sign_up_email(f"{name}@example.com") for name in ("ada", "bob"))
    log.record(*(event(actor_id=str(ada)) for _ in range(5_001)), event(actor_id=str(bob)))
    log.project.auth.hard_delete(ada)
    log.project.auth.hard_delete(bob)
    assert log.project.failure(bob) is None
    links = f"select count(*) from {log.table.replace('%', '%%')} where user_id = %s"
    if policy == "delete":
        assert log.project.failure(ada).sqlstate == "55006"
        assert log.project.row(ada) is not None
        assert log.owner.execute(links, [ada]).fetchone() == (5_001,)
        log.project.client.retry()
        assert log.project.row(ada) is None
    assert log.project.failure(ada) is None
    assert log.project.client.status().in_step
    assert log.owner.execute(links, [ada]).fetchone() == (0 if policy == "delete" else 5_001,)
    assert sum(row["actor_id"] == str(ada) for row in log.rows()) == 5_001


def test_events_of_existing_users_keep_their_links(log):
    user_id = log.project.auth.sign_up_email("ada@example.com")
    log.record(event(actor_id=str(user_id)))
    assert log.owner.execute("select usersync.unlink_events(%s, 10)", [user_id]).fetchone() == (0,)
    assert log.row()["user_id"] == user_id
