"""Shared by the benchmarks: one server with production settings, sides that take turns, rows of the table.

A figure compares usersync with a named peer or limit in the same round, so that noise affects both sides.
"""

from __future__ import annotations

import random
import statistics
import time
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from usersync.config.settings import parse_settings
from usersync.embedded import EmbeddedPostgres
from usersync.testing import SupabaseCluster

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Callable, Iterator, Mapping, Sequence

    import psycopg

    from usersync.testing import SupabaseDatabase

#: Durability as in production, memory as on a small server. Checkpoints and autovacuum run only between the
#: sides, because they would disturb one of them.
SETTINGS = {
    "fsync": "on",
    "synchronous_commit": "on",
    "full_page_writes": "on",
    "wal_level": "logical",
    "shared_buffers": "1GB",
    "max_wal_size": "16GB",
    "checkpoint_timeout": "1h",
    "autovacuum": "off",
}

#: Settings with an audit log.
LOGGED = parse_settings({"audit": {"enabled": True}})

Times = dict[str, list[float]]
"""Seconds per unit of each side, a figure a round."""


TIMES = "\N{MULTIPLICATION SIGN}"


@dataclass(frozen=True)
class Lab:
    """The server of all benchmarks, and how much of each they run."""

    server: EmbeddedPostgres
    cluster: SupabaseCluster
    options: Namespace

    @property
    def rounds(self) -> int:
        return int(self.options.rounds)

    @contextmanager
    def database(self) -> Iterator[SupabaseDatabase]:
        """A database as Supabase creates it. It is dropped afterwards."""
        database = self.cluster.create()
        yield database
        self.cluster.drop(database)


@dataclass(frozen=True)
class Row:
    """One row of the table: the figure, its peer, and the aim.

    ``value`` is the median of all turns; the middle half of them is between ``low`` and ``high`` (with fewer
    than eight turns, all of them). All are in ``unit``.
    """

    name: str
    against: str
    value: float
    low: float
    high: float
    unit: str = TIMES
    ours: str = ""
    theirs: str = ""
    limit: float | None = None
    sense: Literal["at most", "at least"] = "at most"

    @property
    def aim(self) -> str:
        if self.limit is None:
            return ""
        return f"{'≤' if self.sense == 'at most' else '≥'} {shown(self.limit, self.unit)}"

    @property
    def met(self) -> bool | None:
        if self.limit is None:
            return None
        return self.value <= self.limit if self.sense == "at most" else self.value >= self.limit


def shown(value: float, unit: str) -> str:
    """A figure with its unit, with its significant digits."""
    digits = 0 if abs(value) >= 100 else 1 if abs(value) >= 10 else 2
    figure = f"{value:,.0f}" if value == round(value) else f"{value:,.{digits}f}"
    return f"{figure}{unit if unit in {TIMES, ''} else ' ' + unit}"


@contextmanager
def production_lab(options: Namespace) -> Iterator[Lab]:
    """A new server, shaped like Supabase, with fsync on."""
    with (
        EmbeddedPostgres(version=options.pg, settings=SETTINGS) as server,
        SupabaseCluster.on(server) as cluster,
    ):
        yield Lab(server, cluster, options)


def timed(work: Callable[[], object]) -> float:
    """The seconds that ``work`` takes."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def take_turns(
    sides: Mapping[str, Callable[[], float]],
    rounds: int,
    *,
    slices: int = 1,
    before: Callable[[], object] = lambda: None,
    warm_up: bool = True,
) -> Times:
    """Run every side ``slices`` times a round, each time in another order, after ``before``.

    Short turns are for short work: a disturbance of the machine then affects all sides. The first round is a
    warm-up and does not count.
    """
    times: Times = {name: [] for name in sides}
    for number in range(rounds + warm_up):
        before()
        for _ in range(slices):
            for name in random.sample(list(sides), len(sides)):
                took = sides[name]()
                if number >= warm_up:
                    times[name].append(took)
    return times


def _row(name: str, against: str, values: Sequence[float], **rest: Any) -> Row:
    low, high = _spread(values)
    return Row(name, against, statistics.median(values), low, high, **rest)


def _spread(values: Sequence[float]) -> tuple[float, float]:
    """The range of the middle half of many values; of few values, of all."""
    if len(values) < 8:
        return min(values), max(values)
    low, _, high = statistics.quantiles(values, n=4)
    return low, high


def slower(name: str, against: str, times: Times, ours: str, theirs: str, **rest: Any) -> Row:
    """How many times as long usersync takes."""
    ratios = [mine / other for mine, other in zip(times[ours], times[theirs], strict=True)]
    return _row(name, against, ratios, **_both(times, ours, theirs), **rest)


def faster(name: str, against: str, times: Times, ours: str, theirs: str, **rest: Any) -> Row:
    """How many times as fast usersync is."""
    ratios = [other / mine for mine, other in zip(times[ours], times[theirs], strict=True)]
    return _row(name, against, ratios, sense="at least", **_both(times, ours, theirs), **rest)


def over(name: str, against: str, times: Times, ours: str, theirs: str, **rest: Any) -> Row:
    """How many microseconds usersync adds."""
    added = [(mine - other) * 1e6 for mine, other in zip(times[ours], times[theirs], strict=True)]
    return _row(name, against, added, unit="µs", **_both(times, ours, theirs), **rest)


def share(name: str, against: str, times: Times, ours: str, theirs: str, *, base: str, **rest: Any) -> Row:
    """The ratio of what usersync adds to ``base`` and what the peer adds, from the medians of both."""
    mine, other = (
        [with_it - without for with_it, without in zip(times[side], times[base], strict=True)]
        for side in (ours, theirs)
    )
    unit = statistics.median(other)
    return _row(name, against, [each / unit for each in mine], **_both(times, ours, theirs), **rest)


def plain(name: str, against: str, values: Sequence[float], unit: str, **rest: Any) -> Row:
    """A figure without a comparison, such as a count."""
    return _row(name, against, values, unit=unit, **rest)


def _both(times: Times, ours: str, theirs: str) -> dict[str, str]:
    return {"ours": microseconds(times[ours]), "theirs": microseconds(times[theirs])}


def microseconds(seconds: Sequence[float]) -> str:
    """The median, in microseconds."""
    return shown(statistics.median(seconds) * 1e6, "µs")


def medians(times: Times) -> dict[str, float]:
    """The median of each side, in microseconds."""
    return {name: round(statistics.median(each) * 1e6, 2) for name, each in times.items()}


def superuser_of(database: SupabaseDatabase) -> psycopg.Connection[Any]:
    """A superuser's connection without time-outs, which may empty any table."""
    connection = database.connect("supabase_admin")
    connection.execute("set statement_timeout = 0")
    connection.execute("set usersync.maintaining = 'audit'")
    return connection


def wal_bytes(connection: psycopg.Connection[Any], work: Callable[[], object]) -> float:
    """The bytes that ``work`` writes to the write-ahead log."""
    (before,) = connection.execute("select pg_current_wal_insert_lsn()").fetchone() or ("",)
    work()
    row = connection.execute("select pg_wal_lsn_diff(pg_current_wal_insert_lsn(), %s)", [before]).fetchone()
    return float(row[0]) if row else 0.0
