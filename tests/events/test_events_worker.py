"""A worker calls its handlers with each event, in order per entity, also if a handler fails or hangs."""

from __future__ import annotations

import asyncio
import threading
import time

import pytest
from working import wait_for

from usersync import Handlers
from usersync.worker import runner
from usersync.worker.attempts import Batch

pytestmark = pytest.mark.newest_server


def test_sync_async_and_transactional_handlers_get_their_events(working):
    handlers, seen = Handlers(), {"plain": [], "later": [], "filtered": []}
    working.owner.execute("create table public.effects (name text, event_id uuid)")

    @handlers.on("a.b")
    def plain(event):
        seen["plain"].append(str(event.id))

    @handlers.on("a.*", "c.d")
    async def later(event):
        await asyncio.sleep(0)
        seen["later"].append(str(event.id))

    @handlers.on("*", name="filtered", entity_type="thing", outcome="failed")
    def never(event):
        seen["filtered"].append(event)

    @handlers.on("a.b", transactional=True)
    def stored(event, connection):
        connection.execute("insert into public.effects values ('blocking', %s)", [event.id])

    @handlers.on("a.b", transactional=True)
    async def stored_later(event, connection):
        await connection.execute("insert into public.effects values ('async', %s)", [event.id])

    before = working.record(1)
    working.register(handlers)
    ids = working.record(1, 2, None, 1)
    other = working.record(1, action="c.d")
    with working.worker(handlers):
        for each in handlers:
            working.wait_done(each.name)
        ids += working.record(3)
        for each in handlers:
            working.wait_done(each.name)
    assert not set(before) & set(seen["later"])
    assert seen == {"plain": ids, "later": [*ids[:4], *other, *ids[4:]], "filtered": []}
    effects = working.owner.execute("select name, event_id::text from public.effects").fetchall()
    assert sorted(effects) == sorted((name, each) for name in ("blocking", "async") for each in ids)


@pytest.mark.slow
def test_a_failing_event_delays_only_later_events_of_its_entity(working):
    handlers, seen, broken = Handlers(), [], {"2"}

    @handlers.on("a.b", attempts=2)
    def handle(event):
        seen.append((event.entity_id, event.metadata["n"]))
        if event.entity_id in broken:
            raise ValueError("write to jane@example.com failed")

    working.register(handlers)
    working.record(1, 2, 2, 3, None, 2)
    with working.worker(handlers):
        wait_for(lambda: working.status("handle").dead == 3, "three dead events")
        # Events of entity 2 are tried in order, each after the earlier one is dead. Other entities are not
        # delayed.
        assert seen[:4] == [("1", 0), ("2", 1), ("3", 3), (None, 4)]
        assert seen[4:] == [("2", 1), ("2", 2), ("2", 2), ("2", 5), ("2", 5)]
        dead = working.parked("handle")
        assert {each.error for each in dead} == {"ValueError: write to <address> failed"}
        assert [each.attempts for each in dead] == [2, 2, 2]
        assert working.status("handle").has_problem
        broken.clear()
        del seen[:]
        assert working.retry("handle") == 3
        working.wait_done("handle")
        assert seen == [("2", 1), ("2", 2), ("2", 5)]
        assert working.parked("handle") == ()


def test_later_events_of_an_entity_are_tried_at_once_after_a_dead_one(working):
    handlers, seen = Handlers(), []

    @handlers.on("a.b", attempts=1)
    def handle(event):
        seen.append(event.metadata["n"])
        if event.metadata["n"] == 0:
            raise ValueError

    working.register(handlers)
    working.record(1, 1, 1)
    with working.worker(handlers):
        working.wait_done("handle")
    assert seen == [0, 1, 2]
    assert [each.state for each in working.parked("handle")] == ["dead"]


def test_a_worker_with_an_outdated_filter_releases_its_shards(working):
    old, new, seen = Handlers(), Handlers(), []
    old.on("a.b", name="x")(print)
    new.on("a.*", name="x")(lambda event: seen.append(event.entity_id))
    working.register(old)
    with working.worker(old):
        wait_for(lambda: working.leased("x") == 16)
        working.register(new)
        with working.worker(new):
            working.record(*range(20))
            working.wait_done("x")
    assert sorted(seen) == sorted(map(str, range(20)))


@pytest.mark.slow
def test_a_worker_with_an_outdated_filter_skips_no_event(working):
    """A worker reads the filter when it starts and not at each event."""
    old, new, seen = Handlers(), Handlers(), []
    old.on("a.b", name="x")(lambda _: None)
    new.on("a.*", name="x")(lambda event: seen.append(event.action))
    working.register(old)
    with working.worker(old, renewal=2.0):
        working.record(1)
        working.wait_done("x")
        working.register(new)
        working.record(1, action="a.c")
        with working.worker(new):
            working.wait_done("x")
    assert seen == ["a.c"]


def test_one_failing_event_among_many_is_parked_and_all_others_are_handled(working):
    handlers, seen = Handlers(), []

    @handlers.on("a.b")
    def handle(event):
        if event.metadata["n"] == 400:
            raise ValueError
        seen.append(event.metadata["n"])

    @handlers.on("a.b", transactional=True)
    def stored(event, connection):
        connection.execute("insert into public.effects values (%s)", [event.metadata["n"]])
        if event.metadata["n"] == 400:
            connection.execute("select 1/0")

    working.owner.execute("create table public.effects (n integer)")
    working.register(handlers)
    working.record(*range(1200))
    with working.worker(handlers, backoff=lambda _: 3600.0):
        for name in ("handle", "stored"):
            wait_for(lambda name=name: working.is_read(name))
    assert seen == [n for n in range(1200) if n != 400]
    rows = working.owner.execute("select n from public.effects").fetchall()
    assert sorted(n for (n,) in rows) == seen
    for name in ("handle", "stored"):
        (parked,) = working.parked(name)
        assert (parked.entity_id, parked.attempts, parked.state) == ("400", 1, "waiting")


@pytest.mark.slow
def test_a_handler_that_hangs_is_abandoned_after_its_time_limit(working, monkeypatch):
    handlers, seen, release, hanging = Handlers(), [], threading.Event(), set()

    monkeypatch.setattr(runner, "GRACE_S", 0.1)
    # On a slow machine, the other events may exceed the limit, too.
    overdue = Batch.overdue
    monkeypatch.setattr(
        Batch, "overdue", lambda batch, limit: [each for each in overdue(batch, limit) if each in hanging]
    )

    @handlers.on("a.b", time_limit=0.2, attempts=1)
    def blocking(event):
        if event.entity_id == "1":
            hanging.add(event.number)
            release.wait(110)
        seen.append(("blocking", event.entity_id))

    @handlers.on("a.b", time_limit=0.2, attempts=1)
    async def waiting(event):
        if event.entity_id == "1":
            await asyncio.sleep(110)
        seen.append(("waiting", event.entity_id))

    @handlers.on("a.b", time_limit=0.2, attempts=1, transactional=True)
    def stored(event, connection):
        connection.execute("insert into public.effects values (%s)", [event.entity_id])
        if event.entity_id == "1":
            hanging.add(event.number)
            release.wait(110)

    working.owner.execute("create table public.effects (entity text)")
    working.register(handlers)
    working.record(0, 1, 2)
    try:
        with working.worker(handlers):
            for each in handlers:
                wait_for(
                    lambda name=each.name: working.status(name).dead == 1, f"a dead event of {each.name}"
                )
                working.wait_done(each.name)
    finally:
        release.set()
    for name in ("blocking", "waiting"):
        assert [entity for by, entity in seen if by == name and entity != "1"] == ["0", "2"]
        assert "did not end within 0.2 seconds" in working.parked(name)[0].error
    rows = working.owner.execute("select entity from public.effects order by 1").fetchall()
    assert rows == [("0",), ("2",)]


def test_late_commits_and_events_of_users_reach_the_handler(working, project):
    handlers, seen = Handlers(), []

    @handlers.on("a.b", "user.*")
    def handle(event):
        seen.append((event.action, event.entity_id))

    working.register(handlers)
    with working.worker(handlers), project.connect() as late:
        with late.transaction():
            working.record("late", connection=late)
            working.record("early")
            wait_for(lambda: seen == [("a.b", "early")])
        wait_for(lambda: seen == [("a.b", "early"), ("a.b", "late")])
        user = project.auth.sign_up_email("jane@example.com")
        wait_for(lambda: ("user.created", str(user)) in seen)
    wanted = "select wanted_by from usersync.user_event_requests"
    assert working.owner.execute(wanted).fetchall() == [("subscription handle",)]
    working.remove("handle")
    assert working.owner.execute(wanted).fetchall() == []


def test_a_resumed_subscription_continues_at_its_position(working):
    handlers, seen = Handlers(), []

    @handlers.on("a.b")
    def handle(event):
        seen.append(event.entity_id)

    working.register(handlers)
    with working.worker(handlers):
        working.record(1)
        wait_for(lambda: seen == ["1"])
        working.pause("handle", reason="maintenance")
        wait_for(lambda: not working.leased("handle"))
        working.record(2)
        wait_for(lambda: working.status("handle").lag == 1)
        assert (working.status("handle").state, working.status("handle").reason) == ("paused", "maintenance")
        time.sleep(0.2)
        assert seen == ["1"]
        working.resume("handle")
        wait_for(lambda: seen == ["1", "2"])


def test_two_workers_share_the_shards(working):
    """Workers redistribute shards at once, without waiting for the next renewal of leases (two minutes)."""
    handlers, seen = Handlers(), []

    @handlers.on("a.b")
    def handle(event):
        seen.append(event.entity_id)

    working.register(handlers)
    leased = "from usersync.subscription_shards where worker is not null"
    shares = f"select count(*) {leased} group by worker order by 1"
    with working.worker(handlers, renewal=120.0):
        wait_for(lambda: working.owner.execute(shares).fetchall() == [(16,)])
        with working.worker(handlers, renewal=120.0):
            wait_for(lambda: working.owner.execute(shares).fetchall() == [(8,), (8,)])
            working.record(*range(40))
            working.wait_done("handle")
        wait_for(lambda: working.owner.execute(shares).fetchall() == [(16,)])
    assert sorted(seen) == sorted(map(str, range(40)))
    assert working.owner.execute(shares).fetchall() == []
    assert working.owner.execute("select count(*) from usersync.workers").fetchone() == (0,)


def test_events_in_flight_are_counted_until_their_result_is_stored(working):
    handlers, goes_on = Handlers(), threading.Event()

    @handlers.on("a.b")
    def handle(event):
        assert goes_on.wait(60)

    @handlers.on("a.b", transactional=True)
    def store(event, connection):
        assert goes_on.wait(60)

    def counted():
        return {working.status(name).in_flight for name in ("handle", "store")}

    working.register(handlers)
    working.record(1, 1)
    with working.worker(handlers):
        wait_for(lambda: counted() == {1})
        # The handler still runs.
        working.pause("handle")
        with working.owner.transaction(force_rollback=True):
            working.owner.execute(
                "update usersync.workers set subscriptions = '{store}', alive_until = now() + '1 h'"
            )
            assert counted() == {1}
            # A worker of an earlier release does not write the number.
            working.owner.execute("update usersync.workers set in_flight = null")
            assert (working.status("store").in_flight, working.status("handle").in_flight) == (None, 0)
        working.resume("handle")
        goes_on.set()
        for each in handlers:
            working.wait_done(each.name)
        wait_for(lambda: counted() == {0})


def test_after_a_crash_only_events_of_handlers_are_tried_one_by_one(working):
    """A webhook cannot end the process, so its events are not tried one by one."""
    working.owner.execute(
        "insert into usersync.subscriptions (name, kind, actions) "
        "values ('h', 'handler', '{*}'), ('w', 'webhook', '{*}')"
    )
    working.owner.execute(
        "insert into usersync.subscription_shards (subscription, shard, position) "
        "select name, shard, 7 from usersync.subscriptions cross join generate_series(0, 15) as shard"
    )
    for _ in range(2):
        working.owner.execute(
            "select usersync.renew_worker(gen_random_uuid(), 'host', 1, '{h}', '{webhook}', '1 ms'), "
            "pg_sleep(0.01)"
        )
    until = working.owner.execute(
        "select subscription, min(careful_until), max(careful_until) "
        "from usersync.subscription_shards group by 1"
    ).fetchall()
    assert sorted(until) == [("h", 507, 507), ("w", 0, 0)]
