"""The events that row tracking records for changes of a table."""

from __future__ import annotations

import hashlib
from uuid import UUID

import psycopg
import pytest

from usersync.audit.event.scalars import cut
from usersync.audit.event.values import Limits
from usersync.audit.tracking.columns import TEXT_LIMIT

PRODUCTS = "create table products (id int primary key, name text, qty int)"


def test_each_change_of_a_row_is_an_event(tracker):
    tracker.execute(PRODUCTS)
    tracker.track("products")
    tracker.execute("insert into products values (1, 'Bolt', 5), (2, null, 7)")
    tracker.execute("update products set qty = qty + 1 where id = 1")
    tracker.execute("update products set name = name")
    tracker.execute("update products set name = 'nobody' where id = 9")
    tracker.execute("delete from products where id = 2")
    tracker.execute("truncate products")
    assert tracker.events() == [
        ("products.inserted", "1", {"id": [None, 1], "name": [None, "Bolt"], "qty": [None, 5]}),
        ("products.inserted", "2", {"id": [None, 2], "qty": [None, 7]}),
        ("products.updated", "1", {"qty": [5, 6]}),
        ("products.deleted", "2", {"id": [2, None], "qty": [7, None]}),
        ("products.truncated", None, None),
    ]


def test_a_recorded_change_has_all_common_fields(tracker):
    tracker.execute(
        "create schema shop; create table shop.orders (id uuid primary key default gen_random_uuid())"
    )
    tracker.track("shop.orders")
    (key,) = tracker.execute("insert into shop.orders default values returning id").fetchone()
    event_id, *event = tracker.events("id, action, outcome, entity_type, entity_id, source")[0]
    assert event == ["shop.orders.inserted", "succeeded", "shop.orders", str(key), "trigger"]
    assert event_id.version == 7
    assert tracker.events("abs(extract(epoch from occurred_at - recorded_at)) < 60") == [True]
    # The first 48 bits of the id are its time.
    milliseconds = tracker.events("floor(extract(epoch from occurred_at) * 1000)::bigint")[0]
    assert abs((UUID(str(event_id)).int >> 80) - milliseconds) < 60_000


def test_an_upsert_is_recorded_as_insert_or_update_of_each_row(tracker):
    tracker.execute(PRODUCTS)
    tracker.track("products")
    tracker.execute("insert into products values (1, 'Bolt', 5)")
    tracker.execute(
        "insert into products values (1, 'Bolt', 6), (2, 'Nut', 1) "
        "on conflict (id) do update set qty = excluded.qty"
    )
    assert tracker.events()[1:] == [
        ("products.inserted", "2", {"id": [None, 2], "name": [None, "Nut"], "qty": [None, 1]}),
        ("products.updated", "1", {"qty": [5, 6]}),
    ] or tracker.events()[1:] == [
        ("products.updated", "1", {"qty": [5, 6]}),
        ("products.inserted", "2", {"id": [None, 2], "name": [None, "Nut"], "qty": [None, 1]}),
    ]


def test_merge_and_copy_are_recorded(tracker):
    tracker.execute(PRODUCTS)
    tracker.track("products")
    with tracker.project.owner.cursor().copy("copy products from stdin") as copy:
        copy.write_row((1, "Bolt", 5))
        copy.write_row((2, "Nut", 6))
    tracker.execute(
        "merge into products using (values (1, 9), (2, 0), (3, 3)) as given (id, qty) "
        "on products.id = given.id "
        "when matched and given.qty = 0 then delete when matched then update set qty = given.qty "
        "when not matched then insert values (given.id, 'Screw', given.qty)"
    )
    assert sorted(tracker.events("action || ' ' || entity_id")) == [
        "products.deleted 2",
        "products.inserted 1",
        "products.inserted 2",
        "products.inserted 3",
        "products.updated 1",
    ]


def test_a_key_of_several_columns_is_a_json_array(tracker):
    tracker.execute("create table lines (note text, item text, number int, primary key (number, item))")
    tracker.track("lines")
    tracker.execute("insert into lines values ('x', 'a\", \"b', 1), ('y', 'a', 1)")
    assert sorted(tracker.events("entity_id")) == ['[1, "a"]', '[1, "a\\", \\"b"]']


def test_a_row_whose_key_changes_can_be_followed(tracker):
    tracker.execute(PRODUCTS + "; insert into products values (1, 'Bolt', 5), (2, 'Nut', 6), (3, 'Screw', 7)")
    tracker.track("products")
    # Each row gets the key of the next one, so pairing rows by key would be wrong for all of them.
    tracker.execute("alter table products drop constraint products_pkey, add primary key (id) deferrable")
    tracker.execute("update products set id = id % 3 + 1")
    assert tracker.events("entity_id, metadata ->> 'previous_entity_id', changes") == [
        ("1", "3", {"id": [3, 1]}),
        ("2", "1", {"id": [1, 2]}),
        ("3", "2", {"id": [2, 3]}),
    ]


def test_without_a_key_a_hash_identifies_the_row(tracker):
    tracker.execute("create table notes (body text, stars int)")
    plan = tracker.track("notes")
    assert plan.key == ()
    assert "no primary key" in plan.findings[0].message
    tracker.execute("insert into notes values ('a', 1), ('a', 1), (null, 2)")
    tracker.execute("update notes set stars = stars + 1")
    tracker.execute("delete from notes where body is null")
    events = tracker.events("action, entity_id, metadata ->> 'previous_entity_id', changes")
    inserted, updated, deleted = events[:3], events[3:6], events[6:]
    assert len(events) == 7
    # The row can be followed from event to event by the hashes before and after each change.
    assert sorted(event[2] for event in updated) == sorted(event[1] for event in inserted)
    assert sorted(str(event[3]) for event in updated) == ["{'stars': [1, 2]}"] * 2 + ["{'stars': [2, 3]}"]
    assert deleted[0][1] in {event[1] for event in updated}
    assert deleted[0][3] == {"stars": [3, None]}


def test_a_unique_not_null_key_replaces_a_missing_primary_key(tracker):
    tracker.execute("create table codes (label text, code text not null unique, maybe int unique)")
    plan = tracker.track("codes")
    assert plan.key == ("code",)
    tracker.execute("insert into codes values ('x', 'A1')")
    assert tracker.events("entity_id") == ["A1"]


VALUES = [
    ("smallint", "1", "2", 1, 2),
    ("bigint", "9007199254740993", "1", 9007199254740993, 1),
    ("numeric", "1.0", "1.00", 1.0, 1.00),
    ("numeric", "'NaN'", "'Infinity'", "NaN", "Infinity"),
    ("double precision", "'-Infinity'", "0.1", "-Infinity", 0.1),
    ("boolean", "true", "false", True, False),
    ("date", "'2026-01-31'", "'infinity'", "2026-01-31", "infinity"),
    ("timestamp", "'2026-01-31 10:00'", "'2026-01-31 10:01'", "2026-01-31T10:00:00", "2026-01-31T10:01:00"),
    ("interval", "'1 day'", "'24 hours'", "1 day", "24:00:00"),
    ("text", '\'say ""hi"" \\\'', "E'tab\\t\\x01'", 'say ""hi"" \\', "tab\t\x01"),
    ("char(4)", "'ab'", "'abc'", "ab", "abc"),
    ("json", "'{\"a\": 1}'", "'{\"a\": null}'", {"a": 1}, {"a": None}),
    ("json", "'\"x\"'", "'\"\\u0000\"'", "x", '"\\u0000"'),
    ("json", "'1e400000'", "'{\"a\": 1e-400000}'", "1e400000", '{"a": 1e-400000}'),
    ("json", "'\"3e5\"'", "'[1e2]'", "3e5", [100]),
    ("json[]", "array['\"\\u0000\"'::json]", "array['1e400000'::json]", '["\\u0000"]', "[1e400000]"),
    ("jsonb", '\'{"a": {"b": null}}\'', "'[]'", {"a": {"b": None}}, []),
    ("jsonb", "'1.0'", "'1.00'", 1.0, 1.00),
    ("point", "'(1,2)'", "'(1,3)'", "(1,2)", "(1,3)"),
    ("box", "'(0,0),(1,4)'", "'(0,0),(2,2)'", "(1,4),(0,0)", "(2,2),(0,0)"),
    ("bytea", r"'\x0001'", r"'\xff'", "[bytes: 2, base64 AAE=]", "[bytes: 1, base64 /w==]"),
    ("inet", "'10.0.0.1'", "'::1/64'", "10.0.0.1", "::1/64"),
    ("int[]", "'{1,null}'", "'{{1},{2}}'", [1, None], [[1], [2]]),
    ("json[]", "array['1'::json]", "array['2'::json]", [1], [2]),
    ("int4range", "'[1,3)'", "'empty'", "[1,3)", "empty"),
    ("tsvector", "'a b'", "'a c'", "'a' 'b'", "'a' 'c'"),
    ("mood", "'sad'", "'happy'", "sad", "happy"),
    ("mood[]", "'{sad}'", "'{happy,null}'", "{sad}", "{happy,NULL}"),
    ("pair", "row(1, '2')", "row(1, null)", "(1,2)", "(1,)"),
    ("deeper", "'a'", "'b'", "a", "b"),
]


TYPES = """
    create type mood as enum ('sad', 'happy');
    create type pair as (x int, y json);
    create domain shouted as text check (value <> '');
    create domain deeper as shouted;
"""


def test_values_of_all_types_are_recorded(tracker):
    tracker.execute(TYPES)
    columns = ", ".join(f"c{place} {each[0]}" for place, each in enumerate(VALUES))
    tracker.execute(f"create table things (id int primary key, {columns})")
    tracker.track("things")
    tracker.execute(f"insert into things values (1, {', '.join(each[1] for each in VALUES)})")
    tracker.execute("insert into things values (2)")
    tracker.execute(
        f"update things set {', '.join(f'c{n} = {each[2]}' for n, each in enumerate(VALUES))} where id = 1"
    )
    tracker.execute("update things set " + ", ".join(f"c{place} = c{place}" for place in range(len(VALUES))))
    tracker.execute("delete from things where id = 1")
    assert not tracker.rejects()
    inserted, nothing, updated, deleted = tracker.events("changes")
    assert inserted == {"id": [None, 1]} | {f"c{n}": [None, each[3]] for n, each in enumerate(VALUES)}
    assert nothing == {"id": [None, 2]}
    assert updated == {f"c{n}": [each[3], each[4]] for n, each in enumerate(VALUES)}
    assert deleted == {"id": [1, None]} | {f"c{n}": [each[4], None] for n, each in enumerate(VALUES)}


@pytest.mark.parametrize(
    ("type", "before", "after", "pair"),
    [
        ("xml", "'<a/>'", "'<b/>'", ["<a/>", "<b/>"]),
        ("text collate ignoring", "'Bob'", "'bob'", ["Bob", "bob"]),
        ("citext", "'Bob'", "'bob'", ["Bob", "bob"]),
    ],
)
def test_values_of_types_that_not_every_server_has(tracker, type, before, after, pair):  # noqa: A002
    try:
        if "ignoring" in type:
            tracker.execute(
                "create collation ignoring "
                "(provider = icu, locale = 'und-u-ks-level2', deterministic = false)"
            )
        if type == "citext":
            tracker.execute("create extension citext")
        tracker.execute(f"create table things (id int primary key, value {type})")
        tracker.execute(f"insert into things values (1, {before})")
    except psycopg.Error as error:
        pytest.skip(str(error))
    tracker.track("things")
    tracker.execute(f"update things set value = {after}")
    tracker.execute("update things set value = value")
    assert tracker.events("changes") == [{"value": pair}]


def test_the_same_values_are_recorded_with_any_session_settings(tracker):
    tracker.execute("create table days (day date, at timestamptz, what bytea, primary key (day, at))")
    tracker.track("days")
    given = {"datestyle": "German, DMY", "timezone": "Asia/Tokyo", "bytea_output": "escape"}
    with tracker.session(**given) as session:
        session.execute(r"insert into days values ('2026-01-31', '2026-01-31 10:00+00', '\xff')")
    assert tracker.events("entity_id, changes -> 'what'") == [
        ('["2026-01-31", "2026-01-31T10:00:00"]', [None, "[bytes: 1, base64 /w==]"])
    ]


def test_huge_values_are_truncated_as_in_python(tracker):
    assert Limits().text == TEXT_LIMIT
    text, document, content = "ä" * 20_000, {"a": "b" * 1_000_000}, b"\xff" * 100_000
    tracker.execute(
        "create table things (id int primary key, text text, just text, document jsonb, content bytea)"
    )
    tracker.track("things")
    tracker.execute(
        "insert into things values (1, %s, %s, jsonb_build_object('a', repeat('b', 1000000)), %s)",
        text,
        "ä" * TEXT_LIMIT,
        content,
    )
    (changes,) = tracker.events("changes")
    assert changes["text"] == [None, cut(text, TEXT_LIMIT)]
    assert changes["just"] == [None, "ä" * TEXT_LIMIT]
    assert changes["content"] == [None, f"[bytes: 100000, sha256 {hashlib.sha256(content).hexdigest()}]"]
    written = '{"a": "' + document["a"] + '"}'
    assert changes["document"] == [None, cut(written, TEXT_LIMIT)]


def test_secrets_are_redacted_and_their_change_is_recorded(tracker):
    tracker.execute(
        "create table accounts (id int primary key, password text, api_key jsonb, tokens_used int)"
    )
    plan = tracker.track("accounts", reveal=("tokens_used",))
    assert plan.redacted == ("password", "api_key")
    tracker.execute("insert into accounts values (1, 'hunter2', null, 5)")
    tracker.execute("update accounts set password = 'hunter3', api_key = '{}'")
    assert tracker.events("changes") == [
        {"id": [None, 1], "password": [None, "[redacted]"], "tokens_used": [None, 5]},
        {"password": ["[redacted]", "[redacted]"], "api_key": [None, "[redacted]"]},
    ]


def test_the_type_of_a_column_also_decides_about_redaction(tracker):
    tracker.execute("create type public.kind as enum ('access', 'refresh')")
    tracker.execute("create domain public.amount as bigint")
    plan_of = "token public.kind, cookie bool, password interval, api_key public.amount, session_token uuid"
    tracker.execute(f"create table public.typed (id int primary key, pin int, {plan_of})")
    assert tracker.plan("public.typed").redacted == ("pin", "session_token")


def test_a_key_that_is_a_secret_is_recorded_as_its_hash(tracker):
    tracker.execute("create table sessions (session_token text primary key, n int)")
    tracker.track("sessions")
    tracker.execute("insert into sessions values ('s3cret', 1)")
    assert tracker.events("entity_id, changes") == [
        (hashlib.sha256(b"s3cret").hexdigest(), {"session_token": [None, "[redacted]"], "n": [None, 1]})
    ]


def test_only_the_chosen_columns_are_recorded(tracker):
    tracker.execute("create table products (id int primary key, name text, qty int, seen_at int)")
    tracker.track("products", columns=("name", "qty"), exclude=("qty",))
    tracker.execute("insert into products values (1, 'Bolt', 5, 0)")
    tracker.execute("update products set qty = 6, seen_at = 1")
    tracker.execute("update products set qty = 7, name = 'Nut'")
    assert tracker.events("changes") == [{"id": [None, 1], "name": [None, "Bolt"]}, {"name": ["Bolt", "Nut"]}]


def test_generated_columns_are_recorded_where_they_are_stored(tracker):
    tracker.execute(
        "create table boxes (id int primary key, w int, double int generated always as (w * 2) stored)"
    )
    if tracker.project.owner.info.server_version >= 180000:
        tracker.execute("alter table boxes add triple int generated always as (w * 3) virtual")
    plan = tracker.track("boxes")
    tracker.execute("insert into boxes values (1, 2)")
    tracker.execute("update boxes set w = 3")
    assert tracker.events("changes")[1] == {"w": [2, 3], "double": [4, 6]}
    assert plan.columns == ("id", "w", "double")


def test_a_long_number_may_be_a_key(tracker):
    tracker.execute("create table numbers (id numeric primary key)")
    tracker.track("numbers")
    tracker.execute("insert into numbers values (1e300 + 1)")
    tracker.execute("insert into numbers values (1e300 + 2), (1.50)")
    ids = tracker.events("entity_id")
    assert len(set(ids)) == 3
    assert all(len(each) <= 200 for each in ids)
    assert "1.50" in ids


def test_a_long_key_is_shortened_and_stays_unambiguous(tracker):
    tracker.execute("create table pages (url text primary key)")
    tracker.track("pages")
    tracker.execute("insert into pages values (repeat('a', 1000)), (repeat('a', 1001)), (repeat('b', 200))")
    ids = tracker.events("entity_id")
    assert len(set(ids)) == 3
    assert all(len(each) <= 200 for each in ids)
    assert "b" * 200 in ids


def test_changes_of_a_table_with_many_columns_are_recorded(tracker):
    columns = ", ".join(f"c{number} int default {number}" for number in range(1_000))
    tracker.execute(f"create table wide (id int primary key, {columns})")
    tracker.track("wide")
    tracker.execute("insert into wide (id, c5) values (1, null)")
    tracker.execute("update wide set c7 = -1, c999 = null")
    inserted, updated = tracker.events("changes")
    assert len(inserted) == 1_000
    assert updated == {"c7": [7, -1], "c999": [999, None]}


@pytest.mark.slow
def test_many_rows_are_recorded_quickly_after_a_query_plan_for_one_row(tracker):
    tracker.execute(PRODUCTS)
    tracker.track("products")
    tracker.execute("insert into products values (0, 'Bolt', 0)")
    tracker.execute("update products set qty = 1")
    tracker.execute("insert into products select n, 'Bolt', 0 from generate_series(1, 20000) as n")
    tracker.execute("update products set qty = qty + id")
    assert tracker.events("action").count("products.updated") == 20_001
