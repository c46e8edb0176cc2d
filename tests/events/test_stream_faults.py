"""Faults between applications, a stream and its workers: no event is lost, and the table has none twice."""

from __future__ import annotations

import asyncio
import threading
from contextlib import suppress

import pytest
from ingesting import ENVELOPES, record, stored, wait_empty, wait_for_stream, wait_stored
from test_events_health import ask
from working import wait_for

import tiny_disk
from hooks_skips import skip_without
from nats_server import nats_server
from proxy import Proxy
from usersync.audit.delivery import writer
from usersync.audit.delivery.protocol import UnavailableError
from usersync.audit.delivery.sender import Sender
from usersync.transports.jetstream.address import StreamAddress
from usersync.transports.jetstream.connection import connect
from usersync.worker import ingest, ingest_monitor
from usersync.worker.health import HealthServer

pytestmark = [pytest.mark.newest_server, pytest.mark.usefixtures("own_spools", "impatient")]


@pytest.fixture
def impatient(monkeypatch):
    """Notices a cut in seconds. If an answer is slow, the application only publishes again."""
    monkeypatch.setattr("usersync.transports.jetstream.connection._PING_S", 1)
    monkeypatch.setattr("usersync.audit.delivery.stream_sender._ANSWER_S", 1.0)
    monkeypatch.setattr(ingest, "ACK_WAIT_S", 2.0)
    monkeypatch.setattr(ingest, "_HEARTBEAT_S", 0.5)
    monkeypatch.setattr(ingest, "_LONGEST_WAIT_S", 1.0)
    monkeypatch.setattr(ingest_monitor, "READ_S", 0.05)


def figures(server):
    """The metrics of the ingestion."""
    lines = [each.rpartition(" ") for each in ask(server, "/metrics")[1].splitlines()]
    return {
        name.removeprefix("usersync_ingest_"): float(value)
        for name, _, value in lines
        if "_ingest_" in name and not name.startswith("#")
    }


@pytest.mark.slow
def test_metrics_and_probes_know_the_backlog(working, nats, opened, tmp_path, monkeypatch):
    monkeypatch.setattr(ingest, "_FIRST_WAIT_S", 0.01)
    send, is_down = Sender.send, threading.Event()

    def fail(sender, payloads, **options):
        if payloads and is_down.is_set():
            raise UnavailableError("the database is away")
        return send(sender, payloads, **options)

    monkeypatch.setattr(Sender, "send", fail)
    log = opened(nats.url)
    with (
        Proxy("127.0.0.1", nats.port) as proxy,
        working.worker(ingest=f"nats://127.0.0.1:{proxy.port}") as worker,
        HealthServer(worker, working.dsn, ("127.0.0.1", 0), spool_dir=tmp_path, max_age=0) as server,
    ):
        wait_for(lambda: ask(server, "/readyz") == (200, "ok\n"), "the worker to be ready")
        empty = {"up": 1, 'messages{state="pending"}': 0, 'messages{state="unacknowledged"}': 0}
        empty["oldest_age_seconds"] = 0
        wait_for(lambda: figures(server).items() >= empty.items(), "an empty stream")

        # The database is down, and the stream is known.
        is_down.set()
        record(log, range(3))
        assert log.flush(90)
        found = wait_for(lambda: (now := figures(server)).get("redelivered_messages") and now, "the backlog")
        assert found['messages{state="pending"}'] + found['messages{state="unacknowledged"}'] >= 1
        assert found["oldest_age_seconds"] > 0
        assert found["consecutive_failures"] > 0
        is_down.clear()
        wait_stored(working, range(3))
        wait_for(lambda: figures(server).items() >= empty.items(), "no backlog")
        found = figures(server)
        assert (found['events_total{result="stored"}'], found["consecutive_failures"]) == (3, 0)

        # The stream cannot be reached: no figure of it is stale, and probes say why.
        proxy.silent.set()
        found = wait_for(lambda: (now := figures(server))["up"] == 0 and now, "the outage")
        assert not [each for each in found if "messages" in each or "oldest" in each]
        status, why = ask(server, "/readyz")
        assert (status, why.startswith("the events of the stream are not stored: StreamError")) == (
            503,
            True,
        ), why
        assert ask(server, "/livez") == (200, "ok\n")
        proxy.silent.clear()
        wait_for(lambda: ask(server, "/readyz") == (200, "ok\n"), "the worker to be ready again")
        record(log, range(3, 6))
        wait_stored(working, range(6))


@pytest.mark.slow
def test_a_cut_is_noticed_without_traffic(nats):
    async def notice(proxy):
        address = StreamAddress.parse(f"nats://127.0.0.1:{proxy.port}")
        connection = await connect(address, "test")
        proxy.silent.set()
        async with asyncio.timeout(60):
            # Then it connects to another server.
            while connection._client.is_connected:  # noqa: ASYNC110 - there is no event to wait for
                await asyncio.sleep(0.01)
        await connection.close()

    with Proxy("127.0.0.1", nats.port) as proxy:
        asyncio.run(notice(proxy))


@pytest.mark.slow
def test_a_cut_between_an_application_and_the_stream(working, nats, opened):
    with (
        Proxy("127.0.0.1", nats.port) as proxy,
        working.worker(ingest=nats.url) as worker,
    ):
        wait_for_stream(nats)
        # An envelope that is published again after this time is another message.
        config = nats.ask(f"STREAM.INFO.{ENVELOPES}")["config"]
        nats.ask(f"STREAM.UPDATE.{ENVELOPES}", {**config, "duplicate_window": 100_000_000})
        log = opened(f"nats://127.0.0.1:{proxy.port}")
        record(log, range(5))
        wait_stored(working, range(5))

        # No byte passes, and no connection is closed.
        proxy.silent.set()
        record(log, range(5, 10))
        wait_for(lambda: log.stats().last_error, "the failed attempt")
        assert log.stats().waiting == 5
        proxy.silent.clear()
        assert log.flush(60)
        wait_stored(working, range(10))

        # The stream has the events, and their acknowledgement is lost until the duplicate window has passed.
        proxy.drops_answers.set()
        record(log, range(10, 15))
        wait_stored(working, range(15))
        assert log.stats().waiting == 5
        wait_for(lambda: log.stats().last_error, "the lost acknowledgement")
        proxy.drops_answers.clear()
        assert log.flush(60)
        wait_for(lambda: worker.ingest_monitor.counters.duplicates, "the same events in another message")

        # Connections are closed.
        proxy.cut()
        record(log, range(15, 20))
        wait_for(lambda: log.stats().last_error, "the failed attempt")
        proxy.restore()
        assert log.flush(60)
        wait_stored(working, range(20))
        wait_empty(nats)
    assert not log.stats().quarantined


@pytest.mark.slow
@pytest.mark.parametrize("fault", ["silent", "cut"])
def test_a_cut_between_a_worker_and_the_stream(working, nats, opened, monkeypatch, fault):
    send, arrived, proceed = Sender.send, threading.Event(), threading.Event()

    def store(sender, payloads, **options):
        receipt = send(sender, payloads, **options)
        if payloads and not arrived.is_set():
            # Stored, and not acknowledged yet.
            arrived.set()
            assert proceed.wait(60)
        return receipt

    monkeypatch.setattr(Sender, "send", store)
    log = opened(nats.url)
    with (
        Proxy("127.0.0.1", nats.port) as proxy,
        working.worker(ingest=f"nats://127.0.0.1:{proxy.port}") as worker,
    ):
        record(log, range(5))
        assert arrived.wait(30)
        # Its first reading may have been before the stream existed.
        wait_for(lambda: worker.ingest_monitor.problem() is None, "the backlog to be known")
        proxy.cut() if fault == "cut" else proxy.silent.set()
        record(log, range(5, 10))
        assert log.flush(60)
        proceed.set()
        why = wait_for(worker.ingest_monitor.problem, "the failed attempt")
        assert why.startswith("the events of the stream are not stored: StreamError")
        assert nats.ask(f"STREAM.INFO.{ENVELOPES}")["state"]["messages"]
        proxy.restore() if fault == "cut" else proxy.silent.clear()
        wait_stored(working, range(10))
        wait_empty(nats)
        wait_stored(working, range(10))
        # JetStream redelivered what was not acknowledged.
        assert worker.ingest_monitor.counters.duplicates


def fill(path):
    """Write to a file until its disk is full."""
    with path.open("wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(bytes(4096))


@pytest.mark.slow
def test_a_full_disk_of_a_node(working, opened, tmp_path):
    if reason := tiny_disk.why_not():
        skip_without("a mount namespace", reason)
    place = tmp_path / "nats" / "js"
    place.mkdir(parents=True)
    with (
        tiny_disk.held_disk(place, "4m") as (prefix, disk),
        nats_server(tmp_path / "nats", prefix=prefix) as server,
        working.worker(ingest=server.url),
    ):
        wait_for_stream(server)
        log = opened(server.url)
        record(log, range(5))
        wait_stored(working, range(5))
        fill(disk / "other files")
        # More than what remains of the last page.
        record(log, range(5, 105))
        wait_for(lambda: "no space left on device" in (server.directory / "log").read_text(), "the full disk")
        assert log.stats().waiting
        (disk / "other files").unlink()
        # JetStream does not continue by itself.
        server.stop()
        server.start()
        assert log.flush(60)
        wait_stored(working, range(105))
    assert not log.stats().quarantined


@pytest.mark.slow
def test_a_stream_that_is_deleted_while_events_come(working, nats, opened, monkeypatch):
    # Looks at the stream at every batch, and sends again at once.
    monkeypatch.setattr("usersync.audit.delivery.stream_sender._LOOK_MS", 0)
    monkeypatch.setattr(writer, "_PROBE_MS", 0)
    monkeypatch.setattr(writer, "_IDLE_S", 0.05)
    log = opened(nats.url)
    with working.worker(ingest=nats.url):
        for number in range(400):
            record(log, [number])
            if number % 100 == 50:
                wait_for(lambda known=number: len(stored(working)) > known - 50, "some of the events")
                nats.delete_streams()
        assert log.flush(60)
        wait_stored(working, range(400))
    assert not log.stats().quarantined
