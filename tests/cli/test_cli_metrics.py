from __future__ import annotations

import re
import signal
import urllib.request

import pytest
from prometheus_client.parser import text_string_to_metric_families
from terminal import Terminal

from usersync.transports.jetstream.stream import INGEST_CONSUMER

pytestmark = pytest.mark.newest_server

UNREACHABLE = "postgresql://nobody@127.0.0.1:1/nowhere"


def values(text):
    return {
        sample.name: sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def labelled(text):
    return {
        " ".join([sample.name, *sample.labels.values()]): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_metrics_are_printed_in_prometheus_format(usersync, project, directory):
    project.auth.sign_up_email()
    done = usersync("metrics", "--dsn", project.database.dsn(), "--dir", directory)
    assert done.code == 0
    assert values(done.out)["usersync_auth_users"] == 1
    found = usersync("metrics", "--dsn", project.database.dsn(), "--dir", directory, "--json").json
    assert {"name": "usersync_auth_users", "labels": {}, "value": 1.0, "unit": "{user}"} in found["metrics"]
    assert found["error"] is None


def test_the_text_file_is_replaced_atomically(usersync, project, directory):
    file = directory / "usersync.prom"
    file.write_text("old")
    done = usersync("metrics", "--dsn", project.database.dsn(), "--dir", directory, "--textfile", file)
    assert (done.code, "Written:" in done.out) == (0, True)
    assert values(file.read_text())["usersync_up"] == 1
    assert list(directory.iterdir()) == [file]


def test_spool_metrics_are_printed_while_the_database_is_unavailable(usersync, directory):
    file = directory / "usersync.prom"
    done = usersync("metrics", "--dsn", UNREACHABLE, "--dir", directory / "none", "--textfile", file)
    assert done.code == 3
    assert "cannot connect" in done.err.lower() or "US101" in done.err
    assert values(file.read_text()) == {"usersync_up": 0}


def test_the_backlog_of_a_stream_is_asked_for_without_a_worker(usersync, nats, directory, monkeypatch):
    def ingested():
        text = usersync("metrics", "--dsn", UNREACHABLE, "--dir", directory / "none").out
        return {
            name.removeprefix("usersync_ingest_"): value
            for name, value in labelled(text).items()
            if "ingest" in name
        }

    monkeypatch.setenv("USERSYNC_INGEST", f"nats://127.0.0.1:{nats.port}")
    # There is no stream, so nothing is known of its messages.
    assert ingested() == {"up": 0}
    nats.ask("STREAM.CREATE.usersync-in", {"name": "usersync-in", "subjects": ["usersync-in.>"]})
    nothing = {"up": 1, "messages pending": 0, "messages unacknowledged": 0, "redelivered_messages": 0}
    assert ingested() == {**nothing, "oldest_age_seconds": 0}

    async def publish(connection):
        for number in range(5):
            await connection.publish("usersync-in.events", b"{}", f"{number}", headers={}, limit=5)

    nats.run(publish)
    # No worker has read this stream yet.
    found = ingested()
    assert found.pop("oldest_age_seconds") > 0
    assert found == nothing | {"messages pending": 5}

    async def deliver(connection):
        consumer = await connection.pull_consumer("usersync-in", INGEST_CONSUMER, ack_wait=600)
        messages = []
        while len(messages) < 5:
            messages += await consumer.fetch(5 - len(messages), 1)
        await connection.acknowledge(messages[:1])
        await connection.nak(messages[1:2])
        await connection.flush()
        while not await consumer.fetch(1, 1):
            pass

    nats.run(deliver)
    found = ingested()
    assert found.pop("oldest_age_seconds") > 0
    # Acknowledged messages stay in this stream, and are not counted.
    assert found == nothing | {"messages unacknowledged": 4, "redelivered_messages": 1}


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--serve", "nowhere"], "is not PORT or HOST:PORT"),
        (["--serve", "99999"], "is not PORT or HOST:PORT"),
        (["--serve", "0", "--json"], "not allowed with --textfile or --json"),
        (["--serve", "256.1.1.1:0"], "cannot listen at 256.1.1.1:0"),
        (["--ingest", "http://127.0.0.1"], "the URL of --ingest is not valid"),
        (["--textfile", "missing/x.prom"], "cannot write missing/x.prom"),
    ],
)
def test_invalid_options_are_refused_with_a_reason(usersync, directory, options, says):
    done = usersync("metrics", "--dsn", UNREACHABLE, "--dir", directory, *options)
    assert done.code == 2
    assert says in done.err + done.out


@pytest.mark.slow
def test_metrics_are_served_until_ctrl_c(project, directory):
    with Terminal("metrics", "--dsn", project.database.dsn(), "--dir", directory, "--serve", "0") as terminal:
        terminal.wait_for("/metrics")
        url = re.search(r"http://\S+/metrics", terminal.text)[0]
        for _ in range(2):
            with urllib.request.urlopen(url) as answer:  # noqa: S310 - http, as matched
                assert values(answer.read().decode())["usersync_up"] == 1
        terminal.process.send_signal(signal.SIGINT)
        assert terminal.end() == 0
        assert "Traceback" not in terminal.text
