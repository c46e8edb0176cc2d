"""How each figure grows with the number of users and events: time for each, and memory. Run with: make bench

::

    python bench/growth.py [--sizes 10000,100000,1000000,10000000] [--only sign_up] [--rounds 5]

Writes growth.json. With ``--only``, the saved figures of the other parts and sizes stay. Each figure comes
with its limit on the same machine at the same size: a bare statement, or the hand-written trigger for
sign-ups. Ten million users need about 20 GB of disk, and more than ten times as long as one million.
"""

from __future__ import annotations

import argparse
import json
import re
import statistics
import sys
import time
from contextlib import ExitStack
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import sign_up
from audit_throughput import by_function, make_events
from measuring import Times, production_lab, superuser_of, take_turns, timed
from reconcile import Filled, filled
from run import RESULTS, about, machine
from tracking import TABLE
from usersync.audit.tracking import operations as tracking
from usersync.audit.tracking.state import TrackOptions
from usersync.config.redaction import Redactor
from usersync.config.settings import Settings
from usersync.transports.run import run

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import psycopg

    from measuring import Lab

SIZES = "10000,100000,1000000"

PARTS = ("reconcile", "sign_up", "record")

#: How many operations are run at each size.
STATEMENTS, BATCHES, BATCH = 500, 4, 500

#: How many sign-ups run before the measured ones, times STATEMENTS. After filling, only the newest data is in
#: memory if not all fits; these load a part of both databases.
WARM_UPS = 40

EVENTS = """
    insert into public.audit_logs (
        id, occurred_at, action, outcome, actor_id, actor_type, user_id, entity_type, entity_id, changes,
        source)
    select gen_random_uuid(), now() - n * interval '1 second', 'stock.adjusted', 'succeeded', users.id::text,
        'user', users.id, 'product', n %% 10000, '{"quantity": [1, 2]}', 'app'
    from generate_series(1, %s) as n
    join (select id, row_number() over () as number from public.users) as users on users.number = n %% %s + 1
"""


def main() -> None:
    """Measure at each size, print the figures and save them."""
    options = arguments()
    points: list[dict[str, Any]] = []
    saved = options.out / "growth.json"
    kept = json.loads(saved.read_text()) if options.only != PARTS and saved.exists() else None
    started = time.time()
    with production_lab(options) as lab:
        for size in options.sizes:
            sys.stderr.write(f"{size:,} … ")
            sys.stderr.flush()
            began = time.perf_counter()
            points += [{"size": size} | point for point in at(lab, size, options.only)]
            sys.stderr.write(f"{time.perf_counter() - began:.0f} s\n")
            everything = beside(kept["points"] if kept else [], points)
            document = {
                "machine": machine(lab),
                "options": {"rounds": options.rounds, "sizes": sorted({each["size"] for each in everything})},
                "seconds": round(time.time() - started) + (kept["seconds"] if kept else 0),
                "points": everything,
            }
            # Saved after each size: the next takes ten times as long, and may be interrupted.
            options.out.mkdir(parents=True, exist_ok=True)
            text = json.dumps(document, indent=1, ensure_ascii=False)
            saved.write_text(text + "\n")
    for point in points:
        print(f"{point['size']:>12,}  {point['series']:<28} {point['value']:>10.2f} {point['unit']}")
    print("\n" + about(document))


def beside(kept: list[dict[str, Any]], new: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The new figures in place of the saved ones of the same series and size, and the other saved ones."""
    key = itemgetter("size", "series")
    found = {key(point): point for point in kept} | {key(point): point for point in new}
    return sorted(found.values(), key=itemgetter("size"))


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sizes", default=SIZES, help=f"users, and as many events (default {SIZES})")
    parser.add_argument("--only", default=",".join(PARTS), help=f"some of {','.join(PARTS)}")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--pg", type=int, help="PostgreSQL version (default the newest found)")
    parser.add_argument("--out", type=Path, default=RESULTS, help=f"default {RESULTS}")
    options = parser.parse_args()
    if not re.fullmatch(r"[1-9]\d{3,}(,[1-9]\d{3,})*", options.sizes):
        parser.error("--sizes: expected numbers of a thousand and more, as in 10000,1000000")
    options.only = tuple(options.only.split(","))
    if unknown := set(options.only) - set(PARTS):
        parser.error(f"no such part: {', '.join(sorted(unknown))}; there are {', '.join(PARTS)}")
    options.sizes = [int(size) for size in options.sizes.split(",")]
    return options


def at(lab: Lab, size: int, parts: tuple[str, ...]) -> Iterator[dict[str, Any]]:
    """The figures of these parts for this number of users and events."""
    with ExitStack() as stack:
        here = filled(lab, stack, size)
        if "reconcile" in parts:
            yield from reconciling(lab, here)
        else:
            here.bare_insert()
        if "sign_up" in parts:
            yield from signing_up(lab, stack, here, size)
        if "record" in parts:
            yield from recording(lab, here, size)


def reconciling(lab: Lab, here: Filled) -> Iterator[dict[str, Any]]:
    rounds = max(3, lab.rounds // 2)
    missing = take_turns(
        {
            "ours": here.reconcile_all,
            "limit": here.bare_insert,
            "by pages": lambda: here.paged_insert(""),
        },
        rounds,
        warm_up=False,
    )
    yield from pair("reconcile, all missing", missing, "µs a user")
    yield from pair("bare INSERT by pages of ids", {"limit": missing["by pages"]}, "µs a user")
    here.settle()
    nothing = take_turns({"ours": here.reconcile, "limit": here.bare_comparison}, rounds)
    yield from pair("reconcile, nothing to do", nothing, "µs a user")
    nothing_memory = here.memory(missing=False)
    yield from memory("reconcile, nothing to do", nothing_memory)
    yield from memory("reconcile, all missing", here.memory(missing=True))


def signing_up(lab: Lab, stack: ExitStack, here: Filled, size: int) -> Iterator[dict[str, Any]]:
    """Compared with a database with as many users and the hand-written trigger, which does nothing for a
    sign-in.
    """
    hand_written = stack.enter_context(superuser_of(stack.enter_context(lab.database())))
    hand_written.execute("set session_replication_role = replica")
    hand_written.execute(sign_up.IMPORT % size)
    hand_written.execute(sign_up.HAND_WRITTEN)
    hand_written.execute("insert into public.users (id, email) select id, email from auth.users")
    sides = {"ours": here.superuser, "limit": hand_written}
    for connection in sides.values():
        connection.execute("set session_replication_role = default")
        connection.execute("vacuum analyze auth.users, public.users")
        # A new index is not in the server's memory. Otherwise one side, which was filled last, would have its
        # index there, and the other would read a page for most sign-ups. Rebuilding also gives both indexes
        # the same structure.
        connection.execute("reindex table public.users")
        # Otherwise one side would wait for the disk, because the other side's files were read last.
        read_ahead(connection)
    # After a checkpoint, the first change of a page writes the complete page to the WAL: now on both sides.
    hand_written.execute("checkpoint")

    def turns(statement: str) -> dict[str, Callable[[], float]]:
        return {side: (lambda c=each: _each(c, statement)) for side, each in sides.items()}

    take_turns(turns(sign_up.SIGN_UPS), 1, slices=WARM_UPS, warm_up=False)
    for name, statement in (("sign-up", sign_up.SIGN_UPS), ("sign-in", sign_up.SIGN_INS)):
        yield from pair(name, take_turns(turns(statement), lab.rounds, slices=5), "µs a statement")


def read_ahead(connection: psycopg.Connection[Any]) -> None:
    """Read the database's files into the system's cache."""
    row = connection.execute(
        "select current_setting('data_directory'), oid from pg_database where datname = current_database()"
    ).fetchone()
    assert row is not None
    for path in Path(row[0], "base", str(row[1])).iterdir():
        with path.open("rb") as file:
            while file.read(1 << 20):
                pass


def recording(lab: Lab, here: Filled, size: int) -> Iterator[dict[str, Any]]:
    """With as many events in the log: a batch through the SQL function, and an update of a tracked row."""
    connection = here.superuser
    connection.execute(EVENTS, [size, min(size, 100_000)])
    connection.execute("vacuum analyze public.audit_logs")
    users = [user for (user,) in connection.execute("select id from public.users limit 1000")]
    with here.database.connect("postgres") as owner:
        events = iter(make_events(users, BATCHES * BATCH * 2 * (lab.rounds + 1)))
        store = Batches(owner, events)
        yield from pair("audit event, stored", take_turns({"ours": store.next}, lab.rounds), "µs an event")
        owner.execute("set search_path = public")
        for name in ("tracked", "untracked"):
            owner.execute(TABLE.format(name=name))
            owner.execute(
                f"insert into {name} select n, n, n, n, n from generate_series(1, {STATEMENTS}) as n"
            )
        run(tracking.track(Settings(), "tracked", TrackOptions(), Redactor().is_secret), owner)
        sides = {"ours": "tracked", "limit": "untracked"}
        update = "update public.{} set quantity = quantity + 1 where id = n"
        loop = "do $$ begin for n in 1..%d loop {}; end loop; end $$"
        times = take_turns(
            {
                side: (lambda t=table: _each(connection, loop.format(update.format(t))))
                for side, table in sides.items()
            },
            lab.rounds,
            slices=5,
        )
        yield from pair("tracked row, updated", times, "µs a statement")


class Batches:
    """Events that are stored batch by batch."""

    def __init__(self, owner: psycopg.Connection[Any], events: Iterator[dict[str, Any]]) -> None:
        self.owner = owner
        self._events = events

    def next(self) -> float:
        """Seconds an event of the next few batches."""
        batches = [next(self._events) for _ in range(BATCHES * BATCH)]
        return timed(lambda: by_function(self, batches)) / len(batches)


def _each(connection: psycopg.Connection[Any], loop: str) -> float:
    return timed(lambda: connection.execute(loop % STATEMENTS)) / STATEMENTS


def pair(series: str, times: Times, unit: str) -> Iterator[dict[str, Any]]:
    """The medians of usersync and of the limit, if there is one."""
    for side, name in (("ours", series), ("limit", f"{series}: the limit")):
        if side in times:
            yield {"series": name, "value": round(statistics.median(times[side]) * 1e6, 3), "unit": unit}


def memory(series: str, megabytes: float | None) -> Iterator[dict[str, Any]]:
    if megabytes is not None:
        yield {"series": f"{series}: memory", "value": round(megabytes, 1), "unit": "MB"}


if __name__ == "__main__":
    main()
