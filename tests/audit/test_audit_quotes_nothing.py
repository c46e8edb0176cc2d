"""Log lines and exceptions contain neither values of events nor control characters."""

from __future__ import annotations

import psycopg
import pytest

from usersync.errors import DatabaseError

pytestmark = pytest.mark.newest_server

#: Events that the database rejects. PostgreSQL or a trigger quotes one of their values in its message.
REJECTED = {
    "an id that is no uuid": {"entity": ("order", "ada@example.com")},
    "an id that is another secret": {"entity": ("order", "a secret \x1b[31m")},
    "a trigger that quotes": {"entity": ("person", "ada@example.com")},
    "an action with control characters": {
        "action": "a.b\x1b[31m\x07", "actor_id": lambda: {"actor_type": "ada@example.com"},
    },
}  # fmt: skip


@pytest.fixture
def quoting(store):
    """A trigger of the application whose message, or the message of its cast, contains the entity."""
    store.owner.execute("""
        create function public.refuse() returns trigger language plpgsql as
        $$ begin
            if new.entity_type = 'order' then perform new.entity_id::uuid; end if;
            raise exception 'not %', new.entity_id;
        end $$;
        create trigger refuse before insert on public.audit_logs
        for each row when (new.entity_type is not null) execute function public.refuse()
    """)


@pytest.mark.parametrize("how", REJECTED)
@pytest.mark.usefixtures("quoting")
def test_record_in_does_not_quote_values_of_a_rejected_event(store, offline, caplog, how):
    event = {"action": "a.b", **REJECTED[how]}
    with psycopg.connect(store.dsn) as connection:
        with pytest.raises(DatabaseError) as raised:
            offline.record_in(connection, **event, required=True)
        assert offline.record_in(connection, **event) is None
    assert_contains_no_values(str(raised.value) + caplog.text)
    assert "a.b" in str(raised.value)


@pytest.mark.parametrize("how", REJECTED)
@pytest.mark.usefixtures("quoting")
def test_the_sender_does_not_quote_values_of_events(store, make_log, caplog, how):
    log = make_log(store.dsn)
    log.record(**{"action": "a.b", **REJECTED[how]})
    assert log.flush(timeout=60)
    assert log.stats().rejected == 1
    assert "audit events were rejected" in caplog.text
    assert_contains_no_values(caplog.text)


def assert_contains_no_values(text):
    assert "ada@" not in text
    assert "secret" not in text
    assert not [each for each in text if not each.isprintable() and each != "\n"]
