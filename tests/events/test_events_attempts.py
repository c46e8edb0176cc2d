"""The attempts of subscriptions: each is stored with its outcome, and old attempts are deleted."""

from __future__ import annotations

import threading
from uuid import UUID

import pytest
from working import wait_for

from usersync import Handlers
from usersync.events import subscriptions
from usersync.events.delivery import AttemptOutcome
from usersync.events.models import Subscription
from usersync.transports.run import run
from usersync.worker import runner
from usersync.worker.attempts import Batch
from usersync.worker.periodic import prune_attempts

pytestmark = pytest.mark.newest_server


def attempts(working, name, **options):
    return run(subscriptions.attempts(name, **options), working.owner)


@pytest.mark.slow
def test_each_attempt_is_stored_with_its_outcome(working, monkeypatch):
    handlers, release, hanging = Handlers(), threading.Event(), set()

    monkeypatch.setattr(runner, "GRACE_S", 0.1)
    # On a slow machine, the other events may exceed the limit, too.
    overdue = Batch.overdue
    monkeypatch.setattr(
        Batch, "overdue", lambda batch, limit: [each for each in overdue(batch, limit) if each in hanging]
    )

    @handlers.on("a.b", attempts=3, time_limit=0.1)
    def plain(event):
        if event.entity_id == "hangs":
            hanging.add(event.number)
            release.wait(110)
        if event.entity_id == "fails":
            raise ValueError("to jane@example.com")

    @handlers.on("a.b", transactional=True, attempts=2)
    def stored(event, connection):
        connection.execute("select 1" if event.entity_id != "fails" else "select 1/0")

    working.register(handlers)
    ids = dict(zip(("good", "fails", "hangs"), working.record("good", "fails", "hangs"), strict=True))
    with working.worker(handlers):
        wait_for(lambda: working.status("plain").dead == 2, "the dead events of the plain handler")
        wait_for(lambda: working.status("stored").dead == 1, "the dead event of the transactional handler")
        working.wait_done("stored")
        release.set()

    def of(name, entity):
        found = attempts(working, name, event_id=UUID(ids[entity]))
        assert all(each.seconds is not None and 0 <= each.seconds < 120 for each in found)
        return [(each.attempt, each.error) for each in reversed(found)]

    assert of("plain", "good") == [(1, None)]
    assert of("plain", "fails") == [(n, "ValueError: to <address>") for n in (1, 2, 3)]
    assert of("plain", "hangs") == [(n, "it did not end within 0.1 seconds") for n in (1, 2, 3)]
    assert of("stored", "good") == [(1, None)]
    assert of("stored", "fails") == [(n, "DivisionByZero: division by zero") for n in (1, 2)]
    found = attempts(working, "plain")
    assert len(found) == 7
    assert [each.attempt_id for each in found] == sorted((each.attempt_id for each in found), reverse=True)
    page = attempts(working, "plain", limit=3)
    assert page + attempts(working, "plain", before=page[-1].attempt_id) == found
    (now,) = working.owner.execute("select now()").fetchone()
    assert all((now - each.attempted_at).total_seconds() < 120 for each in found)

    # Attempts of parked events stay, whatever their age. They are deleted with the subscription.
    working.owner.execute("update usersync.delivery_attempts set attempted_at = now() - interval '8 days'")
    run(prune_attempts(), working.owner)
    assert {each.error is None for each in attempts(working, "plain")} == {False}
    assert len(attempts(working, "plain")) == 6
    working.remove("plain")
    assert working.owner.execute(
        "select distinct subscription from usersync.delivery_attempts"
    ).fetchall() == [("stored",)]


def test_old_attempts_are_deleted_above_a_limit(working):
    """The last 20 attempts of an event are kept, and at most ``most`` attempts of a subscription."""

    class Hook:
        concurrency, time_limit = 4, 5.0

        async def deliver(self, event, attempt):
            if event.entity_id == "busy" and attempt <= 25:
                return AttemptOutcome.failed(f"busy {attempt}", retry_after=0)
            return AttemptOutcome.succeeded("204 No Content")

        async def close(self):
            pass

    hook = Subscription("hook", "webhook", ("a.b",), config={"attempts": 30})
    run(subscriptions.add(hook), working.owner)
    (busy,) = working.record("busy")
    with working.worker(kinds={"webhook": lambda _: Hook()}):
        wait_for(lambda: any(each.answer for each in attempts(working, "hook")), "the last attempt")
        working.record(*range(50))
        working.wait_done("hook")
    found = attempts(working, "hook", event_id=UUID(busy))
    assert [each.attempt for each in found] == list(range(26, 6, -1))
    assert (found[0].answer, found[0].error) == ("204 No Content", None)

    # Attempts of a subscription that no longer exists are deleted too.
    working.owner.execute("""
        insert into usersync.delivery_attempts (subscription, number, event_id, attempt, attempted_at)
        select name, n, gen_random_uuid(), 1, now()
        from unnest('{a,zz}'::text[]) as name, generate_series(1, 5) as n
    """)
    (deleted,) = working.owner.execute("select usersync.prune_attempts('7 days', 30)").fetchone()
    assert deleted == 10 + 40
    assert len(attempts(working, "hook")) == 30
    assert {each.answer for each in attempts(working, "hook")} == {"204 No Content"}
