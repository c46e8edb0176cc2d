from __future__ import annotations

import json
import queue
import select
import signal
import socket
import threading
from contextlib import contextmanager, suppress

import pytest
from psycopg import sql
from terminal import Terminal

pytestmark = pytest.mark.newest_server


def test_tail_prints_new_events_until_ctrl_c(audited):
    audited.record("product.created", entity=("product", 1))
    with Terminal("audit", "tail", "--every", "0.1", "--dsn", audited.project.database.dsn()) as terminal:
        terminal.wait_for("✓ product.created")
        audited.record("product.deleted", entity=("product", 1), outcome="denied")
        terminal.wait_for("⊘ product.deleted")
        audited.record("evil\x1b[2Jthing", outcome="failed")
        terminal.wait_for("✗ evil\\u001b[2Jth")
        terminal.process.send_signal(signal.SIGINT)
        assert terminal.end() == 0
        assert terminal.text.count("product.created") == 1
        assert terminal.text.count("product.deleted") == 1
        assert "Traceback" not in terminal.text


def test_tail_prints_new_events_as_json_lines(audited, spawn):
    dsn = audited.project.database.dsn()
    process = spawn("audit", "tail", "-n", "0", "--every", "0.1", "--json", "--dsn", dsn)
    # The test cannot see when the command first reads, so it records events until one is printed.
    while not select.select([process.stdout], [], [], 0.2)[0]:
        audited.record("product.created", metadata={"n": 1})
    document = json.loads(process.stdout.readline())
    assert (document["action"], document["metadata"]) == ("product.created", {"n": 1})
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=90)
    assert process.returncode == 0


def test_an_event_of_a_transaction_that_commits_late_is_shown_once(audited):
    database = audited.project.database
    with (
        database.connect() as slow,
        Terminal("audit", "tail", "--every", "0.1", "--dsn", database.dsn()) as terminal,
    ):
        slow.execute("begin")
        audited.log.record_in(slow, "late.one")
        audited.record("early.one")
        terminal.wait_for("early.one")
        slow.execute("commit")
        terminal.wait_for("late.one")
        audited.record("last.one")
        terminal.wait_for("last.one")
        assert [terminal.text.count(name) for name in ("early.one", "late.one", "last.one")] == [1, 1, 1]


@pytest.mark.slow
def test_tail_reconnects_after_a_lost_connection(audited):
    database = audited.project.database
    with Terminal("audit", "tail", "--every", "0.1", "--dsn", database.dsn()) as terminal:
        audited.record("first.one")
        terminal.wait_for("first.one")
        # This event is printed on the second connection.
        audited.record("before.it")
        terminal.wait_for("before.it")
        audited.project.owner.execute(
            "select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'usersync' "
            "and pid <> pg_backend_pid() and usename = current_user and datname = current_database()"
        )
        terminal.wait_for("trying to")
        terminal.wait_for("connected again")
        audited.record("after.it")
        terminal.wait_for("after.it")
        assert terminal.text.count("before.it") == 1


@contextmanager
def first_host(database):
    """A host that clients try before the server's.

    Yields a connection string with both, and its connections.
    """
    knocks = queue.Queue()
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer():
            with suppress(OSError):
                while True:
                    knocks.put(listener.accept()[0].close())

        thread = threading.Thread(target=answer)
        thread.start()
        mine = f"127.0.0.1:{listener.getsockname()[1]}"
        yield database.dsn().replace(f"@{database.host}:", f"@{mine},{database.host}:"), knocks
        listener.shutdown(socket.SHUT_RDWR)
    thread.join()


@pytest.mark.slow
def test_the_start_and_the_end_of_an_outage_are_reported_once(audited, cluster):
    database = audited.project.database
    audited.record("before.it")
    audited.log.close()
    with (
        first_host(database) as (dsn, knocks),
        Terminal("audit", "tail", "--every", "0.1", "--dsn", dsn) as terminal,
    ):
        terminal.wait_for("before.it")
        name = sql.Identifier(database.name).as_string()
        cluster.maintenance.execute(f"alter database {name} allow_connections false")
        cluster.maintenance.execute(
            "select pg_terminate_backend(pid) from pg_stat_activity "
            "where application_name = 'usersync' and datname = %s",
            [database.name],
        )
        terminal.wait_for("trying to")
        knocks.queue.clear()
        for _ in range(3):
            knocks.get(timeout=90)
        cluster.maintenance.execute(f"alter database {name} allow_connections true")
        terminal.wait_for("connected again")
        assert terminal.text.count("warning:") == 1


def test_a_closed_pipe_ends_tail(audited, spawn):
    audited.record("first.one")
    dsn = audited.project.database.dsn()
    process = spawn("audit", "tail", "--every", "0.1", "--dsn", dsn)
    assert "first.one" in process.stdout.readline()
    process.stdout.close()
    assert process.wait(90) == 141
    process.stdout = None
