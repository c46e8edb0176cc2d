"""Row tracking of partitioned tables, inheritance, cascades, and tables with triggers of the application."""

from __future__ import annotations


def partitioned(tracker):
    tracker.execute(
        "create table readings (id int, at date, value int, primary key (id, at)) partition by range (at); "
        "create table readings_old partition of readings for values from (minvalue) to ('2026-01-01'); "
        "create table readings_new partition of readings for values from ('2026-01-01') to (maxvalue)"
    )


def test_changes_through_a_partitioned_table_are_recorded(tracker):
    partitioned(tracker)
    plan = tracker.track("readings")
    assert "partitioned" in plan.findings[0].message
    tracker.execute("insert into readings values (1, '2025-05-05', 1), (2, '2026-05-05', 2)")
    tracker.execute("update readings set value = value * 10")
    # Updates that move rows between partitions, which the server implements as DELETE and INSERT.
    tracker.execute("update readings set at = at + 365 where id = 1")
    tracker.execute("delete from readings where id = 2")
    events = tracker.events("action, entity_id, metadata ->> 'previous_entity_id', changes")
    assert sorted(events[2:4]) == [
        ("readings.updated", '[1, "2025-05-05"]', None, {"value": [1, 10]}),
        ("readings.updated", '[2, "2026-05-05"]', None, {"value": [2, 20]}),
    ]
    assert events[4] == (
        "readings.updated",
        '[1, "2026-05-05"]',
        '[1, "2025-05-05"]',
        {"at": ["2025-05-05", "2026-05-05"]},
    )
    assert events[5][0] == "readings.deleted"


def test_changes_of_a_tracked_partition_are_recorded_once(tracker):
    partitioned(tracker)
    tracker.track("readings")
    tracker.execute("insert into readings_new values (1, '2026-05-05', 1)")
    assert tracker.events() == []
    tracker.track("readings_new")
    tracker.execute("insert into readings_new values (2, '2026-05-05', 1)")
    tracker.execute("insert into readings values (3, '2026-05-05', 1)")
    assert tracker.events("action, entity_id") == [
        ("readings_new.inserted", '[2, "2026-05-05"]'),
        ("readings.inserted", '[3, "2026-05-05"]'),
    ]


def test_partitions_can_still_be_attached(tracker):
    partitioned(tracker)
    tracker.execute("create table later (id int, at date, value int, primary key (id, at))")
    tracker.track("later")
    tracker.execute("alter table readings detach partition readings_new")
    tracker.track("readings")
    tracker.execute(
        "alter table readings attach partition later for values from ('2026-01-01') to (maxvalue)"
    )
    tracker.execute(
        "insert into readings values (1, '2026-05-05', 1); insert into later values (2, '2026-05-05', 1)"
    )
    assert tracker.events("action") == ["readings.inserted", "later.inserted"]


def test_rows_are_paired_by_key_if_a_trigger_suppresses_one(tracker):
    """There are fewer new rows than old ones, so their positions do not match."""
    partitioned(tracker)
    tracker.execute(
        "create function public.swallow() returns trigger language plpgsql as $$ begin return null; end $$; "
        "insert into readings values (1, '2025-05-05', 1), (2, '2025-05-05', 2), (3, '2026-05-05', 3), "
        "(4, '2026-05-05', 4); "
        "create trigger swallow before insert on readings_new for each row when (new.id = 2) "
        "execute function public.swallow()"
    )
    tracker.track("readings")
    tracker.execute("update readings set at = greatest(at, '2026-05-05'), value = value * 10")
    assert sorted(map(str, tracker.events("entity_id, changes"))) == [
        """('[1, "2025-05-05"]', {'at': ['2025-05-05', None], 'id': [1, None], 'value': [1, None]})""",
        """('[1, "2026-05-05"]', {'at': [None, '2026-05-05'], 'id': [None, 1], 'value': [None, 10]})""",
        """('[2, "2025-05-05"]', {'at': ['2025-05-05', None], 'id': [2, None], 'value': [2, None]})""",
        """('[3, "2026-05-05"]', {'value': [3, 30]})""",
        """('[4, "2026-05-05"]', {'value': [4, 40]})""",
    ]
    assert set(tracker.events("metadata ->> 'paired_by'")) == {"key"}
    # This also works for a single row.
    tracker.execute("insert into readings_old values (2, '2025-05-06', 2)")
    tracker.execute("update readings set at = '2026-06-06' where at = '2025-05-06'")
    assert tracker.events("entity_id, changes -> 'at'")[-1] == ('[2, "2025-05-06"]', ["2025-05-06", None])
    assert not tracker.rejects()


def test_changes_through_a_parent_are_recorded_for_its_children(tracker):
    tracker.execute(
        "create table animals (id int primary key, name text); "
        "create table dogs (breed text) inherits (animals); "
        "insert into animals values (1, 'a'); insert into dogs values (2, 'b', 'pug')"
    )
    tracker.track("animals")
    tracker.execute("update animals set name = name || '!'")
    tracker.execute("update dogs set name = 'direct'")
    assert sorted(tracker.events("entity_id || ' ' || changes::text")) == [
        '1 {"name": ["a", "a!"]}',
        '2 {"name": ["b", "b!"]}',
    ]


def test_cascades_are_recorded_row_by_row(tracker):
    tracker.execute(
        "create table people (id int primary key); "
        "create table letters (id int primary key, "
        "sender int references people on update cascade on delete set null, "
        "receiver int references people on update cascade on delete cascade); "
        "insert into people values (1), (2); insert into letters values (1, 1, 1), (2, 1, 2)"
    )
    tracker.track("people")
    tracker.track("letters")
    # One statement changes the first letter twice, once for each foreign key.
    tracker.execute("update people set id = 7 where id = 1")
    changes = [row for row in tracker.events("entity_type, entity_id, changes") if row[0] == "letters"]
    assert sorted(str(row) for row in changes) == [
        "('letters', '1', {'receiver': [1, 7]})",
        "('letters', '1', {'sender': [1, 7]})",
        "('letters', '2', {'sender': [1, 7]})",
    ]
    tracker.execute("delete from people where id = 7")
    actions = tracker.events("action || ' ' || entity_id")
    assert "letters.deleted 1" in actions
    assert "letters.updated 2" in actions
    assert "people.deleted 7" in actions
    assert not tracker.rejects()


def test_changes_by_triggers_of_the_application_are_recorded(tracker):
    tracker.execute(
        "create table products (id int primary key, qty int, changed_at int default 0); "
        "create table stock (id int primary key, qty int); insert into stock values (1, 0); "
        "create function public.touch() returns trigger language plpgsql as "
        "$$ begin new.changed_at := old.changed_at + 1; return new; end $$; "
        "create trigger touch before update on products for each row execute function public.touch(); "
        "create function public.count_stock() returns trigger language plpgsql as "
        "$$ begin update public.stock set qty = qty + new.qty; return null; end $$; "
        "create trigger count_stock after update on products "
        "for each row execute function public.count_stock(); "
        "insert into products values (1, 1), (2, 2)"
    )
    tracker.track("products")
    tracker.track("stock")
    tracker.execute("update products set qty = qty + 1")
    assert sorted(str(event) for event in tracker.events("entity_type, changes")) == [
        "('products', {'qty': [1, 2], 'changed_at': [0, 1]})",
        "('products', {'qty': [2, 3], 'changed_at': [0, 1]})",
        "('stock', {'qty': [0, 2]})",
        "('stock', {'qty': [2, 5]})",
    ]


def test_two_updates_of_a_row_in_one_statement_and_in_one_transaction_are_in_order(tracker):
    tracker.execute("create table products (id int primary key, qty int); insert into products values (1, 0)")
    tracker.track("products")
    with tracker.session() as session:
        for _ in range(3):
            session.execute("update products set qty = qty + 1")
    assert tracker.events("changes -> 'qty'") == [[0, 1], [1, 2], [2, 3]]
