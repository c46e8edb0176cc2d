"""New events on open pages: one database connection for all pages, and bounded memory."""

from __future__ import annotations

import asyncio
import re
import socket
import threading
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta

import httpx
import pytest
import uvicorn

from audit_settings import with_audit_log
from usersync import console
from usersync.audit import reading
from usersync.audit.feed import number_events
from usersync.audit.models import EventFilter
from usersync.console import live
from usersync.schema import installation
from usersync.transports.run import run
from waiting import until

pytestmark = pytest.mark.newest_server


@contextmanager
def serving(database):
    """The address of a console with a short interval between its checks for new events."""
    listening = socket.create_server(("127.0.0.1", 0))
    port = listening.getsockname()[1]
    dsn = f"{database.dsn()}?application_name={port}"
    app = console.app(dsn, authorize=lambda _: True)
    config = uvicorn.Config(app, log_level="error", lifespan="off", timeout_graceful_shutdown=1)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, args=([listening],))
    thread.start()
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join()


@pytest.fixture(autouse=True)
def _short_interval(monkeypatch):
    monkeypatch.setattr(live, "_EVERY_S", 0.05)


@pytest.fixture
def address(project):
    with serving(project.database) as found:
        yield found


RECORD = """
    insert into public.audit_logs (id, occurred_at, action, outcome, actor_type, source)
    values (gen_random_uuid(), now(), %s, 'succeeded', 'user', 'app')
"""


def record(project, action):
    with project.database.connect() as owner:
        owner.execute(RECORD, [action])


def readers(project, address):
    """How many connections of this console have checked for new events with their last statement."""
    with project.database.connect() as owner:
        return owner.execute(
            "select count(*) from pg_stat_activity where datname = current_database() "
            "and application_name = %s and query like '%%tail_snapshot%%'",
            [address.rpartition(":")[2]],
        ).fetchone()[0]


def test_fifty_pages_share_one_connection_that_reads_events(project, address):
    with httpx.Client(timeout=90) as client, ExitStack() as stack:
        path = f"{address}/events/stream?action=live.*"
        opened = [stack.enter_context(client.stream("GET", path)) for _ in range(50)]
        streams = [each.iter_lines() for each in opened]
        for stream in streams:
            while next(stream) != "event: begin":
                pass
        assert opened[0].headers["content-type"].startswith("text/event-stream")
        record(project, "live.other-page<b>")
        record(project, "unrelated")
        record(project, "live.second")
        for stream in streams:
            seen = ""
            while "live.second" not in seen:
                seen += next(stream)
            assert "live.other-page&lt;b&gt;" in seen
            assert "unrelated" not in seen
        # Between two checks, the last statement of the connection is another one.
        until(lambda: readers(project, address))
        assert max(readers(project, address) for _ in range(20)) <= 1
    # Without open pages, no connection reads events.
    until(lambda: readers(project, address) == 0)


def test_a_stream_continues_after_an_outage_without_missing_events(project, address, cluster, monkeypatch):
    monkeypatch.setattr(live, "_AFTER_ERROR_S", 0.05)
    name = project.database.name
    path = f"{address}/events/stream?action=outage.*"
    with (
        httpx.Client(timeout=90) as client,
        project.database.connect() as owner,
        client.stream("GET", path) as opened,
    ):
        lines = opened.iter_lines()
        while next(lines) != "event: begin":
            pass
        cluster.maintenance.execute(f"alter database {name} with allow_connections false")
        try:
            owner.execute(
                "select pg_terminate_backend(pid) from pg_stat_activity "
                "where datname = current_database() and pid <> pg_backend_pid()"
            )
            assert client.get(f"{address}/events").status_code == 503
            owner.execute(RECORD, ["outage.during"])
            assert client.get(f"{address}/").status_code == 503
        finally:
            cluster.maintenance.execute(f"alter database {name} with allow_connections true")
        owner.execute(RECORD, ["outage.after"])
        seen = ""
        while "outage.after" not in seen:
            seen += next(lines)
        assert "outage.during" in seen
        assert client.get(f"{address}/events").status_code == 200


def test_the_queue_of_a_slow_page_is_bounded():
    async def fill():
        feed = live.Live(None)
        feed._reader = asyncio.current_task()
        page = live._Page()
        feed._pages.add(page)
        for number in range(live._WAITING):
            feed._give([number])
        assert not page.has_missed
        for number in range(live._WAITING, 10 * live._WAITING):
            feed._give([number])
        assert page.has_missed
        return [page.queue.get_nowait().event for _ in range(page.queue.qsize())]

    assert asyncio.run(fill()) == list(range(9 * live._WAITING, 10 * live._WAITING))


def read_until(lines, text):
    """Read a stream up to the line with this text."""
    while text not in next(lines):
        pass


def begun(client, address, position=None, url_position=""):
    """The first lines of a stream, and the position in them."""
    path = f"{address}/events/stream?action=again.*{url_position}"
    headers = {"Last-Event-ID": position} if position else {}
    seen = []
    with client.stream("GET", path, headers=headers) as stream:
        for line in stream.iter_lines():
            seen.append(line)
            if line == "event: begin":
                break
    (given,) = (each.removeprefix("id: ") for each in seen if each.startswith("id: "))
    return "\n".join(seen), given


def test_a_page_that_connects_again_misses_nothing_or_says_so(project, address, monkeypatch):
    with httpx.Client(timeout=30) as client, project.database.connect() as owner:
        _, position = begun(client, address)
        owner.execute(RECORD, ["again.between"])
        owner.execute(RECORD, ["unrelated"])
        seen, later = begun(client, address, position)
        assert seen.count("again.between") == 1
        assert "unrelated" not in seen
        assert "missed" not in seen
        # Neither with the later position, nor without one.
        for given in (later, None):
            assert "again.between" not in begun(client, address, given)[0]
        # The first stream continues after the page.
        page = client.get(f"{address}/events?action=again.*").text
        (from_page,) = re.findall(r"position=([^\"&]+)", page)
        owner.execute(RECORD, ["again.after-the-page"])
        seen, _ = begun(client, address, url_position=f"&position={from_page}")
        assert ("again.after-the-page" in seen, "again.between" in seen) == (True, False)
        # Too many, and positions that nobody has given.
        monkeypatch.setattr(live, "_WAITING", 1)
        for odd in (position, "-", "1", "1:2:;;x", "' or true --"):
            seen, _ = begun(client, address, odd)
            assert "event: missed" in seen
            assert "again." not in seen


TABLE = """
    create table public.audit_logs (
        event_id uuid primary key default gen_random_uuid(),
        action text not null,
        created_at timestamptz default now()
    )
"""
COLUMNS = {"id": "event_id", "action": "action", "occurred_at": "created_at"}


@pytest.mark.slow
def test_a_page_over_a_table_of_the_application_misses_nothing_or_says_so(postgres, database, monkeypatch):
    postgres.execute(TABLE)
    run(installation.apply(with_audit_log({"audit": {"columns": COLUMNS, "feed": True}})), postgres)
    run(number_events(), postgres)  # starts the feed

    def insert(*actions):
        for each in actions:
            postgres.execute("insert into public.audit_logs (action) values (%s)", [each])

    with serving(database) as address, httpx.Client(timeout=30) as client:
        _, position = begun(client, address)
        assert position.isdecimal()
        insert("again.between", "unrelated")
        seen, later = begun(client, address, position)
        assert seen.count("again.between") == 1
        assert "unrelated" not in seen
        assert "missed" not in seen
        assert "again.between" not in begun(client, address, later)[0]
        page = client.get(f"{address}/events?action=again.*").text
        (from_page,) = re.findall(r"position=([^\"&]+)", page)
        insert("again.after-the-page")
        seen, newest = begun(client, address, url_position=f"&position={from_page}")
        assert ("again.after-the-page" in seen, "again.between" in seen) == (True, False)
        # Beyond the feed, as after a restore. Of a log of usersync. More than a batch looks at.
        monkeypatch.setattr(reading, "TAIL_SIZE", 1)
        for odd in (str(int(newest) + 1000), "9" * 18, "9" * 40, "1:2:;;1", position):
            seen, given = begun(client, address, odd)
            assert "event: missed" in seen
            assert "again." not in seen
            assert given == newest
        # A restore while a page is open.
        monkeypatch.setattr(reading, "TAIL_SIZE", 1_000)
        for name in ("_AFTER_ERROR_S", "_PING_S"):
            monkeypatch.setattr(live, name, 0.05)
        with client.stream("GET", f"{address}/events/stream?action=again.*") as stream:
            lines = stream.iter_lines()
            read_until(lines, "event: begin")
            with postgres.transaction():
                postgres.execute("delete from usersync.event_numbers")
                postgres.execute("update usersync.feed set last_number = 0")
            read_until(lines, "event: missed")
            insert("again.later")
            read_until(lines, "again.later")


def test_an_invalid_filter_of_a_stream_is_answered_with_400(project, address):
    with httpx.Client(timeout=90) as client:
        assert client.get(f"{address}/events/stream?since=yesterday").status_code == 400


FILTERS = [
    {"action": "order.paid"}, {"action": "order.*"}, {"action": "*"}, {"action": "order"},
    {"actor_id": "acme-ada"}, {"entity_type": "invoice", "entity_id": 1}, {"entity_type": "order"},
    {"outcome": "denied"}, {"request_id": "r-1"}, {"tenant_id": "globex"}, {"on_behalf_of": "globex-eve"},
    {"severity": "high"}, {"text": "ACME-plan unseen"}, {"text": "plan"}, {"text": "globex-new"},
    {"text": "total"}, {"text": "onerror"}, {"since": -1}, {"until": -1}, {"user_id": None},
]  # fmt: skip


def test_a_filter_finds_the_same_events_as_a_search(project):
    with project.database.connect() as owner:
        all_events = run(reading.search(EventFilter(), limit=1_000), owner).events
        for fields in FILTERS:
            given = {name: _value_at_run_time(name, value, project) for name, value in fields.items()}
            wanted = EventFilter(**given)
            found = {each.id for each in run(reading.search(wanted, limit=1_000), owner).events}
            assert {each.id for each in all_events if live.matches(wanted, each)} == found, fields


def _value_at_run_time(name, value, project):
    if name in {"since", "until"}:
        return datetime.now(UTC) + timedelta(hours=value)
    return project.well if name == "user_id" else value
