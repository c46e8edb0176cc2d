"""The feed: the time to number an event, and to read a page at any position among many events."""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING, Any

from measuring import LOGGED, Row, plain, slower, superuser_of, take_turns, timed
from usersync.sql.audit_reading import AuditReading
from usersync.testing.install import install

if TYPE_CHECKING:
    from contextlib import ExitStack

    from measuring import Lab

#: The events of a page, and of a transaction that is numbered.
PAGE = 500

#: How many pages are read, and transactions are numbered, in each turn.
TURNS = 20

#: Inserts events of 1,000 entities.
INSERT = """
    insert into public.audit_logs (
        id, occurred_at, action, outcome, actor_type, entity_type, entity_id, source)
    select gen_random_uuid(), now() - (%(count)s - n) * interval '1 millisecond', 'stock.adjusted',
        'succeeded', 'system', 'product', (n %% 1000)::text, 'app'
    from generate_series(1, %(count)s) as n
"""


class Feed:
    """A log with many numbered events."""

    def __init__(self, lab: Lab, stack: ExitStack) -> None:
        database = stack.enter_context(lab.database())
        install(database, LOGGED)
        self._superuser = superuser_of(database)
        self.count = lab.options.feed_events
        self._chance = Random(1)  # noqa: S311
        self.number()  # starts the feed
        self.insert(self.count)
        self.number()
        self._superuser.execute("vacuum analyze public.audit_logs")
        self._superuser.execute("vacuum analyze usersync.event_numbers")
        # The same rows, in the order of the index that finds them, as the same documents.
        self._limit = (
            f"select jsonb_agg(to_jsonb(page)) from ({AuditReading(LOGGED).select.replace('%%', '%')} "
            "where stored.occurred_at >= %s order by stored.occurred_at limit %s) as page"
        )
        (self._oldest, self._newest) = self._superuser.execute(
            "select min(occurred_at), max(occurred_at) from public.audit_logs"
        ).fetchone() or (None, None)

    def insert(self, count: int = PAGE) -> None:
        """Insert events, in one transaction."""
        self._superuser.execute(INSERT, {"count": count})

    def number(self) -> None:
        """Number new events."""
        self._superuser.execute("select usersync.number_events()")

    def numbering(self) -> float:
        """Seconds an event."""
        return sum(self._numbered() for _ in range(TURNS)) / TURNS / PAGE

    def _numbered(self) -> float:
        self.insert()
        return timed(self.number)

    def idle(self) -> float:
        """Seconds for a call that finds no new event."""
        return timed(lambda: [self.number() for _ in range(TURNS)]) / TURNS

    def page(self) -> float:
        """Seconds for a page at a random position."""
        statement = "select usersync.read_events(%s, '{}', %s)"
        places = [self._chance.randrange(self.count - PAGE) for _ in range(TURNS)]
        return timed(lambda: [self._read(statement, place) for place in places]) / TURNS

    def bare_page(self) -> float:
        """Seconds for as many events of the log alone."""
        span = self._newest - self._oldest
        places = [self._oldest + span * self._chance.random() * 0.99 for _ in range(TURNS)]
        return timed(lambda: [self._read(self._limit, place) for place in places]) / TURNS

    def _read(self, statement: str, place: Any) -> None:
        self._superuser.execute(statement, [place, PAGE]).fetchall()


def measure(lab: Lab, stack: ExitStack) -> tuple[list[Row], dict[str, Any]]:
    """Number and read."""
    log = Feed(lab, stack)
    pages = take_turns({"feed": log.page, "log": log.bare_page}, lab.rounds)
    numbering = [log.numbering() * 1e6 for _ in range(lab.rounds)]
    idle = [log.idle() * 1e6 for _ in range(lab.rounds)]
    count = f"{log.count:,}"
    rows = [
        slower(
            f"feed, {PAGE} events at any position among {count}", "the same SELECT on the log alone",
            pages, "feed", "log", limit=1.2,
        ),
        plain("feed, numbering an event", "", numbering, "µs"),
        plain("feed, a call without new events", "", idle, "µs"),
    ]  # fmt: skip
    return rows, {}
