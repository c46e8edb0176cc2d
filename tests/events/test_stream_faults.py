"""Faults between applications, a stream and its workers: no event is lost, and the table has none twice."""

from __future__ import annotations

import threading

import pytest
from ingesting import record, wait_stored
from test_events_health import ask
from working import wait_for

from proxy import Proxy
from usersync.audit.delivery.protocol import UnavailableError
from usersync.audit.delivery.sender import Sender
from usersync.worker import ingest, ingest_monitor
from usersync.worker.health import HealthServer

pytestmark = [pytest.mark.newest_server, pytest.mark.usefixtures("own_spools", "impatient")]


@pytest.fixture
def impatient(monkeypatch):
    """Notices a cut in seconds. A slow answer only means another attempt."""
    monkeypatch.setattr("usersync.transports.jetstream.connection._PING_S", 1)
    monkeypatch.setattr("usersync.transports.jetstream.connection.ANSWER_S", 1.0)
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
        assert figures(server).items() >= empty.items()
        assert figures(server)["oldest_age_seconds"] == 0

        # The database is down, and the stream is known.
        is_down.set()
        record(log, range(3))
        assert log.flush(30)
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
