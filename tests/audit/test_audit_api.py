"""AuditLog over the Data API: events wait during outages, and each is stored once."""

from __future__ import annotations

import json

import pytest
from killing import kill_recorders

from postgrest_server import SECRET_KEY, SERVICE_KEY
from proxy import Proxy
from usersync import DataApi

pytestmark = pytest.mark.newest_server


@pytest.fixture
def gateway(serve, store):
    return serve(store.database)


@pytest.fixture
def api_log(gateway, make_log):
    return make_log(DataApi(gateway.url, SECRET_KEY), send_timeout=5)


def record_during_an_outage(log, eventually, count=50):
    """Record events while none can be stored. Returns their ids."""
    ids = [log.record("a.b", metadata={"n": n}) for n in range(count)]
    eventually(lambda: log.stats().consecutive_failures)
    assert log.stats().waiting == count
    assert not log.flush(0.1)
    return ids


def assert_stored_once(log, store, ids):
    assert log.flush(30)
    assert sorted(store.ids()) == sorted(ids)
    stats = log.stats()
    assert (stats.waiting, stats.last_error, stats.dropped, stats.rejected, stats.quarantined) == (
        0,
        None,
        0,
        0,
        0,
    )


@pytest.mark.parametrize("key", [SECRET_KEY, SERVICE_KEY], ids=["secret", "service-role"])
def test_events_are_stored_with_a_secret_key_and_with_a_service_role_key(gateway, store, make_log, key):
    log = make_log(DataApi(gateway.url, key))
    ids = [log.record("a.b", entity=("product", n), changes={"name": ("é\n\x00", "'")}) for n in range(700)]
    assert_stored_once(log, store, ids)
    assert {path for path, _ in gateway.seen} == {"/rest/v1/rpc/record_audit_events"}


def test_events_wait_while_the_api_is_down(gateway, store, api_log, eventually):
    gateway.upstream.kill()
    ids = record_during_an_outage(api_log, eventually)
    assert "503 Service Unavailable" in api_log.stats().last_error
    gateway.upstream.start()
    assert_stored_once(api_log, store, ids)


def test_events_wait_while_the_key_is_refused(gateway, store, api_log, eventually):
    gateway.keys = ()
    ids = record_during_an_outage(api_log, eventually)
    assert "refuses the key: Invalid API key" in api_log.stats().last_error
    gateway.keys = (SECRET_KEY,)
    assert_stored_once(api_log, store, ids)


def test_events_wait_while_usersync_is_not_installed(store, serve, make_log, eventually):
    store.owner.execute("alter function public.record_audit_events(jsonb) rename to gone")
    log = make_log(DataApi(serve(store.database).url, SECRET_KEY))
    ids = record_during_an_outage(log, eventually)
    assert "usersync is not installed" in log.stats().last_error
    store.owner.execute("alter function public.gone(jsonb) rename to record_audit_events")
    store.owner.execute("notify pgrst, 'reload schema'")
    assert_stored_once(log, store, ids)


@pytest.mark.slow
def test_events_wait_while_the_api_does_not_answer(gateway, store, make_log, eventually):
    host, port = gateway.url.removeprefix("http://").split(":")
    with Proxy(host, int(port)) as proxy:
        log = make_log(DataApi(f"http://{host}:{proxy.port}", SECRET_KEY), send_timeout=0.5)
        first = log.record("a.b")
        assert log.flush()
        proxy.silent.set()
        ids = record_during_an_outage(log, eventually)
        proxy.silent.clear()
        assert_stored_once(log, store, [first, *ids])


def test_a_lost_answer_of_the_api_stores_no_event_twice(gateway, store, api_log, eventually):
    # Three answers arrive: the position, the event and the upkeep. The answer to the next event is lost.
    ids = [api_log.record("a.b")]
    eventually(lambda: len(gateway.seen) == 3)
    ids.append(api_log.record("a.b"))
    assert api_log.flush()
    gateway.answers_to_drop = 1
    ids += [api_log.record("a.b") for _ in range(30)]
    assert_stored_once(api_log, store, ids)
    assert api_log.stats().duplicates > 0


@pytest.mark.slow
def test_events_of_a_killed_process_are_stored_once_over_the_api(
    gateway, store, spool_dir, api_log, monkeypatch
):
    monkeypatch.setenv("SUPABASE_SECRET_KEY", SECRET_KEY)
    ids = [each for killed in kill_recorders(gateway.url, spool_dir, kills=6) for each in killed]
    assert api_log.drain(60)
    stored = store.ids()
    assert len(stored) == len(set(stored))
    assert set(ids) <= set(stored)
    assert api_log.stats().waiting == 0


def receipt(**changed):
    return json.dumps({"stored": 0, "duplicates": 0, "rejected": 0, **changed}).encode()


@pytest.mark.parametrize(
    "wrong_answer",
    [
        b"{}",
        receipt(),
        receipt(stored=51, rejected=-1),
        receipt(rejected=50, rejects=["no"]),
        b'{"code": "XX000", "message": "with a 200"}',
    ],
)
def test_events_wait_while_another_server_answers(gateway, store, make_log, eventually, wrong_answer):
    """An answer whose counts do not match the batch deletes no event."""
    answer = gateway.answer
    gateway.answer = lambda *_: (503, {}, b"")
    log = make_log(DataApi(gateway.url, SECRET_KEY), send_timeout=5)
    ids = record_during_an_outage(log, eventually)
    gateway.answer = lambda *_: (200, {"Content-Type": "application/json"}, wrong_answer)
    assert not log.flush(0.2)
    eventually(lambda: "the answer is not from usersync" in (log.stats().last_error or ""))
    assert log.stats().waiting == len(ids)
    gateway.answer = answer
    assert_stored_once(log, store, ids)


def test_an_event_that_always_fails_is_quarantined_and_the_others_are_stored(gateway, store, api_log):
    store.owner.execute(
        "create function public.no() returns trigger language plpgsql as $$ begin "
        "if new.action = 'bad.one' then raise exception 'not that one'; end if; return new; end $$; "
        "create trigger no before insert on public.audit_logs for each row execute function public.no()"
    )
    ids = [api_log.record("bad.one" if n == 7 else "a.b") for n in range(20)]
    assert api_log.flush(20)
    assert sorted(store.ids()) == sorted(ids[:7] + ids[8:])


@pytest.mark.slow
def test_a_batch_that_is_too_large_is_sent_in_halves(gateway, store, api_log):
    answer, sizes = gateway.answer, []

    def limited(method, path, headers, body):
        sizes.append(len(body))
        if len(body) > 20_000:
            return 413, {"Content-Type": "text/html"}, b"<html>413 Request Entity Too Large</html>"
        return answer(method, path, headers, body)

    gateway.answer = limited
    ids = [api_log.record("a.b", metadata={"text": "x" * 500}) for _ in range(200)]
    assert_stored_once(api_log, store, ids)
    assert max(sizes) > 20_000
