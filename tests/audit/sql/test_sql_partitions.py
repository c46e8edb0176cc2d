"""Every caller creates partitions in advance, and no session waits for it."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest
from sql_log import event, send

MAKE = "select usersync.make_audit_partitions()"


def months(log, count=13):
    """The starts of this month and of the following months."""
    read = """
        select date_trunc('month', now() at time zone 'UTC') + make_interval(months => n)
        from generate_series(0, %s - 1) as n
    """
    return [row[0].replace(tzinfo=UTC) for row in log.owner.execute(read, [count]).fetchall()]


def expected(log):
    return sorted(["audit_logs_default", *(f"audit_logs_{month:%Y_%m}" for month in months(log))])


def expected_soon(log):
    return sorted(["audit_logs_default", *(f"audit_logs_{month:%Y_%m}" for month in months(log, 3))])


def drop_all_months(log):
    for name in log.partitions():
        if name != "audit_logs_default":
            log.owner.execute(f"drop table usersync.{name}")
    assert log.partitions() == ["audit_logs_default"]


def test_partitions_for_this_month_and_the_next_year_exist_from_the_start(log):
    assert log.partitions() == expected(log)
    assert log.owner.execute(MAKE).fetchone() == (0,)


@pytest.mark.parametrize("ahead", [0, 1, 2])
def test_an_event_is_stored_in_the_partition_of_its_month(log, ahead):
    first, following = months(log, 5)[ahead : ahead + 2]
    tick = timedelta(microseconds=1)
    times = [first - tick, first, following - tick, following]
    assert log.record(*(event(occurred_at=time.isoformat()) for time in times)) == (4, 0, 0)
    places = [row["partition"].rpartition(".")[2] for row in log.rows()]
    assert places[1] == places[2] == f"audit_logs_{first:%Y_%m}"
    assert places[0] != places[1]
    assert places[3] != places[2]


def test_events_around_new_year_are_in_two_partitions(log):
    log.owner.execute(
        "select usersync.make_audit_partition(month) from unnest('{2029-12-01,2030-01-01}'::date[]) month"
    )
    log.record(event(occurred_at="2029-12-31T23:59:59.999999Z"), event(occurred_at="2030-01-01T00:00:00Z"))
    places = [row["partition"] for row in log.rows()]
    assert places == ["usersync.audit_logs_2029_12", "usersync.audit_logs_2030_01"]


@pytest.mark.parametrize(("path", "events"), [("", []), ("/rpc/record_audit_events", [event()])])
def test_an_empty_batch_or_a_data_api_call_creates_missing_partitions(log, path, events):
    drop_all_months(log)
    log.owner.execute("select set_config('request.path', %s, false)", [path])
    assert log.record(*events) == (len(events), 0, 0)
    assert log.partitions() == expected_soon(log)


def test_an_empty_batch_in_the_applications_transaction_locks_nothing(log):
    drop_all_months(log)
    log.owner.execute("select public.record_audit_events('[]')")
    assert log.partitions() == ["audit_logs_default"]


def test_twenty_concurrent_calls_create_each_partition_once(log, session):
    drop_all_months(log)
    sessions = [session() for _ in range(20)]
    with ThreadPoolExecutor(20) as pool:
        results = list(pool.map(send, sessions))
    assert results == [(0, 0, 0)] * 20
    log.owner.execute(MAKE)  # each call may have skipped the work because another one was doing it
    assert log.partitions() == expected_soon(log)


def test_rows_in_the_default_partition_move_to_their_month(log):
    drop_all_months(log)
    now = datetime.now(UTC).isoformat()
    log.record(event(occurred_at=now), event(occurred_at="2020-01-01"))
    before = log.rows()
    assert {row["partition"] for row in before} == {"usersync.audit_logs_default"}
    assert log.owner.execute(MAKE).fetchone() == (3,)
    moved = f"usersync.audit_logs_{months(log)[0]:%Y_%m}"
    assert log.rows() == [before[0], before[1] | {"partition": moved}]


@pytest.mark.slow
@pytest.mark.newest_server
def test_a_month_with_too_many_rows_to_move_does_not_block_other_months(log):
    drop_all_months(log)
    now = datetime.now(UTC).isoformat()
    log.record(*(event(occurred_at=now) for _ in range(10_001)))
    assert log.owner.execute(MAKE).fetchone() == (2,)
    assert log.partitions() == [
        each for each in expected_soon(log) if each != f"audit_logs_{months(log)[0]:%Y_%m}"
    ]
    assert len(log.rows()) == 10_001


@pytest.mark.slow
@pytest.mark.newest_server
def test_a_large_default_partition_does_not_delay_writers(log):
    """To attach a partition, the server reads the default partition, and locks the users table meanwhile."""
    drop_all_months(log)
    old = {"occurred_at": "2019-01-01", "metadata": {"text": "x" * 1_800}}
    for _ in range(2):
        log.record(*(event(**old) for _ in range(4_500)))
    assert log.record() == (0, 0, 0)
    assert log.partitions() == ["audit_logs_default"]
    log.owner.execute("set usersync.maintaining = 'audit'")
    log.owner.execute("truncate usersync.audit_logs_default")
    assert log.record() == (0, 0, 0)
    assert log.partitions() == expected_soon(log)


@pytest.mark.parametrize("busy", ["log", "users"])
def test_a_lock_prevents_new_partitions_but_not_recording(log, session, busy):
    drop_all_months(log)
    lock = {
        "log": f"select from {log.table}",  # a report that reads every partition
        "users": f"lock table {log.project.users} in row exclusive mode",  # an import of users
    }[busy]
    reader = session()
    with reader.transaction():
        reader.execute(lock)
        log.owner.execute("set lock_timeout = '1ms'")  # the call does not wait for a lock
        assert log.record() == (0, 0, 0)
        assert log.record(event()) == (1, 0, 0)
        assert log.partitions() == ["audit_logs_default"]
    assert log.record() == (0, 0, 0)
    assert log.partitions() == expected_soon(log)


def test_the_applications_transaction_creates_no_partition(log):
    """Otherwise the lock on the users table would last until the transaction ends."""
    drop_all_months(log)
    with log.owner.transaction():
        # The event is the first statement. Only the open transaction shows that it is the application's.
        assert log.record(event()) == (1, 0, 0)
        held = """
            select count(*) from pg_locks
            where pid = pg_backend_pid() and mode = 'ShareRowExclusiveLock' and relation = %s::regclass
        """
        assert log.owner.execute(held, [log.project.users]).fetchone() == (0,)
    assert log.partitions() == ["audit_logs_default"]


def test_every_partition_has_every_index(log):
    drop_all_months(log)
    log.owner.execute(MAKE)
    read = """
        select relid::regclass::text, array_agg(definition order by definition)
        from pg_partition_tree(%s::regclass)
        join pg_index on indrelid = relid
        cross join lateral regexp_replace(pg_get_indexdef(indexrelid), 'INDEX .* USING', '') as definition
        group by 1
    """
    indexes = dict(log.owner.execute(read, [log.table]).fetchall())
    assert len(indexes) == 5  # the log, the default partition and three months
    assert len({tuple(each) for each in indexes.values()}) == 1, indexes
    assert len(next(iter(indexes.values()))) == 10
