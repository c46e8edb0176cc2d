"""context() and action(): inherited fields, actors, outcomes, threads and tasks."""

from __future__ import annotations

import asyncio
import threading

import pytest


@pytest.fixture
def recorded(log, store):
    """A function that returns the recorded events as stored in the database."""

    def events():
        assert log.flush()
        return store.events()

    return events


def test_fields_of_the_inner_context_take_precedence_and_metadata_is_merged(log, recorded):
    with log.context(actor_id="outer", request_id="r", metadata={"tenant": "t", "a": 1}):
        with log.context(actor_id="inner", metadata={"b": 2}):
            log.record("a.b", metadata={"c": 3})
        log.record("a.b", request_id="own")
    log.record("a.b")
    first, second, third = recorded()
    assert (first["actor_id"], first["request_id"]) == ("inner", "r")
    assert first["metadata"] == {"tenant": "t", "a": 1, "b": 2, "c": 3}
    assert (second["actor_id"], second["request_id"]) == ("outer", "own")
    assert (third["actor_id"], third["request_id"]) == (None, None)


def test_another_actor_inherits_no_actor_fields(log, recorded):
    with log.context(actor_id="cron", actor_type="service"):
        log.record("a.b")
        log.record("a.b", actor_id="ada")
        with log.context(actor_id="ada"):
            log.record("a.b")
    assert [event["actor_type"] for event in recorded()] == ["service", "user", "user"]


def test_a_job_inherits_nothing_from_the_request_that_started_its_worker(log, recorded):
    """The worker of a queue is a task that the first request starts. It keeps the context of this request."""

    async def work(queue):
        while (user := await queue.get()) is not None:
            with log.new_context(actor_id=user, metadata={"queue": "mails"}):
                log.record("mail.sent")
        log.record("worker.ended")

    async def main():
        queue = asyncio.Queue()
        with log.context(actor_id="ada", request_id="r", ip="192.0.2.1", metadata={"tenant": "t"}):
            worker = asyncio.ensure_future(work(queue))
            await asyncio.sleep(0)
        for user in ("bob", "eve", None):
            await queue.put(user)
        await worker

    asyncio.run(main())
    *jobs, ended = recorded()
    assert [(each["actor_id"], each["metadata"]) for each in jobs] == [
        ("bob", {"queue": "mails"}),
        ("eve", {"queue": "mails"}),
    ]
    assert {(each["request_id"], each["ip"]) for each in jobs} == {(None, None)}
    # Outside a job, the task still has the request's context.
    assert (ended["actor_id"], ended["request_id"]) == ("ada", "r")


def test_each_thread_and_each_task_has_its_own_context(log, recorded):
    barrier = threading.Barrier(4)

    def work(name):
        with log.context(actor_id=name):
            barrier.wait()
            log.record("a.b", metadata={"expected": name})

    async def run(name):
        with log.context(actor_id=name):
            await asyncio.sleep(0)
            log.record("a.b", metadata={"expected": name})

    async def main():
        await asyncio.gather(*(run(f"task{n}") for n in range(20)))

    threads = [threading.Thread(target=work, args=(f"thread{n}",)) for n in range(4)]
    for thread in threads:
        thread.start()
    asyncio.run(main())
    for thread in threads:
        thread.join()
    events = recorded()
    assert len(events) == 24
    assert all(event["actor_id"] == event["metadata"]["expected"] for event in events)


def test_an_action_without_an_exception_has_succeeded(log, recorded):
    with log.action("stock.adjust", entity=("product", 42), actor_id="ada", metadata={"tenant": 1}) as event:
        event.change("quantity", 10, 8)
        event.change("quantity", 8, 7)
        event.metadata["why"] = "count"
    (found,) = recorded()
    assert found["id"] == event.id
    assert (found["action"], found["outcome"], found["actor_id"]) == ("stock.adjust", "succeeded", "ada")
    assert found["changes"] == {"quantity": [10, 7]}
    assert found["metadata"] == {"why": "count", "tenant": 1}


class ForbiddenError(Exception):
    pass


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (ValueError("secret"), "failed"),
        (PermissionError("secret"), "denied"),
        (ForbiddenError("secret"), "denied"),
        (KeyboardInterrupt(), "failed"),
    ],
)
def test_an_action_records_the_class_of_an_exception_and_reraises_it(make_log, store, error, outcome):
    log = make_log(store.dsn, denied=(PermissionError, ForbiddenError))
    with pytest.raises(type(error)) as raised, log.action("a.b"):
        raise error
    assert raised.value is error
    assert log.flush()
    event = store.event()
    assert event["outcome"] == outcome
    assert event["metadata"] == {"error": type(error).__name__}


def test_an_action_works_with_async_with_and_fails_if_cancelled(log, recorded):
    async def main():
        async with log.action("first.one"):
            await asyncio.sleep(0)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01), log.action("second.one"):
                await asyncio.sleep(60)

    asyncio.run(main())
    assert [event["outcome"] for event in recorded()] == ["succeeded", "failed"]


def test_an_action_can_set_its_outcome(log, recorded):
    with log.action("a.b") as event:
        event.outcome = "denied"
    assert recorded()[0]["outcome"] == "denied"


def test_values_that_raise_when_read_do_not_affect_the_block(offline):
    with offline.action("a.b", metadata={"value": object()}) as event:
        event.change("field", object(), event)
    assert event.id


def test_amended_fields_apply_to_threads_and_tasks_that_share_the_context(log, recorded):
    learnt = threading.Event()

    async def later():
        await asyncio.to_thread(learnt.wait, 20)
        log.record("a.b", metadata={"from": "task"})

    async def handle():
        with log.context(request_id="r", actor_id="nobody", actor_type="service"):
            task = asyncio.create_task(later())
            # As in a web framework, authentication runs in a thread, in a copy of the context.
            assert await asyncio.to_thread(log.amend_context, actor_id="ada", metadata={"tenant": "t"})
            learnt.set()
            log.record("a.b", metadata={"from": "handler"})
            await task

    asyncio.run(handle())
    found = recorded()
    assert {(each["request_id"], each["actor_id"], each["actor_type"]) for each in found} == {
        ("r", "ada", "user")
    }
    assert sorted((each["metadata"]["from"], each["metadata"]["tenant"]) for each in found) == [
        ("handler", "t"),
        ("task", "t"),
    ]


def test_amended_fields_end_with_the_block(log, recorded):
    with log.context(actor_id="outer"):
        with log.context(request_id="r"):
            log.amend_context(actor_id="inner")
            log.record("a.b")
        log.record("a.b")
    assert not log.amend_context(actor_id="nobody")
    log.record("a.b")
    assert [each["actor_id"] for each in recorded()] == ["inner", "outer", None]


def test_an_actor_function_is_called_when_an_event_is_recorded(log, recorded):
    acting = iter(["ada", {"actor_id": "cron", "actor_type": "service", "shift": 2}, None])
    with log.context(actor_id=lambda: next(acting), request_id="r"):
        with log.context(metadata={"tenant": "t"}):
            log.record("a.b")
            log.record("a.b")
        log.record("a.b", actor_id="given")
        log.record("a.b")
    assert next(acting, "asked for each event that needs it") == "asked for each event that needs it"
    events = recorded()
    assert [(each["actor_id"], each["actor_type"], each["request_id"]) for each in events] == [
        ("ada", "user", "r"),
        ("cron", "service", "r"),
        ("given", "user", "r"),
        (None, "system", "r"),
    ]
    assert events[1]["metadata"] == {"tenant": "t", "unknown": {"shift": 2}}


def test_an_actor_function_that_raises_is_recorded_with_the_error(log, recorded):
    def find():
        log.record("actor.sought")
        raise LookupError("nobody may read this")

    with log.context(actor_id=find, actor_type="user", request_id="r"):
        assert log.record("a.b")
    event, sought = sorted(recorded(), key=lambda each: each["action"])
    assert (sought["action"], sought["actor_id"]) == ("actor.sought", None)
    assert (event["actor_id"], event["request_id"]) == (None, "r")
    assert event["metadata"] == {"actor_unreadable": "LookupError"}
