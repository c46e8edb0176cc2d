"""Search: every filter and paging, in usersync's log and in an application's table."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import pytest
from sql_log import event

from usersync.audit import reading, upkeep
from usersync.audit.models import EventFilter, FieldChange
from usersync.errors import NotInstalledError, PrivilegeMissingError
from usersync.transports.run import run

pytestmark = pytest.mark.key_types

START = datetime(2026, 3, 1, tzinfo=UTC)


def at(minutes):
    return (START + timedelta(minutes=minutes)).isoformat()


def found(log, **wanted):
    """The entity ids of the found events, newest first."""
    page = run(reading.search(EventFilter(**wanted)), log.owner)
    assert page.next is None
    return [each.entity_id for each in page.events]


@pytest.fixture
def user_id(log):
    """A user with seven events that differ in the fields that filters compare."""
    user_id = log.project.auth.sign_up_email("ada@example.com")
    log.record(
        event(occurred_at=at(0), entity_id="0", actor_id=str(user_id), action="product.created"),
        event(occurred_at=at(1), entity_id="1", actor_id="job-7", action="product.updated", request_id="r-1"),
        event(occurred_at=at(2), entity_id="2", entity_type="product", action="product_x.created"),
        event(occurred_at=at(3), entity_id="3", outcome="denied", metadata={"why": "Größe 100%"}),
        event(occurred_at=at(4), entity_id="4", changes={"name": ["Bolt", "SCREW"]}),
        event(occurred_at=at(5), entity_id="5", entity_type="order", user_id=str(user_id)),
        event(occurred_at=at(5), entity_id="6", action="100%"),
    )
    return user_id


def test_each_filter_finds_the_matching_events(log, user_id):
    assert found(log, user_id=user_id) == ["5", "0"]
    assert found(log, actor_id="job-7") == ["1"]
    assert found(log, entity_type="product") == ["2"]
    assert found(log, entity_type="order", entity_id="5") == ["5"]
    assert found(log, action="product.created") == ["0"]
    assert found(log, action="product.*") == ["1", "0"]  # neither . nor _ is a wildcard
    assert found(log, action="product_*") == ["2"]
    assert found(log, action="100%*") == ["6"]
    assert found(log, outcome="denied") == ["3"]
    assert found(log, since=START + timedelta(minutes=1), until=START + timedelta(minutes=3)) == ["2", "1"]
    assert found(log, request_id="r-1") == ["1"]
    assert found(log, text="größe 100%") == ["3"]
    assert found(log, text="screw") == ["4"]
    assert found(log, text="100_") == []
    assert found(log, user_id=user_id, action="product.*") == ["0"]
    assert found(log, user_id=uuid4()) == []


def test_words_are_found_in_values_in_any_order(log):
    said = 'alpha beta gamma "quoted" path\\x tab\there'
    log.record(
        event(occurred_at=at(0), entity_id="a", metadata={"note": said, "deep": [{"n": 4711, "yes": True}]}),
        event(
            occurred_at=at(1), entity_id="b", metadata={"alpha": "note"}, changes={"beta": ["Old %s", "new"]}
        ),
    )
    for text in ("beta alpha", '"quoted"', "path\\x", "ALPHA gam", "4711 beta", "here tab"):
        assert found(log, text=text) == ["a"], text
    assert found(log, text="old %s note") == ["b"]  # one word in a change, another in the metadata
    for text in ("alpha old", "yes", "deep", "alpha delta", "object", "\\"):
        assert found(log, text=text) == (["a"] if text == "\\" else []), text
    assert found(log, text="note") == ["b"]  # in the other event, the word is a key


def test_times_are_in_utc_in_any_session_time_zone(log):
    log.record(event(occurred_at=at(0)))
    log.owner.execute("set timezone = 'America/New_York'")
    (record,) = run(reading.search(EventFilter()), log.owner).events
    assert record.occurred_at.isoformat() == START.isoformat()
    assert record.recorded_at.utcoffset() == timedelta(0)


def test_the_error_for_a_role_that_may_only_record_names_the_privileges(log, project):
    role = f"recorder_{uuid4().hex[:12]}"
    with project.database.connect("supabase_admin") as root:
        root.execute(
            f"create role {role}; grant execute on function public.record_audit_events(jsonb) to {role}"
        )
        root.execute(f"set role {role}")
        for plan in (reading.search(EventFilter()), upkeep.partitions()):
            with pytest.raises(PrivilegeMissingError, match="schema usersync, which belongs to postgres"):
                run(plan, root)
        root.execute(f"reset role; drop owned by {role}; drop role {role}")


def test_an_event_is_read_as_it_was_sent(log, user_id):
    sent = event(
        occurred_at=at(60),
        outcome="failed",
        actor_id=str(user_id),
        entity_type="product",
        entity_id="9",
        changes={"a": [1, None]},
        metadata={"x": [1]},
        request_id="r",
        ip="203.0.113.7",
        user_agent="agent",
        source="app",
    )
    log.record(sent)
    (record,) = run(reading.show(UUID(sent["id"])), log.owner)
    assert (record.id, record.user_id) == (UUID(sent["id"]), user_id)
    assert record.occurred_at == START + timedelta(hours=1)
    given = {key: getattr(record, key) for key in sent} | {
        "id": sent["id"],
        "occurred_at": sent["occurred_at"],
    }
    assert record.db_role == "postgres"
    assert given == sent
    assert run(reading.show(uuid4()), log.owner) == ()


@pytest.mark.parametrize("size", [1, 2, 3, 7, 100])
@pytest.mark.parametrize("oldest_first", [False, True])
def test_pages_are_complete_and_disjoint_while_others_write(log, user_id, size, oldest_first):
    """Half of the events have the same time. Between two pages, events are added at both ends."""
    log.record(*(event(occurred_at=at(5), entity_id=str(n)) for n in range(7, 14)))
    expected = {str(n) for n in range(14)}
    ids, cursor = [], None
    while True:
        page = run(
            reading.search(EventFilter(), after=cursor, limit=size, oldest_first=oldest_first), log.owner
        )
        ids += [each.entity_id for each in page.events if each.action != "later"]
        if page.next is None:
            break
        cursor = page.next
        log.record(event(action="later", occurred_at=at(-60 if oldest_first else 60)))
    assert len(ids) == 14
    assert set(ids) == expected


def test_history_returns_the_events_of_an_entity_in_order(log):
    thing = {"entity_type": "product", "entity_id": "42"}
    log.record(
        event(occurred_at=at(2), changes={"price": [5, 7], "name": ["Bolt", "Nut"]}, **thing),
        event(occurred_at=at(1), changes={"price": [None, 5], "odd": "value"}, **thing),
        event(occurred_at=at(3), **thing),
        event(occurred_at=at(1), changes={"price": [1, 2]}, entity_type="product", entity_id="43"),
    )
    page = run(reading.history("product", "42", limit=2), log.owner)
    assert [set(event.field_changes) for event in page.events] == [
        {FieldChange("price", None, 5), FieldChange("odd", None, "value")},
        {FieldChange("price", 5, 7), FieldChange("name", "Bolt", "Nut")},
    ]
    page = run(reading.history("product", "42", after=page.next), log.owner)
    assert ([event.field_changes for event in page.events], page.next) == ([()], None)


def test_counts_per_day_and_action(log):
    (today,) = log.owner.execute("select (now() at time zone 'UTC')::date").fetchone()
    log.owner.execute("set timezone = 'Asia/Kolkata'")
    noon = datetime(today.year, today.month, today.day, 23, 59, tzinfo=UTC)
    for days, count in ((0, 3), (1, 2), (2, 1)):
        log.record(*(event(occurred_at=(noon - timedelta(days=days)).isoformat()) for _ in range(count)))
    log.record(event(occurred_at=noon.isoformat(), outcome="failed"))
    counts = run(reading.stats(days=2), log.owner)
    assert [(each.day, each.action, each.events, each.unsuccessful) for each in counts] == [
        (today - timedelta(days=1), "stock.adjusted", 2, 0),
        (today, "stock.adjusted", 4, 1),
    ]


def test_search_raises_if_usersync_is_not_installed(cluster):
    bare = cluster.clone(cluster.template("supabase_old", regime="old"))
    try:
        with bare.connect("postgres") as owner, pytest.raises(NotInstalledError):
            run(reading.search(EventFilter()), owner)
    finally:
        cluster.drop(bare)
