"""Reading the audit log over a connection, a pool and the Data API, blocking and with asyncio."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import pytest
from psycopg_pool import ConnectionPool

from postgrest_server import SECRET_KEY
from usersync import DataApi
from usersync.audit.models import FieldChange
from usersync.errors import ConnectionFailedError, NotInstalledError, SettingsError

pytestmark = pytest.mark.newest_server

START = datetime(2026, 3, 1, tzinfo=UTC)

#: Searches, and the numbers of the events that they find.
SEARCHES = [
    ({}, [5, 4, 3, 2, 1, 0]),
    ({"oldest_first": True}, [0, 1, 2, 3, 4, 5]),
    ({"limit": 2}, [5, 4]),
    ({"action": "stock.*"}, [3, 2]),
    ({"action": "order.paid"}, [4]),
    ({"entity_type": "product"}, [2, 1, 0]),
    ({"entity": ("product", 1)}, [1]),
    ({"entity": ("product", 1), "entity_type": "product", "outcome": "failed"}, []),
    ({"actor_id": UUID(int=7)}, [1]),
    ({"outcome": "denied"}, [3]),
    ({"request_id": "r-5"}, [5]),
    (
        {"since": START + timedelta(minutes=4), "until": START.replace(tzinfo=None) + timedelta(minutes=5)},
        [4],
    ),
    ({"text": "größe 100%"}, [3]),
    ({"user_id": str(UUID(int=9)), "text": None}, []),
]


def numbers(page):
    return [int(event.metadata["number"]) for event in page.events]


@pytest.fixture
def ids(log):
    """Six events, and their ids."""
    fields = [
        {
            "action": "product.created",
            "entity": ("product", 0),
            "changes": {"name": (None, "Bolt"), "odd": (1.5, [2])},
        },
        {"action": "product.updated", "entity": ("product", 1), "actor_id": UUID(int=7)},
        {"action": "stock.moved", "entity": ("product", 2), "ip": "203.0.113.7"},
        {"action": "stock.counted", "outcome": "denied", "metadata": {"why": "Größe 100%"}},
        {"action": "order.paid", "entity": ("order", 4)},
        {"action": "order.sent", "request_id": "r-5", "user_agent": "agent"},
    ]
    made = []
    for number, event in enumerate(fields):
        event["metadata"] = event.get("metadata", {}) | {"number": number}
        made.append(log.record(occurred_at=START + timedelta(minutes=number), **event))
    assert log.flush()
    return made


@pytest.fixture
def each_log(store, serve, make_log):
    """A log for each kind of source: connection string, pool and Data API."""
    with ConnectionPool(store.dsn, min_size=1, max_size=2) as pool:
        api = DataApi(serve(store.database).url, SECRET_KEY)
        yield {name: make_log(source) for name, source in (("dsn", store.dsn), ("pool", pool), ("api", api))}


@pytest.mark.slow
def test_every_source_finds_the_same_events(ids, each_log):
    """Reads blocking and with asyncio, in two event loops."""

    async def read(log):
        pages = [await log.asearch(**wanted) for wanted, _ in SEARCHES]
        found = pages, await log.ahistory(("product", "0")), await log.aget(ids[0]), await log.aget(uuid4())
        await log.aclose()
        return found

    results = []
    for log in each_log.values():
        pages = [log.search(**wanted) for wanted, _ in SEARCHES]
        results.append((pages, log.history(("product", "0")), log.get(UUID(ids[0])), log.get(str(uuid4()))))
        results += [asyncio.run(read(log)) for _ in range(2)]
    pages, history, event, none = results[0]
    assert [numbers(page) for page in pages] == [found for _, found in SEARCHES]
    assert history.events == (event,)
    assert none is None
    assert (event.id, event.occurred_at, event.entity_id) == (UUID(ids[0]), START, "0")
    assert event.recorded_at.tzinfo is UTC
    assert FieldChange("name", None, "Bolt") in event.field_changes
    assert FieldChange("odd", 1.5, [2]) in event.field_changes
    for other in results[1:]:
        assert other == results[0]


def test_a_cursor_of_one_source_works_with_the_others(ids, each_log):
    """Reads one page over a connection, one over the Data API, and one from a pool, while events arrive."""
    dsn, pool, api = each_log.values()
    first = dsn.search(limit=2, until=START + timedelta(days=1))
    dsn.record("later", occurred_at=START + timedelta(hours=1), metadata={"number": 9})
    assert dsn.flush()
    second = api.search(limit=2, after=first.next)
    third = pool.search(limit=2, after=second.next)
    assert [numbers(page) for page in (first, second, third)] == [[5, 4], [3, 2], [1, 0]]
    assert third.next is None
    with pytest.raises(SettingsError, match="is not a cursor of this search"):
        api.search(action="order.*", after=first.next)


@pytest.mark.slow
def test_a_page_of_large_events_ends_early(store):
    """A page stays below the size limit of a value of type jsonb, 256 MB."""
    store.owner.execute("""
        insert into public.audit_logs (id, occurred_at, action, outcome, actor_type, source, metadata)
        select gen_random_uuid(), now(), 'large', 'succeeded', 'system', 'app',
            jsonb_build_object('text', repeat('x', 33 << 20))
        from generate_series(1, 3)
    """)
    read = (
        "select jsonb_array_length(page -> 'events'), page -> 'more' "
        "from usersync.search_audit_log('{}', null, false, 10) as page"
    )
    assert store.owner.execute(read).fetchone() == (2, True)


INVALID_CALLS = [
    ({"limit": 0}, "limit"),
    ({"limit": 10**9}, "limit"),
    ({"after": "x"}, "is not a cursor"),
    ({"entity": "product"}, "entity"),
    ({"entity": ("product", None)}, "entity"),
    ({"entity": ("line", (42, None))}, "entity: the line has no id"),
    ({"entity": ("product", 1), "entity_type": "order"}, "entity_type"),
    ({"actor": "me"}, "no filter 'actor'"),
    ({"outcome": "denid"}, "outcome"),
    ({"since": "yesterday"}, "since"),
]


@pytest.mark.parametrize(("given", "message"), INVALID_CALLS)
def test_an_invalid_call_raises_before_it_connects(make_log, given, message):
    log = make_log("postgresql://nobody@localhost:1/nothing")
    with pytest.raises(SettingsError, match=message):
        log.search(**given)
    with pytest.raises(SettingsError, match=message):
        asyncio.run(log.asearch(**given))


def test_errors_name_their_reason(make_log, offline, cluster):
    nowhere = make_log("postgresql://nobody@localhost:1/nothing")
    for read in (nowhere.search, lambda: nowhere.history(("product", 1)), lambda: nowhere.get(uuid4())):
        with pytest.raises(ConnectionFailedError):
            read()
    with pytest.raises(SettingsError, match="only records"):
        offline.search()
    with pytest.raises(SettingsError, match="event_id: expected a UUID"):
        nowhere.get("42")
    bare = cluster.clone(cluster.template("supabase_old", regime="old"))
    try:
        log = make_log(bare.dsn())
        with pytest.raises(NotInstalledError):
            log.search()
        log.close()
    finally:
        cluster.drop(bare)


def test_a_closed_log_reads_on_a_new_connection(ids, log, store, eventually):
    others = (
        "select count(*) from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()"
    )
    for _ in range(2):
        assert len(log.search().events) == len(ids)
        assert len(asyncio.run(log.asearch()).events) == len(ids)
        log.close()
        eventually(lambda: store.owner.execute(others).fetchone() == (0,))
