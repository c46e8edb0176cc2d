"""The sender quarantines an event that always fails, and retries all events during an outage."""

from __future__ import annotations

from uuid import UUID

import psycopg
import pytest

from usersync.testing import GoTrue

pytestmark = pytest.mark.newest_server


@pytest.fixture
def user_id(store):
    with GoTrue(store.database.dsn("supabase_auth_admin")) as auth:
        yield str(auth.sign_up_email("ada@example.com"))


def on_insert(store, table, body, condition="true"):
    replace_trigger_body(store, body)
    store.owner.execute(
        f"create trigger interfere before insert on {table} for each row when ({condition}) "
        "execute function public.interfere()"
    )


def replace_trigger_body(store, body="null"):
    """Change the body of the trigger's function. Dropping the trigger could deadlock with the writer."""
    store.owner.execute(
        "create or replace function public.interfere() returns trigger language plpgsql as "
        f"$$ begin {body}; return new; end $$"
    )


@pytest.mark.slow
def test_an_event_is_stored_unlinked_if_the_users_row_is_not_created_in_time(store, make_log, user_id):
    store.owner.execute("delete from public.users")
    on_insert(store, "public.users", "perform pg_sleep(60)")
    log = make_log(store.dsn, send_timeout=0.3)
    theirs = log.record("by.user", actor_id=user_id)
    others = [log.record("a.b") for _ in range(20)]
    assert log.flush(30)
    assert sorted(store.ids()) == sorted([theirs, *others])
    event = next(each for each in store.events() if each["id"] == theirs)
    assert (event["user_id"], event["actor_id"]) == (None, user_id)
    assert event["metadata"]["user_sync_error"] == "given up after several attempts"
    assert log.stats().quarantined == 0


@pytest.mark.slow
def test_an_event_that_a_trigger_on_the_log_rejects_is_quarantined(store, make_log):
    on_insert(store, "public.audit_logs", "raise insufficient_privilege", "new.action like 'poison%'")
    log = make_log(store.dsn)
    ids = []
    for _ in range(3):
        log.record("poison.drunk")
        ids += [log.record("a.b") for _ in range(20)]
    assert not log.flush(30)
    assert sorted(store.ids()) == sorted(ids)
    stats = log.stats()
    assert (stats.quarantined, stats.stored, stats.duplicates) == (3, 60, 0)
    replace_trigger_body(store)
    assert log.retry_quarantined().stored == 3


def test_a_failure_of_every_event_is_an_outage(store, make_log, eventually):
    on_insert(store, "public.audit_logs", "raise insufficient_privilege")
    log = make_log(store.dsn)
    ids = [log.record("a.b") for _ in range(20)]

    # Each flush() ends the wait for the next attempt.
    eventually(lambda: log.flush(0.01) or log.stats().consecutive_failures > 8)
    assert log.stats().quarantined == 0
    assert log.stats().waiting == 20
    replace_trigger_body(store)
    assert log.flush(30)
    assert sorted(store.ids()) == sorted(ids)


@pytest.mark.parametrize("reason", ["disk_full", "io_error"])
def test_a_failure_of_all_but_the_smallest_event_is_an_outage(store, make_log, eventually, reason):
    """As on a full disk, when a page of the table still has space."""
    on_insert(store, "public.audit_logs", f"raise {reason}", "new.action <> 'usersync.probed'")
    log = make_log(store.dsn)
    ids = [log.record("a.b") for _ in range(20)]
    eventually(lambda: log.flush(0.01) or log.stats().consecutive_failures > 8)
    assert (log.stats().quarantined, log.stats().waiting) == (0, 20)
    replace_trigger_body(store)
    assert log.flush(30)
    assert sorted(store.ids()) == sorted(ids)


@pytest.mark.slow
def test_a_missing_partition_is_an_outage(store, make_log):
    store.owner.execute("alter table public.audit_logs detach partition usersync.audit_logs_default")
    log = make_log(store.dsn)
    log.record("a.b", occurred_at="2019-01-01")
    assert not log.flush(0.5)
    assert (log.stats().quarantined, log.stats().waiting) == (0, 1)
    store.owner.execute("alter table public.audit_logs attach partition usersync.audit_logs_default default")
    assert log.flush(30)
    assert len(store.ids()) == 1


def test_the_writer_waits_for_a_locked_row_of_a_user(store, make_log, user_id, eventually):
    log = make_log(store.dsn)
    with psycopg.connect(store.dsn) as application:
        application.execute("select from public.users where id = %s for update", [user_id])
        log.record("payment.made", actor_id=user_id)
        eventually(lambda: "55P03" in (log.stats().last_error or ""))
        assert store.ids() == []
    assert log.flush(30)
    event = store.event()
    assert (UUID(event["user_id"]), event["metadata"]) == (UUID(user_id), {})


@pytest.mark.slow
def test_an_event_is_finally_stored_unlinked_if_the_users_row_stays_locked(store, make_log, user_id):
    log = make_log(store.dsn)
    with psycopg.connect(store.dsn) as application:
        application.execute("select from public.users where id = %s for update", [user_id])
        log.record("payment.made", actor_id=user_id)
        assert log.flush(40)
        event = store.event()
        assert (event["user_id"], event["actor_id"]) == (None, user_id)
        assert event["metadata"]["user_sync_error"].startswith("55P03")
