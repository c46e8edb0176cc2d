"""The duration of each page of the console with many events and users. Run with: make bench-console

::

    python bench/console.py [--events 10000000] [--users 1000000] [--requests 100] [--out DIRECTORY]

Fills a database of its own, which is deleted afterwards, and writes console.json. Ten million events need
about 15 GB of disk and ten minutes. Requests are sent one after the other, each with other values.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import socket
import statistics
import sys
import threading
import time
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

import httpx
import uvicorn

from measuring import LOGGED, SETTINGS, Lab, superuser_of
from reconcile import FILL
from run import RESULTS, machine
from usersync import UserSync, console
from usersync.embedded import EmbeddedPostgres
from usersync.events import subscriptions
from usersync.events.models import Subscription
from usersync.sql.audit_expressions import INDEXES
from usersync.testing import SupabaseCluster
from usersync.testing.install import install
from usersync.transports.run import run

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import psycopg

    from usersync.testing import SupabaseDatabase

#: The server only reads while it is measured, so filling it need not be durable.
FAST = {**SETTINGS, "fsync": "off", "max_wal_size": "2GB", "maintenance_work_mem": "1GB"}

#: Over a year, the newest first. A request has three events, an entity a hundred, and one entity a
#: thousandth of all.
EVENTS = """
    insert into public.audit_logs (
        id, occurred_at, recorded_at, action, outcome, actor_id, actor_type, user_id, entity_type, entity_id,
        changes, metadata, request_id, ip, source, tenant_id, on_behalf_of, severity)
    select
        (lpad(to_hex(floor(extract(epoch from event.at) * 1000)::bigint), 12, '0') || '7'
            || substr(md5(n::text), 1, 19))::uuid,
        event.at, event.at,
        (array['product', 'order', 'invoice', 'stock'])[n %% 4 + 1] || '.'
            || (array['created', 'updated', 'sent', 'counted', 'deleted'])[n / 4 %% 5 + 1],
        case n %% 100 when 7 then 'denied' when 8 then 'failed' else 'succeeded' end,
        users.id::text, 'user', users.id,
        case when n %% 1000 = 0 then 'setting' else 'product' end,
        case when n %% 1000 = 0 then 1 else n %% (%(events)s / 100) end,
        jsonb_build_object('stock', jsonb_build_array(n, n + 1), 'name', jsonb_build_array('Bolt', n::text)),
        jsonb_build_object('note', 'from the warehouse in row ' || n %% 977),
        'r-' || n / 3, '203.0.113.7', 'app', 'tenant-' || n %% 1000,
        case n %% 500 when 9 then 'support' end, case n %% 1000 when 9 then 'high' end
    from generate_series(%(first)s::integer, %(last)s::integer) as n
    cross join lateral (select now() - interval '365 days' * (n::float8 / %(events)s) as at) as event
    join numbered as users on users.number = n * 7919::bigint %% %(users)s + 1
"""
_AT_A_TIME = 500_000


def main() -> None:
    """Fill the database, request each page, print the table and save it."""
    options = _arguments()
    started = time.perf_counter()
    with (
        EmbeddedPostgres(version=options.pg, settings=FAST) as server,
        SupabaseCluster.on(server) as cluster,
        ExitStack() as stack,
    ):
        lab = Lab(server, cluster, options)
        database = stack.enter_context(lab.database())
        known = fill(database, options)
        filled = time.perf_counter()
        sys.stderr.write(f"filled in {filled - started:.0f} s\n")
        address = stack.enter_context(served(database))
        document = {
            "machine": machine(lab) | {"settings": FAST},
            "options": {name: getattr(options, name) for name in ("events", "users", "requests")},
            "pages": measured(address, known, options.requests),
            "cpu_ms": processor_time(address, postmaster_of(database), known, min(options.requests, 20)),
            "seconds": round(time.perf_counter() - started),
        }
    for each in document["pages"]:
        cpu = document["cpu_ms"][each["page"]]
        print(f"{each['page']:50} {each['p50_ms']:8.1f} {each['p95_ms']:8.1f} ms, processor {cpu:6.1f} ms")
    if options.out is not None:
        path = options.out / "console.json"
        path.write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--events", type=int, default=10_000_000)
    parser.add_argument("--users", type=int, default=1_000_000)
    parser.add_argument("--requests", type=int, default=100, help="of each page")
    parser.add_argument("--pg", type=int, help="PostgreSQL version (default the newest found)")
    parser.add_argument("--out", type=Path, help=f"default nowhere; {RESULTS} is what docs show")
    options = parser.parse_args()
    if min(options.events, options.users) < 10_000 or options.requests < 2:
        parser.error("expected 10,000 events and users or more, and 2 requests or more")
    return options


def fill(database: SupabaseDatabase, options: argparse.Namespace) -> dict[str, list[Any]]:
    """Users, events, subscriptions, failures. Returns values that pages are requested with."""
    install(database, LOGGED)
    with database.connect() as owner:
        for name in ("crm", "search", "mail"):
            run(subscriptions.add(Subscription(name, "handler", ("product.*",))), owner)
        owner.execute("""
            select usersync.make_audit_partition(month::date) from generate_series(
                date_trunc('month', now()) - interval '13 months', now(), '1 month') as month
        """)
    superuser = superuser_of(database)
    superuser.execute("set session_replication_role = replica")
    _step("users", lambda: superuser.execute(FILL, [options.users]))
    superuser.execute("vacuum analyze auth.users")
    with UserSync(database.dsn()) as sync:
        _step("their rows", sync.reconcile)
    superuser.execute(
        "create temp table numbered as select id, row_number() over () as number from public.users"
    )
    superuser.execute("create unique index on numbered (number)")
    superuser.execute("vacuum analyze numbered")
    _step("events", lambda: _fill_events(superuser, options))
    superuser.execute("""
        insert into usersync.parked_events (subscription, number, event_id, shard, state, attempts, error)
        select 'crm', n, gen_random_uuid(), n % 16, 'dead', 9, 'the receiver answered 500'
        from generate_series(1, 1000) as n;
        insert into usersync.delivery_attempts (
            subscription, number, event_id, attempt, attempted_at, seconds)
        select 'crm', n, gen_random_uuid(), 1, now(), 0.1 from generate_series(1, 100000) as n;
        insert into usersync.sync_failures (user_id, outcome, sqlstate, message)
        select id, 'degraded', '23514', 'made up' from public.users limit 1000;
        insert into usersync.audit_rejects (event, sqlstate, reason)
        select '{"action": "x"}', '22P02', 'made up' from generate_series(1, 1000);
    """)
    superuser.execute("vacuum analyze")
    superuser.execute("checkpoint")
    sample = superuser.execute(
        "select id::text, actor_id, request_id from public.audit_logs tablesample system (%s) limit 2000",
        [min(100, 2_000_000 / options.events)],
    ).fetchall()
    return {
        "event": [row[0] for row in sample],
        "user": [row[1] for row in sample],
        "request": [row[2] for row in sample],
    }


def _fill_events(superuser: psycopg.Connection[Any], options: argparse.Namespace) -> None:
    """Without indexes: building them afterwards takes a fraction of the time."""
    for (name,) in superuser.execute(
        "select indexrelid::regclass::text from pg_index where indrelid = 'public.audit_logs'::regclass "
        "and not indisprimary"
    ).fetchall():
        superuser.execute(f"drop index {name}")
    for first in range(0, options.events, _AT_A_TIME):
        last = min(first + _AT_A_TIME, options.events) - 1
        superuser.execute(
            EVENTS, {"first": first, "last": last, "events": options.events, "users": options.users}
        )
    for definition in INDEXES.values():
        superuser.execute(f"create index on public.audit_logs {definition}")


def _step(what: str, work: Callable[[], object]) -> None:
    started = time.perf_counter()
    work()
    sys.stderr.write(f"{what}: {time.perf_counter() - started:.0f} s\n")


@contextmanager
def served(database: SupabaseDatabase) -> Iterator[str]:
    """The console and the viewer for customers on a port of this machine."""
    listening = socket.create_server(("127.0.0.1", 0))
    application = console.app(database.dsn(), authorize=lambda _: True)
    config = uvicorn.Config(application, log_level="error", lifespan="off")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, args=([listening],))
    thread.start()
    try:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()


def pages(known: dict[str, list[Any]], values: random.Random) -> dict[str, Callable[[int], str]]:
    """Each page, and its address for the request with this number."""

    def one(name: str) -> str:
        return str(values.choice(known[name]))

    def events(**filters: str) -> str:
        return f"/events?{urlencode(filters)}"

    def product() -> str:
        return f"product/{values.randrange(1, 10_000) * 3 + 1}"

    return {
        "overview": lambda _: "/",
        "user, found by e-mail address": lambda n: f"/users?q=User{n * 97 + 1}@example.com",
        "users, found by name, no index": lambda n: f"/users?q=User+{n * 31}",
        "users, a name that nobody has, no index": lambda n: f"/users?q=Nobody+{n}",
        "user": lambda _: f"/users/{one('user')}",
        "deletion of a user": lambda _: f"/users/{one('user')}/deletion",
        "events": lambda _: "/events",
        "events of an action": lambda _: events(action="order.sent"),
        "events of a prefix": lambda _: events(action="invoice.*"),
        "events of an actor": lambda _: events(actor_id=one("user")),
        "events of an entity": lambda _: events(entity=product()),
        "events of an entity type": lambda _: events(entity="product"),
        "events of a tenant": lambda n: events(tenant_id=f"tenant-{n}"),
        "events of a request": lambda _: events(request_id=one("request")),
        "denied events": lambda _: events(outcome="denied"),
        "events of a severity": lambda _: events(severity="high"),
        "events on behalf of a user": lambda _: events(on_behalf_of="support"),
        "events of an hour": lambda n: events(since=f"{n * 80 + 2}h", until=f"{n * 80 + 1}h"),
        "events of a month": lambda n: events(since=f"{n * 3 + 31}d", until=f"{n * 3 + 1}d"),
        "events of a year": lambda _: events(since="365d"),
        "events with words, of a day": lambda _: events(text="warehouse", since="1d", action="order.*"),
        "event": lambda _: f"/events/{one('event')}",
        "entity timeline": lambda _: f"/entity?entity={product()}",
        "entity timeline, many events": lambda _: "/entity?entity=setting/1",
        "entity at a time": lambda _: f"/entity?entity={product()}&at=2026-06-01T00:00:00Z",
        "entity, many events, at a time": lambda _: "/entity?entity=setting/1&at=2026-06-01T00:00:00Z",
        "failures": lambda _: "/failures",
        "rejected events": lambda _: "/rejected",
        "subscriptions": lambda _: "/subscriptions",
        "subscription": lambda _: "/subscriptions?name=crm",
        "tracked tables": lambda _: "/tracked",
    }


def measured(address: str, known: dict[str, list[Any]], requests: int) -> list[dict[str, Any]]:
    """The time of each page, in rounds, so that a disturbance of the machine affects all pages."""
    wanted = pages(known, random.Random(7))  # noqa: S311 - no secret
    times: dict[str, list[float]] = {name: [] for name in wanted}
    with httpx.Client(base_url=address, timeout=120, follow_redirects=True) as client:
        for number in range(requests + 2):
            for name, path in wanted.items():
                target = path(number)
                started = time.perf_counter()
                answer = client.get(target)
                took = time.perf_counter() - started
                assert answer.status_code == 200, (target, answer.status_code, answer.text[:2000])
                if number >= 2:
                    times[name].append(took * 1_000)
    return [
        {
            "page": name,
            "p50_ms": round(statistics.median(each), 1),
            "p95_ms": round(statistics.quantiles(each, n=20)[-1], 1),
        }
        for name, each in times.items()
    ]


def processor_time(
    address: str, postmaster: int, known: dict[str, list[Any]], requests: int
) -> dict[str, float]:
    """The processor time of a request in milliseconds: of the console, the client and the database.

    Other programs on the machine do not change it, unlike the time that a request takes.
    """
    found = {}
    with httpx.Client(base_url=address, timeout=120, follow_redirects=True) as client:
        for name, path in pages(known, random.Random(8)).items():  # noqa: S311 - no secret
            before = _spent(postmaster)
            for number in range(requests):
                client.get(path(number))
            time.sleep(0.3)  # Until the last connection has ended.
            found[name] = round((_spent(postmaster) - before) / requests * 1_000, 1)
    return found


def _spent(postmaster: int) -> float:
    """Seconds of this process, and of the ended children of the database server."""
    fields = Path(f"/proc/{postmaster}/stat").read_text().rpartition(")")[2].split()
    return time.process_time() + sum(map(int, fields[13:15])) / os.sysconf("SC_CLK_TCK")


def postmaster_of(database: SupabaseDatabase) -> int:
    """The process of the database server that starts all others. It must be on this machine."""
    with database.connect() as connection:
        status = Path(f"/proc/{connection.info.backend_pid}/stat").read_text()
        return int(status.rpartition(")")[2].split()[1])


if __name__ == "__main__":
    main()
