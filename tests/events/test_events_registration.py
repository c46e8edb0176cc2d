"""The registration of handlers: invalid ones raise, and a worker requires that the database has them."""

from __future__ import annotations

import functools

import psycopg
import pytest
from working import wait_for

from fixtures_pooler import pgbouncer
from usersync import ArgumentTypeError, ArgumentValueError, Handlers, SettingsError
from usersync.doctor import choose, examine
from usersync.errors import NotInstalledError
from usersync.events import subscriptions
from usersync.events.definitions import definitions
from usersync.events.delivery import SUCCEEDED, AttemptOutcome
from usersync.events.models import Subscription
from usersync.schema import installation
from usersync.testing.install import install
from usersync.transports.run import run
from usersync.worker.backoff import backoff

pytestmark = pytest.mark.newest_server


def takes_event(event): ...


def takes_two(event, connection): ...


@pytest.mark.parametrize(
    ("actions", "options", "function", "message"),
    [
        ((), {}, takes_event, "needs an action"),
        ((len,), {}, takes_event, "takes actions, not"),
        (("a*b",), {}, takes_event, "neither an action nor a prefix"),
        (("a.b",), {"name": "x"}, None, "a handler is a function"),
        (("a.b",), {"name": "x"}, lambda: None, "must be callable as x\\(event\\)"),
        (("a.b",), {"name": "x"}, takes_two, "must be callable as x\\(event\\)"),
        (("a.b",), {"name": "x", "transactional": True}, takes_event, "x\\(event, connection\\)"),
        (("a.b",), {"name": ""}, takes_event, "'' is not the name"),
        (("a.b",), {"name": "A b"}, takes_event, "is not the name"),
        (("a.b",), {"name": "x", "attempts": 0}, takes_event, "attempts: expected 1 to 100"),
        (("a.b",), {"name": "x", "time_limit": float("nan")}, takes_event, "time_limit"),
        (("a.b",), {"name": "x", "outcome": "odd"}, takes_event, "outcome"),
        (("a.b",), {"name": "taken"}, takes_event, "there are two handlers 'taken'"),
    ],
)
def test_an_invalid_registration_raises(actions, options, function, message):
    handlers = Handlers()
    handlers.on("a.b", name="taken")(print)
    with pytest.raises((ArgumentTypeError, ArgumentValueError), match=message):
        handlers.on(*actions, **options)(function)
    assert len(handlers) == 1


def test_a_generator_function_is_refused_as_a_handler():
    def nothing(event):
        yield event

    with pytest.raises(ArgumentTypeError, match="generator"):
        Handlers().on("a.b")(nothing)


def test_functions_methods_partials_and_callable_objects_can_be_handlers():
    class Push:
        async def __call__(self, event): ...

    handlers = Handlers()
    handlers.on("a.b", name="object")(Push())
    handlers.on("a.b", name="partial")(functools.partial(takes_two, connection=1))
    assert [(each.name, each.is_async) for each in handlers] == [("object", True), ("partial", False)]


def test_the_retry_delay_grows_from_seconds_to_hours():
    delays = [backoff(n) for n in range(1, 13)]
    assert 3 < delays[0] < 7
    assert 4 * 3600 < delays[-1] < 8 * 3600


def test_a_worker_refuses_handlers_that_are_not_registered_in_the_database(working):
    handlers = Handlers()
    handlers.on("a.b", name="first")(print)
    with pytest.raises(SettingsError, match="not registered: first"):
        working.new(handlers).check()
    assert working.register(handlers).created == ("first",)
    assert working.register(handlers).unchanged == ("first",)
    working.new(handlers).check()

    changed = Handlers()
    changed.on("a.*", name="first", outcome="failed")(print)
    with pytest.raises(SettingsError, match="with other actions or filters: first"):
        working.new(changed).check()
    assert working.register(changed).changed == ("first",)
    working.new(changed).check()
    with pytest.raises(SettingsError, match="no subscription 'other'"):
        working.pause("other")

    webhook = Subscription("hook", "webhook", ("a.b",))
    run(subscriptions.add(webhook), working.owner)
    taken = Handlers()
    taken.on("a.b", name="hook")(print)
    with pytest.raises(SettingsError, match="is a webhook"):
        working.register(taken)


def test_a_transport_can_retry_and_disable_its_subscription(working):
    got = []

    class Hook:
        concurrency, time_limit = 4, 5.0

        async def deliver(self, event, attempt):
            got.append((event.entity_id, attempt))
            if event.entity_id == "gone":
                return AttemptOutcome.disable("410 Gone")
            return (
                SUCCEEDED
                if event.entity_id != "busy" or attempt > 1
                else AttemptOutcome.failed("429", retry_after=0)
            )

        async def close(self):
            got.append("closed")

    run(subscriptions.add(Subscription("hook", "webhook", ("a.b",))), working.owner)
    working.record("one", "busy", "busy")
    with working.worker(kinds={"webhook": lambda _: Hook()}, backoff=lambda _: 3600.0):
        working.wait_done("hook")
        assert sorted(got) == [("busy", n) for n in (1, 1, 2, 2)] + [("one", 1)]
        working.record("gone")
        wait_for(lambda: working.status("hook").state == "paused")
        assert working.status("hook").reason == "410 Gone"
        wait_for(lambda: working.parked("hook"))
    assert got[-1] == "closed"


def test_a_subscription_from_the_beginning_gets_past_events(working):
    handlers, seen = Handlers(), []
    handlers.on("a.b", name="early")(print)
    working.register(handlers)
    ids = working.record(1, 2)
    assert working.is_read("early") is False

    later = Handlers()
    later.on("a.b", name="later")(lambda event: seen.append(str(event.id)))
    working.register(later, from_beginning=True)
    with working.worker(later):
        working.wait_done("later")
    assert seen == ids


def test_only_the_owner_may_manage_subscriptions(working):
    handlers = Handlers()
    handlers.on("a.b", name="first")(print)
    working.register(handlers)
    statements = (
        "select from usersync.subscriptions",
        "insert into usersync.subscriptions (name, kind, actions) values ('x', 'webhook', '{*}')",
        "update usersync.subscription_shards set position = 0",
        "delete from usersync.parked_events",
        "select from usersync.delivery_attempts",
        "select usersync.finish_events('first', '[]', '[]', '[]', '[]')",
    )
    for role in ("anon", "authenticated", "service_role"):
        with working.project.database.connect(role) as session:
            for statement in statements:
                with pytest.raises(psycopg.errors.InsufficientPrivilege):
                    session.execute(statement)


def test_a_worker_handles_events_through_a_transaction_pooler(working):
    handlers, seen = Handlers(), []
    working.owner.execute("create table public.effects (event_id text)")

    @handlers.on("a.b", transactional=True)
    async def stored(event, connection):
        await connection.execute("insert into public.effects values (%s)", [str(event.id)])

    @handlers.on("a.b")
    def plain(event):
        seen.append(str(event.id))

    working.register(handlers)
    ids = working.record(*range(20))
    with pgbouncer(working.project.database) as dsn, working.worker(handlers, dsn=dsn):
        for name in ("stored", "plain"):
            working.wait_done(name)
    assert seen == ids
    rows = working.owner.execute("select event_id from public.effects order by 1").fetchall()
    assert [event_id for (event_id,) in rows] == sorted(ids)


def test_doctor_reports_dead_events_and_missing_workers(working):
    def found():
        (check,) = run(examine(working.project.settings, choose(["D038"])), working.owner)
        return [(each.subject, each.message) for each in check.findings]

    assert found() == []
    handlers = Handlers()

    @handlers.on("a.b", attempts=1)
    def fails(event):
        raise ValueError

    working.register(handlers)
    assert found() == [("subscription fails", "no worker serves fails: 0 events not read yet")]
    working.record(1)
    working.owner.execute(
        "insert into usersync.subscriptions (name, kind, actions) "
        "select format('other%s', n), 'handler', '{a.b}' from generate_series(1, 6) as n"
    )
    # In one line, however many there are.
    ((subject, message),) = found()
    assert subject == "7 subscriptions"
    assert message.startswith("no worker serves fails, other1, other2, other3, other4 and 2 more: up to ")
    working.owner.execute("delete from usersync.subscriptions where name like 'other%'")
    with working.worker(handlers):
        wait_for(lambda: working.status("fails").dead)
        assert found() == [("subscription fails", "fails: 1 dead event: all attempts failed")]
        working.retry("fails")
    working.pause("fails")
    assert found() in ([], [("subscription fails", "fails: 1 dead event: all attempts failed")])


@pytest.mark.slow
def test_a_rollback_lists_and_removes_subscriptions(working, monkeypatch):
    monkeypatch.setattr("usersync.worker.worker._ABSENT_S", 0.1)
    handlers = Handlers()
    handlers.on("user.*", name="first")(print)
    working.register(handlers)
    working.record(1)
    planned = run(installation.plan_rollback(working.project.settings), working.owner)
    reasons = {each.subject: each.reason for each in planned.changes}
    assert reasons["table usersync.subscriptions"] == (
        "with 1 subscription and their undelivered events: first (1 event not read, 0 parked or dead)"
    )
    with working.worker(handlers) as worker:
        run(installation.rollback(working.project.settings), working.owner)
        # It waits longer now, and its other threads do nothing.
        wait_for(lambda: worker._is_absent)
        with pytest.raises(NotInstalledError):
            working.register(handlers)
        install(working.project.database, working.project.settings)
        wait_for(lambda: not worker._is_absent, "usersync to be found again")
    assert definitions(handlers)[0].name == "first"
