"""Each event is stored once, also if it is sent repeatedly, concurrently or in another order."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from uuid import UUID, uuid4

import pytest
from sql_log import event, send, wait_until_blocked

from waiting import wait_for_locks

pytestmark = pytest.mark.key_types

#: A uuid of version 7, created at 2025-09-13T12:59:18.395Z.
SEVEN = "01994328-99fb-7000-8000-000000000001"


def without_time(**fields):
    return {key: value for key, value in event(**fields).items() if key != "occurred_at"}


KINDS = {
    "with a time": lambda: [event(), event(), event()],
    "without a time": lambda: [without_time(), without_time(), without_time()],
    "version 7, without a time": lambda: [without_time(id=SEVEN[:-1] + str(n)) for n in range(3)],
}


@pytest.fixture(params=KINDS)
def batch(request):
    return KINDS[request.param]()


def test_a_batch_that_is_sent_again_is_stored_once(log, batch):
    assert log.record(*batch) == (3, 0, 0)
    before = log.rows()
    assert log.record(*batch) == (0, 3, 0)
    assert log.rows() == before


def test_overlapping_batches_store_each_event_once(log, batch):
    assert log.record(*batch[:2]) == (2, 0, 0)
    assert log.record(*batch[1:]) == (1, 1, 0)
    assert len(log.rows()) == 3


def test_an_event_twice_in_one_batch_is_stored_once(log, batch):
    assert log.record(*batch, *batch) == (3, 3, 0)
    assert len(log.rows()) == 3


@pytest.mark.one_isolation_level
@pytest.mark.parametrize("first_commits", [True, False])
def test_two_concurrent_writers_store_each_event_once(log, session, batch, first_commits):
    wait_for_locks(log.owner)
    first, second = session(), session()
    with ThreadPoolExecutor(1) as pool:
        with first.transaction(force_rollback=not first_commits):
            assert send(first, *batch) == (3, 0, 0)
            sent = pool.submit(send, second, *reversed(batch))
            wait_until_blocked(log.owner, second)
        assert sent.result() == ((0, 3, 0) if first_commits else (3, 0, 0))
    assert {str(row["id"]) for row in log.rows()} == {each["id"] for each in batch}
    assert len(log.rows()) == 3


def test_rows_are_written_in_the_order_of_their_ids(log):
    """Otherwise two senders of the same events in different orders could deadlock."""
    events = [event() for _ in range(50)]
    log.record(*events)
    ids = [row[0] for row in log.owner.execute("select id from usersync.audit_logs_default order by ctid")]
    assert ids == sorted(UUID(each["id"]) for each in events)


def test_rejected_events_are_not_duplicates(log):
    good = event()
    assert log.record(good, event(ip="nowhere")) == (1, 0, 1)
    assert log.record(good, event(ip="nowhere"), good) == (0, 2, 1)


def test_an_event_with_the_same_id_and_other_content_is_a_duplicate(log):
    first = event(entity_id="1")
    log.record(first)
    assert log.record(first | {"entity_id": "2"}) == (0, 1, 0)
    assert log.row()["entity_id"] == "1"


def test_an_event_with_the_same_id_and_another_time_is_another_event(log):
    """The log is partitioned by time, so its key contains the time. Clients always send both."""
    first = event(occurred_at="2026-03-01")
    log.record(first)
    assert log.record(first | {"occurred_at": "2026-03-02"}) == (1, 0, 0)
    # Without a time, the events are duplicates.
    assert log.record({key: value for key, value in first.items() if key != "occurred_at"}) == (0, 1, 0)


def test_events_without_an_id_are_all_different(log):
    assert log.record({"action": "a"}, {"action": "a"}) == (2, 0, 0)
    assert log.record({"action": "a"}) == (1, 0, 0)
    assert len({row["id"] for row in log.rows()}) == 3


def test_a_thousand_events_without_a_time_take_few_locks(log):
    with log.owner.transaction():
        log.record(*(without_time(id=str(uuid4())) for _ in range(1_000)))
        held = "select count(*) from pg_locks where locktype = 'advisory' and pid = pg_backend_pid()"
        assert log.owner.execute(held).fetchone()[0] <= 64
