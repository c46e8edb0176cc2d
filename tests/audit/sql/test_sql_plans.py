"""Query plans: each search uses its index in every partition that it must read."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from psycopg.rows import dict_row
from psycopg.types.json import Jsonb
from sql_log import Log, event

from fixtures_project import opened
from usersync.audit import reading
from usersync.audit.histogram import histogram
from usersync.audit.models import EventFilter, EventPosition
from usersync.core.daily_counts import counts_by_day
from usersync.sql.audit_reading import AuditReading
from usersync.testing.install import install
from usersync.transports.run import run

pytestmark = [pytest.mark.newest_server, pytest.mark.one_isolation_level]

ROWS = 12_000


@pytest.fixture
def project(cluster, names, settings):
    """A project with 12,000 events by 500 users, in this month and the two months before."""

    def build(database):
        install(database, settings)
        with opened(database, settings, names) as project:
            fill(Log(project))

    database = cluster.clone(cluster.template(f"many_events_{names}", build=build))
    with opened(database, settings, names) as project:
        yield project
    cluster.drop(database)


def fill(log):
    log.owner.execute("""
        select usersync.make_audit_partition((date_trunc('month', now()) - make_interval(months => n))::date)
        from generate_series(1, 2) as n
    """)
    users = log.project.auth.import_users(500)
    now = datetime.now(UTC)
    rows = [
        event(
            occurred_at=(now - timedelta(minutes=7 * n)).isoformat(),
            actor_id=str(users[n % 500]),
            action=("rare" if n % 400 == 3 else ("product", "stock", "order")[n % 3]) + f".a{n % 7}",
            entity_type="product",
            entity_id=n % 1_000,
            request_id=f"r-{n}",
            **({"tenant_id": f"t-{n % 50}", "on_behalf_of": f"b-{n % 40}"} if n % 2 else {}),
        )
        for n in range(ROWS)
    ]
    for start in range(0, ROWS, 4_000):
        log.record(*rows[start : start + 4_000])
    log.owner.execute(f"analyze {log.table}")


def explained(search, log):
    """The scans of a search: node, index, condition, and the number of rows read."""
    given = {"wanted": {}, "after": None, "oldest_first": False} | next(search).arguments["arguments"]
    made = "select usersync.audit_query(%s, %s, %s)"
    values = (Jsonb(given["wanted"]), given["after"] and Jsonb(given["after"]), given["oldest_first"])
    (text,) = log.owner.execute(made, values).fetchone()
    limit = f"limit {given['page_size'] + 1}" if "page_size" in given else ""
    with log.owner.cursor(row_factory=dict_row) as cursor:
        plan = cursor.execute(f"explain (analyze, format json) {text} {limit}").fetchone()
    return list(_scans(plan["QUERY PLAN"][0]["Plan"]))


def _scans(node):
    if "Relation Name" in node or "Index Name" in node:
        looked_at = (node["Actual Rows"] + node.get("Rows Removed by Filter", 0)) * node["Actual Loops"]
        yield node["Node Type"], node.get("Index Name", ""), node.get("Index Cond", ""), looked_at
    for child in node.get("Plans", ()):
        yield from _scans(child)


#: The filters of a search, and the column whose index it should use.
SEARCHES = {
    "user": ({"user_id": None}, "user_id"),
    "actor": ({"actor_id": None}, "actor_id"),
    "entity": ({"entity_type": "product", "entity_id": "7"}, "entity_id"),
    "action": ({"action": "rare.a3"}, "action"),
    "actions": ({"action": "rare.a3*"}, "action"),
    "tenant": ({"tenant_id": "t-7"}, "tenant_id"),
    "on behalf of": ({"on_behalf_of": "b-7"}, "on_behalf_of"),
    "entity of a tenant": ({"tenant_id": "t-7", "entity_type": "product", "entity_id": "7"}, "entity_id"),
    "actor of a tenant": ({"tenant_id": "t-7", "actor_id": None}, "actor_id"),
    "request": ({"request_id": "r-77"}, "request_id"),
    "time": ({"until": timedelta(days=20)}, "occurred_at"),
    "everything": ({}, "occurred_at"),
}


def _value_at_run_time(value, log):
    """Replace placeholders of a case: a user of this database, and a relative time."""
    if value is None:
        return log.owner.execute(f"select actor_id from {log.table} where request_id = 'r-7'").fetchone()[0]
    return datetime.now(UTC) - value if isinstance(value, timedelta) else value


@pytest.mark.parametrize("search", SEARCHES)
def test_a_search_reads_little_more_than_it_returns(log, search):
    fields, column = SEARCHES[search]
    someone = {name: _value_at_run_time(value, log) for name, value in fields.items()}
    scans = explained(reading.search(EventFilter(**someone), limit=50), log)
    assert not [scan for scan in scans if scan[0] == "Seq Scan" and scan[3] > 0], scans
    used = [scan for scan in scans if scan[1] and (column in scan[2] or column in scan[1])]
    assert used, scans
    assert sum(looked_at for *_, looked_at in scans) <= 400, scans


def test_the_next_page_starts_after_the_last_one(log):
    """No newer event is read, however old the events of the page are."""
    position = EventPosition(datetime.now(UTC) - timedelta(minutes=7 * 9_000), "x")
    scans = explained(reading.search(EventFilter(), after=position, limit=50), log)
    assert sum(looked_at for *_, looked_at in scans) <= 200, scans


def test_months_outside_the_search_are_not_read(log):
    now = datetime.now(UTC)
    month = f"{now:%Y_%m}"
    start = now.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    scans = explained(reading.search(EventFilter(since=start, until=now, text="nothing")), log)
    places = {scan[1] for scan in scans}
    assert all(month in each or "default" in each or not each for each in places), scans


def test_a_count_by_day_reads_a_bounded_part_of_the_index(log):
    """20 of 205 events of a day are counted."""
    reader = AuditReading(log.project.settings)
    counting = next(counts_by_day(f"{reader.table} as stored", reader.time, days=10, most=20))
    with log.owner.cursor(row_factory=dict_row) as cursor:
        plan = cursor.execute(f"explain (analyze, format json) {counting.sql}", counting.params).fetchone()
        counted = cursor.execute(counting.sql, counting.params).fetchall()
    scans = list(_scans(plan["QUERY PLAN"][0]["Plan"]))
    assert not [scan for scan in scans if scan[0] == "Seq Scan" and scan[3] > 0], scans
    assert {row["number"] for row in counted[1:-1]} == {20}
    assert sum(looked_at for *_, looked_at in scans) <= 2 * 10 * 20, scans


def with_plans(steps, plans):
    """An operation that also explains its statements over the log."""
    step = next(steps)
    while True:
        if "as stored" in getattr(step, "sql", ""):
            (row,) = yield replace(step, sql=f"explain (analyze, format json) {step.sql}")
            plans.append(row["QUERY PLAN"][0]["Plan"])
        try:
            step = steps.send((yield step))
        except StopIteration as end:
            return end.value


@pytest.mark.parametrize(
    ("fields", "counted"), [({}, {20}), ({"tenant_id": "t-7"}, {4, 5}), ({"outcome": "denied"}, {0})]
)
def test_a_histogram_reads_a_bounded_part_of_an_index(log, fields, counted):
    """20 of 205 events of a day are counted, although the bars contain most of the table."""
    now = datetime.now(UTC)
    bars = histogram(EventFilter(**fields), since=now - timedelta(days=50), until=now, most=20, limit_s=60)
    plans = []
    found = run(with_plans(bars, plans), log.owner)
    scans = [scan for plan in plans for scan in _scans(plan)]
    assert not [scan for scan in scans if scan[0] == "Seq Scan" and scan[3] > 0], scans
    assert len(found.bars) == 51
    assert {bar.number for bar in found.bars[1:-1]} <= counted
    # A filter without an index reads all events of the period. The statement timeout limits this.
    assert sum(looked_at for *_, looked_at in scans) <= (ROWS if "outcome" in fields else 2 * 51 * 20), scans


def test_one_event_is_found_by_its_id(log):
    first = log.owner.execute(f"select id from {log.table} where tenant_id = 't-7' limit 1").fetchone()[0]
    for shown in (reading.show(first), reading.show(first, tenant_id="t-7")):
        scans = explained(shown, log)
        assert sum(looked_at for *_, looked_at in scans) == 1
        assert all("pkey" in scan[1] or scan[0] == "Seq Scan" for scan in scans)
