"""Applications send events to a NATS stream, and a worker stores them in the database."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from contextlib import ExitStack, closing
from pathlib import Path
from uuid import uuid4

import pytest
from ingesting import ENVELOPES, record, stored, wait_empty, wait_for_stream, wait_stored
from working import wait_for

from nats_server import ids_of
from usersync import AuditLog
from usersync.audit.delivery import writer
from usersync.audit.delivery.protocol import UnavailableError
from usersync.audit.delivery.sender import Sender
from usersync.audit.spool.file import Spool
from usersync.audit.spool.listing import survey_spools
from usersync.config.extras import EXTRAS, Requirement
from usersync.errors import MissingExtraError, SettingsError
from usersync.transports.jetstream.stream import INGEST_CONSUMER, INSTALLATION, POSITION
from usersync.worker import garbage, ingest

pytestmark = [pytest.mark.newest_server, pytest.mark.usefixtures("own_spools")]


def envelopes(nats):
    return nats.messages(ENVELOPES)


def test_events_reach_the_table_through_a_stream(working, nats, opened, caplog):
    earlier = opened(nats.url)
    record(earlier, range(5))
    # No worker has created the stream yet. The events stay in the spool, and the log says why.
    wait_for(lambda: earlier.stats().last_error, "the first attempt")
    assert "no stream has the subject usersync-in.events" in earlier.stats().last_error
    assert "'usersync worker --ingest' creates the stream" in earlier.stats().last_error
    # The process ends. The next process on this machine sends the events in its spool.
    earlier.close(0)
    log = opened(nats.url)
    assert repr(log) == f"<AuditLog: {nats.url}>"
    record(log, range(5, 10))
    with working.worker(ingest=nats.url):
        assert log.drain(90)
        wait_stored(working, range(10))
        record(log, range(10, 1200))
        assert log.flush(90)
        wait_stored(working, range(1200))
        assert log.stats().stored == 1200
        # Acknowledged messages are deleted, and the metadata has the installation.
        info = wait_for(
            lambda: (found := nats.ask(f"STREAM.INFO.{ENVELOPES}"))["state"]["messages"] == 0 and found,
            "acknowledgements",
        )
        wait_stored(working, range(1200))
    assert 3 <= info["state"]["last_seq"] <= 40
    (installation,) = working.owner.execute("select installation::text from usersync.settings").fetchone()
    config = info["config"]
    assert config["metadata"][INSTALLATION] == installation
    assert (config["storage"], config["discard"], config["retention"]) == ("file", "new", "workqueue")
    consumer = nats.ask(f"CONSUMER.INFO.{ENVELOPES}.{INGEST_CONSUMER}")["config"]
    assert (consumer["ack_policy"], consumer["max_deliver"]) == ("explicit", -1)
    assert "the stream usersync-in can lose events. It keeps one copy" in caplog.text
    with pytest.raises(SettingsError, match="a stream, which does not support reading"):
        log.search()


def test_a_batch_keeps_its_id_and_its_events_until_it_is_acknowledged(working, nats, opened, tmp_path):
    with working.worker(ingest=nats.url):
        wait_for_stream(nats)
    path = tmp_path / "one.spool"
    with closing(Spool(path, 1 << 20)) as spool:
        for number in range(4):
            spool.append(0, json.dumps({"n": number}).encode())
        batch = spool.read(3, 1 << 20)
        name = spool.name_batch(batch[-1].number)
        assert spool.name_batch(batch[-1].number) == name
    # Another process takes over the file: it sends the same events with the same id, without later events.
    with closing(Spool(path, 1 << 20)) as spool:
        spool.append(0, b"{}")
        assert [each.number for each in spool.read(500, 1 << 20)] == [1, 2, 3]
        assert spool.name_batch(3) == name
        # A batch of only some of these events has another id.
        assert spool.name_batch(1) != name
        spool.discard(1)
        assert [each.number for each in spool.read(500, 1 << 20)] == [2, 3, 4, 5]


@pytest.mark.slow
def test_a_lost_acknowledgement_does_not_store_an_envelope_twice(working, nats, opened, monkeypatch):
    with working.worker(ingest=nats.url):
        wait_for_stream(nats)
    discard = Spool.discard
    failing = [OSError("the process lost the answer")] * 2

    def fail(spool, through, size=0):
        if failing:
            raise failing.pop()
        discard(spool, through, size)

    monkeypatch.setattr(Spool, "discard", fail)
    monkeypatch.setattr("usersync.audit.spool.intake._RETRY_S", 0.0)
    log = opened(nats.url)
    record(log, range(20))
    assert log.flush(90)
    assert not failing
    found = envelopes(nats)
    assert len(set(ids_of(found))) == len(found)
    sent = [json.loads(line)["metadata"]["n"] for _, _, body in found for line in body.splitlines()]
    assert sorted(sent) == list(range(20))

    async def repeat(connection):
        for number, (subject, _, body) in enumerate(found):
            await connection.publish(subject, body, f"another id {number}", headers={}, limit=5)

    # After the duplicate window, an envelope that is sent again is another message.
    nats.run(repeat)
    with working.worker(ingest=nats.url):
        wait_stored(working, range(20))
        wait_empty(nats)
        wait_stored(working, range(20))


def test_what_is_not_an_event_is_quarantined_within_limits_and_blocks_no_event(
    working, nats, opened, tmp_path, monkeypatch
):
    poison = [
        b"garbage",
        b'{"action": "a.b"}, {"action": "a.b"}',
        b"\xff\xfe",
        b'{"action": "cut\x00',
        b"[1]",
        b"[" * 100_000,
        b"",
        b"\n\n",
        b'{"action": "a.b", "id": "no uuid"}',
        # More than a worker keeps in an hour.
        b"\n".join(b"%d " % number * 5_000 for number in range(20)),
    ]

    async def publish(connection):
        for number, body in enumerate(poison):
            await connection.publish(f"{ENVELOPES}.events", body, f"poison {number}", headers={}, limit=5)

    monkeypatch.setattr(garbage, "KEPT_PER_HOUR", 8)
    with working.worker(ingest=nats.url) as worker:
        wait_for_stream(nats)
        nats.run(publish)
        log = opened(nats.url)
        record(log, range(3))
        assert log.flush(90)
        wait_stored(working, range(3))
        wait_empty(nats)
    (spool,) = survey_spools(tmp_path / "worker")
    quarantined = [each for file in spool.files for each in file.quarantined]
    (reason,) = working.owner.execute("select reason from usersync.audit_rejects").fetchone()
    counters = worker.ingest_monitor.counters
    # Empty lines are skipped. The database rejects and keeps an event that is not valid.
    assert (counters.quarantined, counters.dropped, counters.rejected) == (8, 18, 1)
    assert len(quarantined) == 8
    assert "id" in reason
    # The others of this list are shorter.
    assert [each.event for each in quarantined if "4096" in str(each.event)] == 3 * [
        {"unreadable": "4096 bytes"}
    ]


def test_messages_with_invalid_headers_do_not_block_others(working, nats):
    # Headers that the server itself writes, and headers that nats-py cannot read.
    headers = [
        b"NATS/1.0\r\nStatus: 503\r\n\r\n",
        b"NATS/1.0\r\nStatus: 404\r\n\r\n",
        b"NATS/1.0 503 No\r\n\r\n",
        b"\r\n\r\n",
        b"NATS/1.0 \xff\xff\r\n\r\n",
    ]
    with working.worker(ingest=nats.url):
        wait_for_stream(nats)
        with socket.create_connection(("127.0.0.1", nats.port)) as publisher:
            publisher.sendall(b'CONNECT {"headers": true, "verbose": false}\r\n')
            for number, header in enumerate(headers):
                content = header + json.dumps({"action": "order.paid", "metadata": {"n": number}}).encode()
                size = f"HPUB {ENVELOPES}.events {len(header)} {len(content)}\r\n"
                publisher.sendall(size.encode() + content + b"\r\n")
            wait_stored(working, range(len(headers)))


def test_a_process_that_ends_right_after_recording_sends_its_events(nats, tmp_path):
    config = {"name": ENVELOPES, "subjects": [f"{ENVELOPES}.>"], "metadata": {INSTALLATION: str(uuid4())}}
    nats.ask(f"STREAM.CREATE.{ENVELOPES}", config)
    # Uses a host name: asyncio would resolve it in a thread, and Python starts no thread at exit.
    url = f"nats://localhost:{nats.port}"
    script = (
        "import sys, usersync\n"
        "from usersync.audit.delivery import lifecycle\n"
        "lifecycle._DEADLINE_S = 90.0\n"
        "usersync.AuditLog(sys.argv[1], spool_dir=sys.argv[2], exit_timeout=90).record('a.b')"
    )
    subprocess.run([sys.executable, "-c", script, url, tmp_path], check=True)
    assert len(envelopes(nats)) == 1


@pytest.fixture
def log_that_always_checks(nats, opened, monkeypatch):
    """An audit log that checks its stream without a pause between checks."""
    monkeypatch.setattr("usersync.audit.delivery.stream_sender._LOOK_MS", 0)
    monkeypatch.setattr(writer, "_PROBE_MS", 0)
    monkeypatch.setattr(writer, "_IDLE_S", 0.05)
    return opened(nats.url)


@pytest.mark.slow
def test_a_deleted_stream_is_created_again_and_gets_the_lost_events(working, nats, log_that_always_checks):
    log = log_that_always_checks
    with working.worker(ingest=nats.url):
        record(log, range(5))
        assert log.flush(90)
        wait_stored(working, range(5))
    # No worker stores these events before the stream is deleted.
    record(log, range(5, 50))
    assert log.flush(90)
    nats.delete_streams()
    record(log, range(50, 60))
    with working.worker(ingest=nats.url):
        assert log.flush(90)
        wait_stored(working, range(60))
        # The worker also notices that the stream was deleted.
        nats.delete_streams()
        record(log, range(60, 70))
        assert log.flush(90)
        wait_stored(working, range(70))


@pytest.mark.slow
def test_applications_send_events_again_after_a_failover_of_the_database(
    working, nats, log_that_always_checks
):
    log = log_that_always_checks
    with working.worker(ingest=nats.url):
        record(log, range(5))
        assert log.flush(90)
        wait_stored(working, range(5))
    # After the promotion of a lagging standby, rows are missing and the WAL position differs.
    with working.project.database.connect("supabase_admin") as admin:
        admin.execute("set session_replication_role = replica")
        admin.execute("delete from public.audit_logs where action = 'order.paid'")
    config = nats.ask(f"STREAM.INFO.{ENVELOPES}")["config"]
    config["metadata"][POSITION] = " ".join([*config["metadata"][POSITION].split()[:2], "000000FF"])
    nats.ask(f"STREAM.UPDATE.{ENVELOPES}", config)
    wait_for(lambda: log.stats().sent_again >= 5, "the events to be sent again")
    with working.worker(ingest=nats.url):
        wait_stored(working, range(5))


@pytest.mark.slow
def test_killed_workers_neither_lose_nor_duplicate_events(working, nats, opened):
    log = opened(nats.url)
    environment = {**os.environ, "SUPABASE_DB_URL": working.dsn, "USERSYNC_INGEST": nats.url}
    command = [sys.executable, "-m", "usersync", "worker"]
    with working.worker(ingest=nats.url):
        wait_for_stream(nats)
    # Shorter than a worker's heartbeat, so that the stream also delivers messages twice.
    consumer = {
        "name": INGEST_CONSUMER,
        "durable_name": INGEST_CONSUMER,
        "ack_policy": "explicit",
        "ack_wait": 10**9,
    }
    nats.ask(f"CONSUMER.DELETE.{ENVELOPES}.{INGEST_CONSUMER}")
    nats.ask(f"CONSUMER.CREATE.{ENVELOPES}.{INGEST_CONSUMER}", {"stream_name": ENVELOPES, "config": consumer})
    with ExitStack() as stack:
        killed = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)
        stack.callback(killed.wait)
        stack.callback(killed.kill)
        record(log, range(2000))
        wait_for(lambda: len(stored(working)) > 100, "some of them")
        killed.kill()
        stack.enter_context(working.worker(ingest=nats.url))
        stack.enter_context(working.worker(ingest=nats.url))
        record(log, range(2000, 4000))
        assert log.flush(90)
        wait_stored(working, range(4000))


@pytest.mark.slow
def test_a_full_stream_keeps_the_events_in_the_spool(working, nats, opened):
    with working.worker(ingest=nats.url):
        wait_for_stream(nats)
    config = nats.ask(f"STREAM.INFO.{ENVELOPES}")["config"]
    nats.ask(f"STREAM.UPDATE.{ENVELOPES}", {**config, "max_bytes": 20_000, "max_msg_size": 10_000})
    log = opened(nats.url)
    record(log, range(300))
    # A batch larger than the maximum message size is split.
    wait_for(lambda: log.stats().stored, "the first envelope")
    wait_for(lambda: log.stats().last_error, "the refusal")
    assert "maximum bytes exceeded" in log.stats().last_error
    with working.worker(ingest=nats.url):
        assert log.flush(90)
        wait_stored(working, range(300))
    assert not log.stats().quarantined


def test_a_worker_without_a_database_returns_its_messages_for_redelivery(
    working, nats, opened, monkeypatch, caplog
):
    monkeypatch.setattr(ingest, "_FIRST_WAIT_S", 0.01)
    send, failures = Sender.send, [UnavailableError("the database is away")] * (2 * ingest._ATTEMPTS)

    def fail(sender, payloads, **options):
        # This is the worker's sender. Applications have another one.
        if payloads and failures:
            raise failures.pop()
        return send(sender, payloads, **options)

    monkeypatch.setattr(Sender, "send", fail)
    log = opened(nats.url)
    with working.worker(ingest=nats.url):
        record(log, range(700))
        assert log.flush(90)
        wait_stored(working, range(700))
    assert not failures
    # JetStream redelivers them at once, without waiting for ack_wait.
    assert "are not stored: UnavailableError: the database is away" in caplog.text


def test_a_stream_of_another_installation_is_not_used(working, nats, caplog):
    nats.ask(
        f"STREAM.CREATE.{ENVELOPES}",
        {
            "name": ENVELOPES,
            "subjects": [f"{ENVELOPES}.>"],
            "metadata": {INSTALLATION: "01930000-0000-7000-8000-000000000001"},
        },
    )
    with working.worker(ingest=nats.url):
        wait_for(lambda: "belongs to another installation" in caplog.text, "the warning")
    assert nats.ask(f"STREAM.INFO.{ENVELOPES}")["state"]["consumer_count"] == 0


def test_a_missing_package_raises_at_construction(working, monkeypatch):
    monkeypatch.setitem(EXTRAS, "nats", [Requirement("nats_is_not_installed", "nats-py[nkeys]")])
    with pytest.raises(MissingExtraError, match="an AuditLog with a nats:// URL needs packages"):
        AuditLog("nats://127.0.0.1")
    with pytest.raises(MissingExtraError, match="reading a stream needs packages"):
        working.new(None, ingest="nats://127.0.0.1")


@pytest.mark.slow
def test_a_cluster_loses_no_event_when_its_leader_and_a_worker_are_killed():
    demo = Path(__file__).parents[2] / "bench" / "scale_demo.py"
    command = [sys.executable, demo, "--events", "1500", "--rate", "750"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=110)
    assert "killing the leader of the stream" in done.stdout, done.stderr
    assert done.stdout.endswith("nothing is lost, and nothing is doubled\n"), done.stdout + done.stderr
    assert done.returncode == 0
