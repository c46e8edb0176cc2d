"""The cost of tracking a table, against no trigger, other packages, and the minimum.

One database has two tables for each way of tracking, equal except for the triggers. The ways take turns.
"""

from __future__ import annotations

import statistics
from typing import TYPE_CHECKING, Any

from measuring import LOGGED, Row, medians, slower, superuser_of, take_turns, timed
from tracking_peers import PEER_NAMES, PEERS
from usersync.audit.tracking import operations as tracking
from usersync.audit.tracking.state import TrackOptions
from usersync.config.redaction import Redactor
from usersync.testing.install import install
from usersync.transports.run import run

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import ExitStack

    import psycopg

    from measuring import Lab, Times
    from usersync.config.settings import Settings

TABLE = """
create table {name} (
    id bigint primary key,
    name text not null,
    sku text,
    price numeric(10, 2),
    quantity integer not null,
    active boolean not null default true,
    created_at timestamptz not null default now(),
    note text
)
"""

# The minimum for recording in the same transaction: without a trigger, prepared events get their ids and are
# inserted into the log, and into a table like it without indexes, foreign key and partitions.
READY = """
create table ready (like public.audit_logs);
insert into ready select * from public.audit_logs;
alter table ready drop column id;
create index on ready ((entity_id::int));
create table bare_log (like public.audit_logs including defaults);
analyze ready;
"""
LIMITS = {"to_log": "public.audit_logs", "to_bare_log": "public.bare_log"}
LIMIT_NAMES = {
    "to_log": "a bare INSERT into the log",
    "to_bare_log": "a bare INSERT into a log without indexes",
}

#: Each round of single rows has this number of short turns.
SLICES = 10

UNTRACKED, OURS = "untracked", "usersync"
WAYS = (UNTRACKED, *LIMITS, OURS, *PEERS)

LOGS = ("json_log", "record_version", "bare_log", "activity")


class Tracked:
    """The tables of all ways, and the statements on them."""

    def __init__(self, connection: psycopg.Connection[Any], bulk: int, singles: int, commits: int) -> None:
        self.connection = connection
        self.bulk, self.singles, self.commits = bulk, singles, commits

    def bulk_insert(self, way: str) -> float:
        """Seconds a row of one INSERT of many."""
        self.connection.execute(f'truncate "{way}_empty"')
        statement = (
            f'insert into "{way}_empty" (id, name, sku, price, quantity, active, created_at) select n, '
            f"'name of ' || n, 'sku-' || n, n * 1.5, n, true, now() from generate_series(1, {self.bulk}) as n"
        )
        return self._timed(statement + self._all_ready(way)) / self.bulk

    def bulk_update(self, way: str) -> float:
        """Seconds a row of one UPDATE of many."""
        return self._timed(f'update "{way}" set quantity = quantity + 1' + self._all_ready(way)) / self.bulk

    def single_inserts(self, way: str) -> float:
        """Seconds an INSERT of one row, thousands in one transaction."""
        self.connection.execute(f'truncate "{way}_empty"')
        return self._each(
            f'insert into "{way}_empty" (id, name, sku, price, quantity, active, created_at) '
            "values (n, 'name of ' || n, 'sku-' || n, n * 1.5, n, true, now()); " + self._one_ready(way)
        )

    def single_updates(self, way: str) -> float:
        """Seconds an UPDATE of one row, thousands in one transaction, without client and commit."""
        return self._each(f'update "{way}" set quantity = quantity + 1 where id = n; {self._one_ready(way)}')

    def committed_updates(self, way: str) -> float:
        """Seconds an UPDATE of one row from a client, each committed to disk."""
        update = f'update "{way}" set quantity = quantity + 1 where id = %s'
        ready = self._one_ready(way).replace("= n", "= %s")

        def update_each() -> None:
            for n in range(1, self.commits + 1):
                with self.connection.transaction():
                    self.connection.execute(update, [n])
                    if ready:
                        self.connection.execute(ready, [n])

        return timed(update_each) / self.commits

    def settle(self) -> None:
        """Empty all logs, so that all ways have logs of the same length."""
        for log in LOGS:
            self.connection.execute(f"truncate {log} cascade")
        self.connection.execute("truncate public.audit_logs")
        for way in WAYS:
            self.connection.execute(f'vacuum "{way}"')
        self.connection.execute("checkpoint")

    def _timed(self, statement: str) -> float:
        return timed(lambda: self.connection.execute(statement))

    def _each(self, body: str) -> float:
        return (
            self._timed(f"do $body$ begin for n in 1..{self.singles} loop {body} end loop; end $body$")
            / self.singles
        )

    def _all_ready(self, way: str) -> str:
        return f"; {self._ready(way)}" if way in LIMITS else ""

    def _one_ready(self, way: str) -> str:
        return f"{self._ready(way)} where entity_id::int = n;" if way in LIMITS else ""

    def _ready(self, way: str) -> str:
        new_id = "uuidv7()" if self.connection.info.server_version >= 180000 else "gen_random_uuid()"
        return f"insert into {LIMITS[way]} select {new_id}, ready.* from ready"


#: The work, and the aims: how many times as long as untracked, and as the alternative that _rival() names.
WORKLOADS: dict[str, tuple[Callable[[Tracked, str], float], float | None, float | None]] = {
    "bulk INSERT": (Tracked.bulk_insert, None, 1.5),
    "bulk UPDATE": (Tracked.bulk_update, None, 1.5),
    "single-row INSERT": (Tracked.single_inserts, None, 1.6),
    "single-row UPDATE": (Tracked.single_updates, None, 1.6),
    "single-row UPDATE and its commit": (Tracked.committed_updates, 1.2, None),
}


def measure(lab: Lab, stack: ExitStack) -> tuple[list[Row], dict[str, Any]]:
    """The rows of the table, and the time of each way."""
    database = stack.enter_context(lab.database())
    settings = LOGGED
    install(database, settings)
    with database.connect("postgres") as owner:
        prepare(owner, settings, database.dsn("postgres"), lab.options.bulk)
    connection = stack.enter_context(superuser_of(database))
    connection.execute("set search_path = public")
    connection.execute(f'update "{OURS}" set quantity = quantity + 1')
    connection.execute(READY)
    singles, commits = (max(1, count // SLICES) for count in (lab.options.statements, lab.options.commits))
    tracked = Tracked(connection, lab.options.bulk, singles, commits)
    rows, taken = [], {}
    for name, (workload, limit, peers_limit) in WORKLOADS.items():
        times = take_turns(
            {way: (lambda w=way, work=workload: work(tracked, w)) for way in WAYS},
            lab.rounds,
            slices=1 if name.startswith("bulk") else SLICES,
            before=tracked.settle,
        )
        taken[name] = medians(times)
        rows.append(slower(f"tracked {name}", UNTRACKED, times, OURS, UNTRACKED, limit=limit))
        rival = _rival(name, times)
        rows.append(slower(f"tracked {name}", PEER_NAMES[rival], times, OURS, rival, limit=peers_limit))
        rows.append(slower(f"tracked {name}", LIMIT_NAMES["to_log"], times, OURS, "to_log"))
        rows += [
            slower(f"{label}: {name}", UNTRACKED, times, way, UNTRACKED)
            for way, label in (LIMIT_NAMES | PEER_NAMES).items()
        ]
    return rows, {"unit": "µs a row"} | taken


def _rival(name: str, times: Times) -> str:
    """The alternative with which usersync is compared: for many rows, the fastest one."""
    if not name.startswith("bulk"):
        return "pghistory"
    return min(PEERS.keys() - {"nothing"}, key=lambda way: statistics.median(times[way]))


def prepare(owner: psycopg.Connection[Any], settings: Settings, dsn: str, bulk: int) -> None:
    """Create and track the tables of all ways."""
    owner.execute("set search_path = public")
    for way in WAYS:
        tables = (way, f"{way}_empty")
        for name in tables:
            owner.execute(TABLE.format(name=name))
        owner.execute(
            f"insert into {way} select n, 'name of ' || n, 'sku-' || n, n * 1.5, n "
            f"from generate_series(1, {bulk}) as n"
        )
        if way in PEERS:
            PEERS[way](owner, tables, dsn)
    for name in (OURS, f"{OURS}_empty"):
        run(tracking.track(settings, name, TrackOptions(), Redactor().is_secret), owner)
