"""Replay: past events are handled again."""

from __future__ import annotations

import logging
import threading

import pytest
from working import wait_for

from usersync import Handlers
from usersync.errors import SettingsError
from usersync.events import subscriptions
from usersync.transports.run import run

pytestmark = pytest.mark.newest_server


@pytest.mark.slow
def test_handled_parked_and_dead_events_are_replayed_in_order(working, caplog):
    caplog.set_level(logging.INFO, "usersync.worker")
    handlers, seen, broken = Handlers(), [], {"bad", "worse"}
    proceed, reached = threading.Event(), threading.Event()

    @handlers.on("a.b", attempts=2)
    def handle(event):
        if event.entity_id == "last":
            reached.set()
            proceed.wait(110)
        if event.entity_id in broken:
            raise ValueError
        seen.append((event.entity_id, str(event.id)))

    working.register(handlers)
    entities = ("early", "bad", None, "good", "bad", "worse")
    ids = working.record(*entities)
    given = list(zip(entities, ids, strict=True))

    def replay(number):
        return run(subscriptions.replay("handle", number), working.owner)

    with working.worker(handlers):
        wait_for(lambda: working.status("handle").dead == 3, "the dead events")
        (number,) = {each.number for each in working.parked("handle") if str(each.event_id) == ids[4]}
        broken.clear()
        del seen[:]
        # The dead event before it stays dead.
        assert replay(number - 1) == 2
        working.wait_done("handle")
        assert seen == given[3:]
        assert [str(each.event_id) for each in working.parked("handle")] == [ids[1]]

        # A replay during an attempt: its result is not stored, and the event is handled again.
        del seen[:]
        given += zip(("last",), working.record("last"), strict=True)
        assert reached.wait(90)
        assert replay(1) == 1
        proceed.set()
        working.wait_done("handle")
    assert seen == [given[-1], *given]
    assert "handle: the subscription was replayed or changed" in caplog.text
    assert "another worker has taken over" not in caplog.text
    made = [each.attempt for each in run(subscriptions.attempts("handle"), working.owner)]
    assert made.count(2) == 3


def test_a_replay_skips_no_event_and_refuses_an_unread_number(working):
    handlers, seen = Handlers(), []
    handlers.on("a.b", name="x")(lambda event: seen.append(event.entity_id))
    working.register(handlers)
    working.record(*range(5))
    assert working.is_read("x") is False
    # The subscription has not read the feed yet.
    assert run(subscriptions.replayed("x", 4), working.owner) == 0
    assert run(subscriptions.replay("x", 4), working.owner) == 0
    assert working.status("x").lag == 5
    for number in (0, 6):
        with pytest.raises(SettingsError, match="its last number is 5"):
            run(subscriptions.replay("x", number), working.owner)
    with pytest.raises(SettingsError, match="no subscription"):
        run(subscriptions.replay("y", 1), working.owner)
    with working.worker(handlers):
        working.wait_done("x")
    assert sorted(seen) == list(map(str, range(5)))
    at = working.owner.execute("select min(occurred_at) from usersync.event_numbers").fetchone()[0]
    assert run(subscriptions.first_number(at), working.owner) == 1
