"""Events a second into the audit log: our function against COPY, and against one INSERT and commit each.

Same table, indexes and foreign key on, fsync on, one connection. Each way is run several times, in turn, on
an emptied table; what counts is the ratio of the best runs. Usage: python bench/audit_throughput.py [events]
"""

from __future__ import annotations

import json
import random
import sys
import time
import uuid
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from psycopg.types.json import Jsonb

from usersync.audit_columns import FIELDS
from usersync.embedded import EmbeddedPostgres
from usersync.settings import Settings
from usersync.testing import GoTrue, SupabaseCluster
from usersync.testing.install import install

if TYPE_CHECKING:
    from collections.abc import Callable

    import psycopg

EVENTS = int(sys.argv[1]) if len(sys.argv) > 1 else 50_000
BATCH, SINGLE, ROUNDS, USERS = 500, 2_000, 4, 1_000
SETTINGS = {"shared_buffers": "512MB", "max_wal_size": "4GB", "autovacuum": "off"}

COLUMNS = tuple(FIELDS)

Event = dict[str, Any]
Rows = list[tuple[Any, ...]]


def make_events(users: list[uuid.UUID], count: int) -> list[Event]:
    """What an inventory application records in a day, in the order of its clock."""
    start, chance = datetime.now(UTC) - timedelta(days=1), random.Random(1)  # noqa: S311
    return [_event(start + timedelta(seconds=86_400 * n / count), users, chance) for n in range(count)]


def _event(at: datetime, users: list[uuid.UUID], chance: random.Random) -> Event:
    milliseconds = int(at.timestamp() * 1000)
    number = milliseconds << 80 | 7 << 76 | chance.getrandbits(12) << 64 | 2 << 62 | chance.getrandbits(62)
    before = chance.randrange(1000)
    return {
        "id": str(uuid.UUID(int=number)),
        "occurred_at": at.isoformat(),
        "action": chance.choice(["product.created", "product.updated", "stock.adjusted"]),
        "outcome": "succeeded",
        "actor_id": str(chance.choice(users)),
        "actor_type": "user",
        "entity_type": "product",
        "entity_id": str(chance.randrange(10_000)),
        "changes": {"quantity": [before, before - 1], "location": ["A-12", "B-7"]},
        "metadata": {"warehouse": "north", "reason": "sold"},
        "request_id": str(uuid.UUID(int=chance.getrandbits(128))),
        "ip": "203.0.113.7",
        "user_agent": "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36",
        "source": "app",
    }


def as_row(event: Event) -> tuple[Any, ...]:
    whole = event | {"recorded_at": event["occurred_at"], "user_id": event["actor_id"]}
    return tuple(json.dumps(whole[c]) if c in {"changes", "metadata"} else whole[c] for c in COLUMNS)


def by_copy(connection: psycopg.Connection[Any], events: list[Event]) -> None:
    rows = [as_row(event) for event in events]
    with connection.cursor().copy(f"copy public.audit_logs ({', '.join(COLUMNS)}) from stdin") as copy:
        for row in rows:
            copy.write_row(row)


def by_function(connection: psycopg.Connection[Any], events: list[Event]) -> None:
    for start in range(0, len(events), BATCH):
        batch = Jsonb(events[start : start + BATCH])
        connection.execute("select public.record_audit_events(%s)", [batch])


def by_single_inserts(connection: psycopg.Connection[Any], events: list[Event]) -> None:
    marks = ", ".join(["%s"] * len(COLUMNS))
    insert = f"insert into public.audit_logs ({', '.join(COLUMNS)}) values ({marks})"
    for event in events:
        connection.execute(insert, as_row(event))


WAYS: dict[str, tuple[Callable[[Any, list[Event]], None], int]] = {
    "COPY, one for all": (by_copy, EVENTS),
    f"record_audit_events, {BATCH} a call": (by_function, EVENTS),
    "one INSERT and commit each": (by_single_inserts, SINGLE),
}


def measure(connection: psycopg.Connection[Any], events: list[Event]) -> dict[str, float]:
    """The best microseconds per event of each way."""
    best: dict[str, float] = {}
    for number in range(ROUNDS):
        for name, (way, count) in list(WAYS.items())[:: 1 if number % 2 else -1]:
            connection.execute(
                "begin; set local usersync.maintaining = 'audit'; truncate public.audit_logs; commit"
            )
            started = time.perf_counter()
            way(connection, events[:count])
            spent = (time.perf_counter() - started) / count * 1e6
            stored = connection.execute("select count(*) from public.audit_logs").fetchone()
            assert stored == (count,), (name, stored)
            best[name] = min(best.get(name, spent), spent)
    return best


def main() -> None:
    with EmbeddedPostgres(settings=SETTINGS) as server, SupabaseCluster.on(server) as cluster:
        database = cluster.create()
        install(database, Settings())
        with GoTrue(database.dsn("supabase_auth_admin")) as auth:
            users = auth.import_users(USERS)
        with database.connect("postgres") as connection:
            best = measure(connection, make_events(users, EVENTS))
        version = server.version
    copied, recorded, single = (best[name] for name in WAYS)
    for name, spent in best.items():
        print(f"{name:<40} {spent:9.1f} us/event {1e6 / spent:9,.0f} events/s")
    print(f"throughput against COPY          {copied / recorded:6.2f}x  (aim: 0.5x)")
    print(f"throughput against single INSERT {single / recorded:6.1f}x  (aim: 15x)")
    result = {"postgresql": version, "events": EVENTS, "us_per_event": best}
    Path(__file__).with_suffix(".json").write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
