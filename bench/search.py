"""Searching among many events, against an index scan of the same rows; and the size of an event on disk."""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING, Any

from measuring import LOGGED, Row, plain, slower, superuser_of, take_turns, timed
from usersync.audit import reading
from usersync.audit.models import EventFilter
from usersync.testing.install import install
from usersync.transports.run import run

if TYPE_CHECKING:
    from contextlib import ExitStack

    from measuring import Lab

#: The events of a page.
PAGE = 100

#: How many values are looked up in each turn.
TURNS = 20

#: Each actor and entity has this many events, each user and tenant ten times as many.
EVENTS_EACH = 100

USERS = """
    insert into public.users (id, email)
    select usersync_bench_uuid('user', n), n || '@example.com' from generate_series(0, %(users)s - 1) as n
"""

UUIDS = """
    create function usersync_bench_uuid(kind text, n bigint) returns uuid language sql immutable
        return md5(kind || n)::uuid
"""

MONTH = """
    select usersync.make_audit_partition((date_trunc('month', now()) - %s * interval '1 month')::date)
"""

#: Events of ninety days, with ids that begin with their time, as usersync makes them.
FILL = """
    insert into public.audit_logs (id, occurred_at, recorded_at, action, outcome, actor_id, actor_type,
        user_id, entity_type, entity_id, changes, metadata, request_id, ip, tenant_id, source)
    select (lpad(to_hex((extract(epoch from at) * 1000)::bigint), 12, '0') || '7'
            || substr(md5(n::text), 14, 3) || '8' || substr(md5(n::text), 18, 15))::uuid,
        at, at, (array['product.created', 'product.updated', 'stock.adjusted', 'order.paid'])[1 + n %% 4],
        'succeeded', usersync_bench_uuid('actor', mixed / 7 %% %(actors)s)::text, 'user',
        usersync_bench_uuid('user', mixed %% %(users)s), 'product', (mixed / 3 %% %(actors)s)::text,
        '{"quantity": [10, 9], "location": ["A-12", "B-7"]}', '{"warehouse": "north", "reason": "sold"}',
        usersync_bench_uuid('request', n / 3)::text, '192.0.2.7', 'tenant-' || mixed / 11 %% %(users)s, 'app'
    from generate_series(%(first)s::bigint, %(last)s) as n,
        lateral (select now() - (%(count)s - n) * interval '90 days' / %(count)s,
            hashint8extended(n, 1) & 9007199254740991) as each (at, mixed)
"""

SIZES = """
    select coalesce(parent.relname, 'the rows') as part, sum(pg_relation_size(stored.oid)) as bytes
    from pg_partition_tree('public.audit_logs') as tree
    join lateral (
        select tree.relid::oid, null::oid union all
        select indexrelid, inhparent from pg_index left join pg_inherits on inhrelid = indexrelid
        where indrelid = tree.relid
    ) as stored (oid, parent) on true
    left join pg_class as parent on parent.oid = stored.parent
    where tree.isleaf group by 1 order by 2 desc
"""


class Log:
    """A log with many events."""

    def __init__(self, lab: Lab, stack: ExitStack) -> None:
        database = stack.enter_context(lab.database())
        install(database, LOGGED)
        self._superuser = superuser_of(database)
        stack.callback(self._superuser.close)
        self._superuser.execute("set session_replication_role = replica")
        self.count = lab.options.search_events
        self._actors = max(1, self.count // EVENTS_EACH)
        self._users = max(1, self._actors // 10)
        self._chance = Random(1)  # noqa: S311
        self._fill()
        self._owner = stack.enter_context(database.connect("postgres"))
        self._owner.execute("set statement_timeout = 0")

    def _fill(self) -> None:
        run_one = self._superuser.execute
        for month in (3, 2, 1):
            run_one(MONTH, [month])
        sizes = {"count": self.count, "actors": self._actors, "users": self._users}
        run_one(UUIDS)
        run_one(USERS, sizes)
        for first in range(1, self.count + 1, 1_000_000):
            run_one(FILL, sizes | {"first": first, "last": min(self.count, first + 999_999)})
        run_one("vacuum analyze public.audit_logs")

    def sizes(self) -> dict[str, float]:
        """Bytes an event, of the rows and of each index."""
        return {
            str(part): round(float(size) / self.count, 1) for part, size in self._superuser.execute(SIZES)
        }

    def searches(self) -> dict[str, tuple[list[EventFilter], str, bool]]:
        """The filters, the SQL condition that finds the same events, and whether the oldest events come
        first.
        """

        def some(kind: str, count: int) -> list[str]:
            keys = [self._chance.randrange(count) for _ in range(TURNS)]
            statement = f"select usersync_bench_uuid('{kind}', n)::text from unnest(%s::bigint[]) as n"
            return [value for (value,) in self._superuser.execute(statement, [keys])]

        numbers = [str(self._chance.randrange(self._actors)) for _ in range(TURNS)]
        tenants = [f"tenant-{self._chance.randrange(self._users)}" for _ in range(TURNS)]
        return {
            "user": (
                [EventFilter(user_id=each) for each in some("user", self._users)],
                "user_id = %(user_id)s",
                False,
            ),
            "actor": (
                [EventFilter(actor_id=each) for each in some("actor", self._actors)],
                "actor_id = %(actor_id)s",
                False,
            ),
            "entity": (
                [EventFilter(entity_type="product", entity_id=each) for each in numbers],
                "entity_type = %(entity_type)s and entity_id = %(entity_id)s",
                False,
            ),
            "tenant": (
                [EventFilter(tenant_id=each) for each in tenants],
                "tenant_id = %(tenant_id)s",
                False,
            ),
            "request": (
                [EventFilter(request_id=each) for each in some("request", self.count // 3)],
                "request_id = %(request_id)s",
                False,
            ),
            "action": (
                [EventFilter(action="order.paid")] * TURNS,
                "action = %(action)s",
                False,
            ),
            "history": (
                [EventFilter(entity_type="product", entity_id=each) for each in numbers],
                "entity_type = %(entity_type)s and entity_id = %(entity_id)s",
                True,
            ),
            "the newest page": ([EventFilter()] * TURNS, "true", False),
        }

    def search(self, filters: list[EventFilter], *, oldest_first: bool) -> float:
        """Seconds a page of usersync's search."""
        return timed(lambda: [self._page(each, oldest_first=oldest_first) for each in filters]) / len(filters)

    def _page(self, wanted: EventFilter, *, oldest_first: bool) -> int:
        page = run(reading.search(wanted, limit=PAGE, oldest_first=oldest_first), self._owner)
        return len(page.events)

    def scan(self, filters: list[EventFilter], condition: str, *, oldest_first: bool) -> float:
        """Seconds for the same rows, read with their index."""
        statement = (
            f"select * from public.audit_logs where {condition} "
            f"order by occurred_at {'' if oldest_first else 'desc'} limit {PAGE}"
        )
        values = [each.describe() for each in filters]
        return timed(lambda: [self._scan(statement, each) for each in values]) / len(values)

    def _scan(self, statement: str, values: dict[str, Any]) -> int:
        return len(self._owner.execute(statement, values, prepare=False).fetchall())

    def check(self, filters: list[EventFilter], condition: str, *, oldest_first: bool) -> None:
        """Both sides find the same number of events."""
        for each in filters:
            found = self._page(each, oldest_first=oldest_first)
            statement = f"select id from public.audit_logs where {condition} limit {PAGE}"
            assert found == self._scan(statement, each.describe()), each


def measure(lab: Lab, stack: ExitStack) -> tuple[list[Row], dict[str, Any]]:
    """Measure searches and the size of events."""
    log = Log(lab, stack)
    rows = []
    for name, (filters, condition, oldest_first) in log.searches().items():
        log.check(filters, condition, oldest_first=oldest_first)
        times = take_turns(
            {
                "search": lambda f=filters, o=oldest_first: log.search(f, oldest_first=o),
                "scan": lambda f=filters, c=condition, o=oldest_first: log.scan(f, c, oldest_first=o),
            },
            lab.rounds,
        )
        what = name if name in {"history", "the newest page"} else f"search by {name}"
        rows.append(
            slower(f"{what}, {log.count:,} events", "an index scan", times, "search", "scan", limit=2)
        )
    sizes = log.sizes()
    rows.append(plain("an event on disk, with its indexes", "", [sum(sizes.values())], "bytes"))
    return rows, {"unit": "bytes an event", "the log": sizes}
