"""Promise P7 (privileges) for row tracking, and names that attempt SQL injection."""

from __future__ import annotations

import psycopg
import pytest

from usersync.audit.tracking.generate import OPERATIONS, function_stem
from usersync.config.mapping import TableName

ROLES = ["anon", "authenticated", "service_role"]


@pytest.fixture
def products(tracker):
    tracker.execute("create table products (id int primary key, name text)")
    tracker.execute("grant all on products to anon, authenticated, service_role")
    tracker.track("products")
    return tracker


@pytest.mark.parametrize("role", ROLES)
def test_a_role_that_may_write_the_table_needs_no_privilege_on_the_log(products, role):
    with products.session() as session:
        session.execute(f"set local role {role}")
        session.execute(
            "insert into products values (1, 'Bolt'); update products set name = 'Nut'; truncate products"
        )
    assert products.events("action") == ["products.inserted", "products.updated", "products.truncated"]


@pytest.mark.parametrize("role", ROLES)
def test_no_role_can_call_the_functions_or_use_them_in_a_trigger(products, role):
    names = products.execute(
        "select oid::regprocedure::text, proname from pg_proc where proname ~ '^handle_changes'"
    )
    for signature, name in names.fetchall():
        may = products.execute(
            "select has_function_privilege(%s, %s, 'execute'), has_schema_privilege(%s, 'usersync', 'usage')",
            *(role, signature, role),
        )
        assert may.fetchone() == (False, False)
        with products.session() as session:
            session.execute(f"set local role {role}")
            session.execute("create temporary table mine (id int, name text)")
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                session.execute(
                    f"create trigger mine after insert on mine execute function usersync.{name}()"
                )


def test_every_function_has_a_fixed_search_path(products):
    rows = products.execute(
        "select prosecdef, proconfig, obj_description(oid, 'pg_proc') like 'usersync: %' from pg_proc "
        "where proname ~ '^handle_changes'"
    ).fetchall()
    assert len(rows) == len(OPERATIONS)
    for definer, config, ours in rows:
        assert definer
        assert ours
        assert "search_path=pg_catalog, pg_temp" in config


def test_temporary_objects_with_our_names_are_not_used(products):
    with products.session() as session:
        session.execute("create domain pg_temp.text as int; create domain pg_temp.jsonb as int")
        session.execute(
            "create temporary table audit_logs (id int); create temporary table new_rows (id int)"
        )
        session.execute("insert into products values (1, 'Bolt')")
    assert products.events("changes") == [{"id": [None, 1], "name": [None, "Bolt"]}]


HOSTILE = [
    TableName("public", 'we"ird; drop table x --'),
    TableName('sch"ema.x', "ta.ble 'x' %s"),
    TableName("public", "ü" * 31),
    TableName("public", "t" * 63),
    TableName("public", "t" * 62 + "u"),
    TableName("public", "select"),
    TableName("public", "@function \"@rows\" '@id'"),
]
COLUMNS = [
    'i"d',
    "position",
    "c1",
    "tracking",
    "old_rows",
    "new_rows",
    "it's",
    "a\\b",
    "%s",
    "n",
    "o",
    "event",
    "changed",
    "ü" * 31,
    "x" * 63,
    "name",
    "'@id'",
    '{"a": 1}',
    "actor_id",
]


def quoted(name):
    return '"' + name.replace('"', '""') + '"'


@pytest.mark.parametrize("table", HOSTILE, ids=str)
def test_hostile_names_are_quoted(tracker, table):
    owner = tracker.project.owner
    owner.execute(f"create schema if not exists {quoted(table.schema)}")
    columns = ", ".join(f"{quoted(column)} text" for column in COLUMNS)
    owner.execute(f"create table {table.quoted} ({columns}, primary key ({quoted(COLUMNS[0])}))")
    owner.execute(f"insert into {table.quoted} values ('before')")
    tracker.track(table.quoted)
    values = ", ".join(f"'{number}'" for number in range(len(COLUMNS)))
    owner.execute(f"insert into {table.quoted} values ({values})")
    owner.execute(
        f"update {table.quoted} set "
        + ", ".join(f"{quoted(column)} = 'x' || {quoted(column)}" for column in COLUMNS)
        + f" where {quoted(COLUMNS[0])} = '0'"
    )
    owner.execute(f"update {table.quoted} set {quoted(COLUMNS[1])} = 'many'")
    inserted, updated, *_ = tracker.events("changes")
    assert inserted == {column: [None, str(number)] for number, column in enumerate(COLUMNS)}
    assert updated == {column: [str(number), f"x{number}"] for number, column in enumerate(COLUMNS)}
    kind = table.name if table.schema == "public" else f"{table.schema}.{table.name}"
    assert set(tracker.events("entity_type")) == {kind}
    assert tracker.tracked()[0].state == "current"
    # The slower code for a stale definition handles the same names.
    owner.execute(f"alter table {table.quoted} drop column name")
    owner.execute(f"update {table.quoted} set {quoted(COLUMNS[1])} = 'stale'")
    assert tracker.events("changes -> 'position' ->> 1, metadata ->> 'tracking'")[-1] == ("stale", "stale")
    assert not tracker.rejects()
    tracker.untrack(table.quoted)
    assert tracker.tracked() == ()


def test_a_cast_of_another_roles_type_is_never_called(tracker):
    with tracker.project.database.connect("supabase_admin") as session:
        session.execute(
            "create schema strange authorization service_role; set role service_role; "
            "create type strange.mood as enum ('glad'); "
            "create function strange.spy(strange.mood) returns json language plpgsql as "
            "$$ begin raise exception 'called as %', current_user; end $$; "
            "create cast (strange.mood as json) with function strange.spy(strange.mood)"
        )
    tracker.execute("create table orders (id int primary key, mood strange.mood, gone int)")
    tracker.track("orders")
    tracker.execute("insert into orders values (1, 'glad')")
    tracker.execute("alter table orders drop column gone")
    tracker.execute("insert into orders values (2, 'glad')")
    assert tracker.events("changes -> 'mood', metadata ->> 'tracking'") == [
        ([None, "glad"], None),
        ([None, "glad"], "stale"),
    ]
    assert not tracker.rejects()


def test_backslashes_have_the_same_meaning_in_every_session(tracker):
    tracker.execute('create table things (id int primary key, doc json, "a\\b" text)')
    tracker.track("things")
    with tracker.session(standard_conforming_strings="off") as session:
        session.execute(
            "insert into things values (1, '1', 'x'); update things set doc = '2', \"a\\b\" = 'y'"
        )
        session.execute("alter table things drop column doc; delete from things")
    assert tracker.events("changes") == [
        {"id": [None, 1], "doc": [None, 1], "a\\b": [None, "x"]},
        {"doc": [1, 2], "a\\b": ["x", "y"]},
        {"id": [1, None], "a\\b": ["y", None]},
    ]
    assert not tracker.rejects()


def test_derived_names_are_short_enough_and_distinct():
    names = [function_stem(table) for table in HOSTILE] + [function_stem(HOSTILE[0], 1)]
    assert len(set(names)) == len(names)
    assert all(name.isascii() and len(f"{name}_truncate") <= 63 for name in names)
