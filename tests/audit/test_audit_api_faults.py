"""Errors of the Data API: invalid events, temporary errors of a gateway, rate limits, event loops."""

from __future__ import annotations

import asyncio
import gc
import json
import time
from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from postgrest_server import SECRET_KEY
from usersync import AsyncUserSync, DataApi
from usersync.audit.delivery.api_sender import ApiSender
from usersync.audit.delivery.protocol import RefusedError, UnavailableError
from usersync.transports.data_api.answers import NoReply, Refusal, Reply, read_answer, refusal_of
from usersync.transports.data_api.exchange import Request, ask

pytestmark = pytest.mark.newest_server

JSON = {"Content-Type": "application/json"}
CUT = (400, JSON, b'{"code":"PGRST102","message":"Empty or invalid json"}')


@pytest.fixture
def gateway(serve, store):
    return serve(store.database)


@pytest.fixture
def api(gateway):
    return DataApi(gateway.url, SECRET_KEY)


@pytest.mark.slow
def test_an_event_that_always_fails_does_not_block_others(store, make_log, api):
    """The event always fails, also when it is sent alone, with an error that is usually temporary."""
    store.owner.execute(
        "create function public.no() returns trigger language plpgsql as $$ begin "
        "if new.action = 'bad.one' then raise insufficient_privilege; end if; return new; end $$; "
        "create trigger no before insert on public.audit_logs for each row execute function public.no()"
    )
    log = make_log(api)
    ids = [log.record("a.b") for _ in range(10)]
    log.record("bad.one")
    ids += [log.record("a.b") for _ in range(10)]
    assert not log.flush(60)
    assert sorted(store.ids()) == sorted(ids)
    assert (log.stats().quarantined, log.stats().waiting) == (1, 0)
    # Probe events are not stored.
    assert "usersync.probed" not in {event["action"] for event in store.events()}


@pytest.fixture(params=["spool", "memory"])
def log(request, make_log, api):
    return make_log(api, durability=request.param)


@pytest.mark.slow
@pytest.mark.parametrize("wrong", [CUT, (413, {}, b"too large")], ids=["cut", "too large"])
def test_a_temporary_error_of_a_gateway_quarantines_no_event(gateway, store, log, wrong):
    first = log.record("a.b")
    assert log.flush()
    answer, until = gateway.answer, time.monotonic() + 3
    gateway.answer = lambda *call: wrong if time.monotonic() < until else answer(*call)
    ids = [first, *(log.record("a.b") for _ in range(200))]
    assert log.flush(60)
    assert log.stats().quarantined == 0
    assert sorted(store.ids()) == sorted(ids)


def test_no_probe_event_is_stored_if_a_gateway_drops_our_headers(gateway, store, make_log, api):
    """Without these headers, the database would store the probe event."""
    answer = gateway.answer
    gateway.answer = lambda method, path, headers, body: answer(
        method, path, {name: value for name, value in headers.items() if "usersync" not in name}, body
    )
    sender = ApiSender(api, 5.0)
    assert not sender.takes_events()
    sender.close()
    assert store.ids() == []


@pytest.mark.slow
def test_a_too_large_event_is_quarantined_and_the_others_are_stored(gateway, store, make_log, api):
    log = make_log(api)
    answer = gateway.answer
    gateway.answer = lambda method, path, headers, body: (
        (413, {}, b"") if len(body) > 20_000 else answer(method, path, headers, body)
    )
    ids = [log.record("a.b") for _ in range(5)]
    log.record("large", metadata={str(n): "x" * 900 for n in range(40)})
    ids += [log.record("a.b") for _ in range(5)]
    assert not log.flush(90)
    assert sorted(store.ids()) == sorted(ids)
    assert log.stats().quarantined == 1


@pytest.mark.slow
def test_the_sender_waits_for_retry_after(gateway, store, make_log, api, eventually):
    log = make_log(api)
    answer, asked = gateway.answer, []

    def limit_first(*call):
        asked.append(time.monotonic())
        if len(asked) > 1:
            return answer(*call)
        return 429, {"Retry-After": "2", **JSON}, b'{"message":"slow down"}'

    gateway.answer = limit_first
    log.record("a.b")
    eventually(lambda: asked)
    # flush() does not shorten the wait.
    eventually(lambda: log.flush(0.2))
    assert len(store.ids()) == 1
    assert asked[1] - asked[0] >= 2


@pytest.mark.parametrize("said", ["0", "Wed, 21 Oct 2015 07:28:00 GMT", "-5"])
def test_attempts_are_separated_by_a_pause_with_any_retry_after(api, said):
    exchange = ask(api, "POST", "/rest/v1/rpc/x", b"{}", read=read_answer)
    assert isinstance(next(exchange), Request)
    pause = exchange.send(Reply(503, {"retry-after": said}, b""))
    assert pause.seconds >= 0.1


def test_a_function_that_raises_pt429_raises_a_rate_limit_error(api):
    reply = Reply(
        429, {"retry-after": "3"}, b'{"code":"PT429","message":"Too many","details":null,"hint":null}'
    )
    refusal = refusal_of(reply, api.host)
    assert (refusal.again, refusal.wait, refusal.status) == (True, 3.0, 429)
    assert "Too many" in str(refusal)


def test_the_sender_waits_if_a_pre_request_function_raises_pt429(serve, store, make_log, eventually):
    """This is how Supabase projects limit the rate of calls per role."""
    store.owner.execute("""
        create table public.limits ();
        create function public.limit_requests() returns void language plpgsql security definer as $$ begin
            if exists (select from public.limits) then
                raise sqlstate 'PT429' using message = 'Too many requests';
            end if;
        end $$
    """)
    gateway = serve(store.database, PGRST_DB_PRE_REQUEST="public.limit_requests")
    store.owner.execute("insert into public.limits default values")
    log = make_log(DataApi(gateway.url, SECRET_KEY))
    ids = [log.record("a.b") for _ in range(20)]
    eventually(lambda: log.stats().consecutive_failures > 1)
    assert "HTTP 429: Too many requests" in log.stats().last_error
    store.owner.execute("delete from public.limits")
    assert log.flush(60)
    assert sorted(store.ids()) == sorted(ids)
    assert log.stats().quarantined == 0


def test_the_timeout_error_names_the_total_time(api, monkeypatch):
    monkeypatch.setattr(
        "usersync.transports.data_api.exchange.time.monotonic", iter([0.0, *[29.9] * 20]).__next__
    )
    exchange = ask(api, "POST", "/rest/v1/rpc/x", b"{}", read=read_answer)
    next(exchange)
    with pytest.raises(Refusal, match=r"in time \(29.9 s\)"):
        exchange.send(NoReply("it did not answer in time", slow=True))


# The first event loop is closed, so its connections can no longer be closed.
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_client_can_be_used_in_a_second_event_loop(api):
    client = AsyncUserSync(api)
    for _ in range(2):
        assert asyncio.run(client.user_exists("00000000-0000-0000-0000-000000000001")) is False
    asyncio.run(client.close())
    gc.collect()


@settings(max_examples=150)
@given(
    status=st.sampled_from([200, 204, 301, 400, 401, 404, 407, 408, 413, 429, 500, 503, 540]),
    body=st.one_of(
        st.binary(max_size=300),
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
            lambda inner: (
                st.lists(inner, max_size=3)
                | st.dictionaries(
                    st.sampled_from(
                        ["code", "message", "hint", "stored", "duplicates", "rejected", "rejects", "position"]
                    ),
                    inner,
                    max_size=6,
                )
            ),
        ).map(lambda value: json.dumps(value).encode()),
    ),
    headers=st.dictionaries(
        st.sampled_from(["retry-after", "location", "content-type"]), st.text(max_size=30), max_size=3
    ),
)
def test_any_answer_gives_a_receipt_or_a_usersync_error(nowhere, status, body, headers):
    sender = ApiSender(nowhere, 1.0)
    sender._exchange = lambda _: Reply(status, headers, body)
    with suppress(UnavailableError, RefusedError):
        receipt = sender.send([b'{"action": "a.b"}'])
        assert receipt.stored + receipt.duplicates + receipt.rejected == 1
    assert sender.takes_events() in {True, False}


@pytest.fixture
def nowhere():
    return DataApi("http://127.0.0.1:1", SECRET_KEY)
