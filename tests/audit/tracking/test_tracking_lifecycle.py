"""Tracking a table, changing its options, untracking it, and the required privileges."""

from __future__ import annotations

import threading

import pytest

from audit_settings import with_audit_log
from usersync.audit.tracking import operations as tracking
from usersync.audit.tracking import tables as tracked_tables
from usersync.audit.tracking.state import TrackOptions
from usersync.errors import (
    ConflictError,
    NotInstalledError,
    PrivilegeMissingError,
    SettingsError,
)
from usersync.schema import installation
from usersync.transports.run import run

PRODUCTS = "create table products (id int primary key, name text, qty int)"

# All objects that untracking could leave: functions, triggers, privileges, comments, dependencies, settings.
CATALOG = """
    select 'function', oid::regprocedure::text, proacl::text
    from pg_proc where pronamespace = 'usersync'::regnamespace
    union all
    select 'trigger', tgrelid::regclass || '.' || tgname, pg_get_triggerdef(oid)
    from pg_trigger where not tgisinternal
    union all
    select 'relation', oid::regclass::text, relacl::text
    from pg_class where relnamespace::regnamespace::text !~ '^pg_'
    union all
    select 'comment', objoid::text, description from pg_description where objoid >= 16384
    union all
    select 'dependency', objid::text, refobjid::text from pg_depend where objid >= 16384
    union all
    select 'noted', signature, checksum from usersync.functions
    order by 1, 2, 3
"""


def test_untracking_restores_the_former_state(tracker):
    tracker.execute(PRODUCTS)
    tracker.execute(
        "create function public.mine() returns trigger language plpgsql as $$ begin return null; end $$; "
        "create trigger mine after insert on products for each row execute function public.mine()"
    )
    before = tracker.execute(CATALOG).fetchall()
    tracker.track("products")
    assert tracker.execute(CATALOG).fetchall() != before
    plan = tracker.untrack("products")
    assert [change.kind for change in plan.changes] == ["drop"] * 4
    assert tracker.execute(CATALOG).fetchall() == before
    assert tracker.untrack("products").changes == ()
    assert tracker.tracked() == ()


def test_the_plan_matches_the_changes_and_writes_nothing(tracker):
    tracker.execute(PRODUCTS)
    before = tracker.execute(CATALOG).fetchall()
    plan = tracker.plan("products")
    assert tracker.execute(CATALOG).fetchall() == before
    assert [change.kind for change in plan.changes] == ["create"] * 4 + ["alter"] + ["create"] * 4
    assert [change.busy for change in plan.changes] == [False] * 5 + [True] * 4
    # The SQL of the plan can be run by hand with the same result.
    tracker.execute("\n".join(change.sql for change in plan.changes))
    assert tracker.plan("products").changes == ()
    assert tracker.tracked()[0].state == "current"


def test_tracking_again_changes_nothing_or_replaces_the_options(tracker):
    tracker.execute(PRODUCTS)
    assert tracker.track("products").changes
    assert tracker.track("products").changes == ()
    again = tracker.track("products", exclude=("qty",))
    # The trigger is not created again, so the table is not locked.
    assert not any(change.busy for change in again.changes)
    (table,) = tracker.tracked()
    assert (table.columns, table.options) == (("id", "name"), TrackOptions(exclude=("qty",)))
    tracker.execute("insert into products values (1, 'Bolt', 5)")
    assert tracker.events("changes") == [{"id": [None, 1], "name": [None, "Bolt"]}]


def test_a_renamed_table_is_recorded_under_its_old_name(tracker):
    tracker.execute(PRODUCTS)
    tracker.track("products")
    tracker.execute("alter table products rename to articles")
    tracker.execute("insert into articles values (1, 'Bolt', 5)")
    assert tracker.events("action") == ["products.inserted"]
    (table,) = tracker.tracked()
    assert (table.table.name, table.state, table.broken) == ("articles", "stale", False)
    assert table.reasons == ("renamed since: events have the name public.products",)
    # A new table with the old name does not replace the functions of the renamed table.
    tracker.execute(PRODUCTS)
    tracker.track("products")
    tracker.execute("insert into articles values (2, 'Nut', 6); insert into products values (3, 'Screw', 7)")
    assert sorted(tracker.events("action || ' ' || entity_id")) == [
        "products.inserted 1",
        "products.inserted 2",
        "products.inserted 3",
    ]
    tracker.track("articles")
    tracker.execute("insert into articles values (4, 'Nut', 6)")
    assert tracker.events("action")[-1] == "articles.inserted"
    assert {table.state for table in tracker.tracked()} == {"current"}
    tracker.untrack("articles")
    assert [table.table.name for table in tracker.tracked()] == ["products"]
    assert tracker.execute(
        "select count(*) from pg_proc where proname like 'handle_changes_%'"
    ).fetchone() == (4,)


def test_the_command_to_track_again_keeps_the_options(tracker):
    tracker.execute(
        'create table products (id int primary key, name text, "odd name" text, api_token text, qty int)'
    )
    tracker.track("products", exclude=("odd name", "qty"), reveal=("api_token",))
    tracker.execute("alter table products add column price int, drop column qty")
    (table,) = tracker.tracked()
    # A dropped column can no longer be named.
    assert table.command == ("usersync audit track public.products --exclude 'odd name' --reveal api_token")
    tracker.track("products", columns=("name",))
    tracker.execute("alter table products drop column name")
    # An empty option would mean all columns.
    assert tracker.tracked()[0].command == "usersync audit track public.products --columns name"


def test_a_dropped_table_is_reported_and_can_be_untracked(tracker):
    tracker.execute(PRODUCTS)
    tracker.track("products")
    tracker.execute("drop table products")
    assert [(str(each.table), each.state) for each in tracker.tracked()] == [("public.products", "gone")]
    tracker.untrack("products")
    assert tracker.tracked() == ()


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        ("alter table products disable trigger usersync_updated", "trigger usersync_updated"),
        ("drop trigger usersync_truncated on products", "trigger usersync_truncated"),
        ("alter table products drop constraint products_pkey", "the key changed to: none"),
        ("alter table products add primary key (id, name)", "the key changed to: id, name"),
    ],
)
def test_damaged_tracking_is_reported_and_fixed(tracker, damage, reason):
    tracker.execute(PRODUCTS)
    if "add primary key" in damage:
        tracker.execute("alter table products drop constraint products_pkey")
    tracker.track("products")
    tracker.execute(damage)
    (table,) = tracker.tracked()
    assert table.state == "stale"
    assert any(reason in each for each in table.reasons), table.reasons
    tracker.track("products")
    assert tracker.tracked()[0].state == "current"


def test_an_edited_function_is_reported_and_fixed(tracker):
    tracker.execute(PRODUCTS)
    tracker.track("products")
    (name,) = tracker.execute(
        "select proname from pg_proc where proname like 'handle_changes_%_insert'"
    ).fetchone()
    tracker.execute(
        f"create or replace function usersync.{name}() returns trigger language plpgsql "
        "as $$ begin return null; end $$"
    )
    assert tracker.tracked()[0].state == "stale"
    tracker.track("products")
    assert tracker.tracked()[0].state == "current"


def test_tracking_functions_of_an_earlier_release_record_until_apply_replaces_them(tracker):
    """They call usersync.fits, which is_valid_input has replaced. The script of usersync sql drops it."""
    tracker.execute("create table notes (id int primary key, body json)")
    tracker.track("notes")
    (text,) = tracker.execute(
        "select string_agg(pg_get_functiondef(oid), ';') from pg_proc where proname like 'handle_changes_%'"
    ).fetchone()
    assert "usersync.is_valid_input(" in text
    tracker.execute(text.replace("usersync.is_valid_input(", "usersync.fits("))
    tracker.execute("""insert into notes values (1, '{"a": 1e5}')""")
    assert tracker.events("action, changes -> 'body', metadata ->> 'tracking'") == [
        ("notes.inserted", [None, {"a": 100000}], "stale")
    ]
    assert not tracker.rejects()
    run(installation.apply(tracker.project.settings), tracker.project.owner)
    tracker.execute("delete from notes")
    assert tracker.events("metadata ->> 'tracking'")[-1] is None


def test_apply_moves_tracked_tables_to_another_log(tracker):
    """The functions write to the log that the settings named when the table was tracked."""
    settings, owner = tracker.project.settings, tracker.project.owner
    tracker.execute(PRODUCTS + "; create table altered (id int primary key, gone text)")
    tracker.track("products", exclude=("qty",))
    tracker.track("altered")
    tracker.execute(
        "alter table altered drop constraint altered_pkey; alter table products add column later text"
    )
    other = with_audit_log(
        settings.describe() | {"audit": {"table": "public.other_log"}, "lock_timeout_ms": 300}
    )
    planned = run(installation.plan(other), owner)
    renewed = [change.subject for change in planned.changes if "handle_changes_" in change.subject]
    assert len(renewed) == 4
    assert all("_products_" in subject for subject in renewed)
    (note,) = (each for each in planned.findings if "altered" in each.message)
    assert note.fix == "-- Track it again:\nusersync audit track public.altered"
    run(installation.apply(other), owner)
    tracker.execute("insert into products values (1, 'Bolt', 5, 'new')")
    assert tracker.rejects() == []
    stored = tracker.execute("select changes, metadata ->> 'tracking' from public.other_log").fetchall()
    assert stored == [({"id": [None, 1], "name": [None, "Bolt"], "later": [None, "new"]}, None)]
    tables = {str(each.table): each for each in run(tracked_tables.tracked(other), owner)}
    assert tables["public.products"].state == "current"
    assert run(installation.plan(other), owner).changes == ()


def test_apply_keeps_tracked_tables_and_rollback_untracks_them(tracker):
    settings, owner = tracker.project.settings, tracker.project.owner
    tracker.execute(PRODUCTS)
    tracker.track("products")
    assert run(installation.plan(settings), owner).changes == ()
    run(installation.rollback(settings), owner)
    tracker.execute("insert into products values (1, 'Bolt', 5)")
    left = tracker.execute("select tgname from pg_trigger where tgrelid = 'products'::regclass").fetchall()
    assert left == []
    with pytest.raises(NotInstalledError):
        tracker.track("products")


@pytest.mark.parametrize(
    ("table", "columns", "named"),
    [
        (
            "people",
            'id int, email text, "firstName" text, zip_code text, password text',
            "email, firstName, zip_code",
        ),
        (
            "products",
            "id int, name text, description text, shipping text, emails_sent int, email_sent_at date",
            None,
        ),
    ],
)
def test_columns_with_personal_data_give_a_warning(tracker, table, columns, named):
    """Recorded values stay in the log even if the user is deleted."""
    tracker.execute(f"create table {table} ({columns})")
    said = [each for each in tracker.plan(table).findings if "personal" in each.message]
    assert [f"most likely in {named}." in each.message for each in said] == ([True] if named else [])
    if named:
        assert said[0].hint.endswith(f"--exclude {named.replace(', ', ',')}")


def test_users_tables_give_a_warning_with_any_column_names(tracker):
    settings = tracker.project.settings
    for name in (settings.users_table, settings.source_table):
        assert any("personal" in each.message for each in tracker.plan(name.quoted).findings), name


@pytest.mark.parametrize(
    ("make", "table", "error", "message"),
    [
        ("", "nothing", SettingsError, "there is no table public.nothing"),
        ("create view seen as select 1 as one", "seen", SettingsError, "is a view"),
        ("", "audit_logs", SettingsError, "again, without end"),
        ("", "usersync.audit_logs_default", SettingsError, "again, without end"),
        ("", "usersync.sync_failures", SettingsError, "again, without end"),
        ("create table money ($$ int)".replace("$$", '"a$b"'), "money", SettingsError, "contains a $"),
        ("create table none ()", "none", SettingsError, "no column is left"),
    ],
)
def test_unsupported_tables_are_refused_with_a_reason(tracker, make, table, error, message):
    tracker.execute(make or "select")
    with pytest.raises(error, match=message.replace("$", r"\$")):
        tracker.track(table)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"columns": ("nam",)}, "--columns: public.products has no column nam"),
        ({"exclude": ("nam",)}, "--exclude: public.products has no column nam"),
        ({"exclude": ("id",)}, "part of the key"),
        ({"reveal": ("x",)}, "--reveal: public.products has no column x"),
    ],
)
def test_invalid_options_are_refused_with_a_reason(tracker, options, message):
    tracker.execute(PRODUCTS)
    with pytest.raises(SettingsError, match=message):
        tracker.track("products", **options)


def test_a_third_party_trigger_with_our_name_is_not_replaced(tracker):
    tracker.execute(PRODUCTS)
    tracker.execute(
        "create function public.mine() returns trigger language plpgsql as $$ begin return null; end $$; "
        "create trigger usersync_inserted after insert on products execute function public.mine()"
    )
    with pytest.raises(ConflictError, match="usersync_inserted"):
        tracker.track("products")


def test_the_missing_privilege_is_named(tracker):
    with tracker.project.database.connect("supabase_admin") as superuser:
        superuser.execute(
            "create role stranger; create schema foreign_land authorization stranger; set role stranger; "
            "create table foreign_land.things (id int primary key)"
        )
        with pytest.raises(PrivilegeMissingError, match="lacks TRIGGER on table foreign_land"):
            tracker.track("foreign_land.things")
        superuser.execute(
            "grant usage on schema foreign_land to postgres; grant trigger on foreign_land.things to postgres"
        )
        plan = tracker.track("foreign_land.things")
        assert any("belongs to stranger" in finding.message for finding in plan.findings)
        superuser.execute("insert into foreign_land.things values (1)")
        # The role does not own the table but can untrack it.
        tracker.untrack("foreign_land.things")
        assert tracker.events("action, db_role") == [("foreign_land.things.inserted", "supabase_admin")]
        superuser.execute("reset role; drop schema foreign_land cascade; drop role stranger")


def test_tracking_waits_for_a_busy_table_without_blocking_others(tracker):
    tracker.execute(PRODUCTS)
    database = tracker.project.database
    plan = tracking.track(tracker.project.settings, "products", TrackOptions(), lambda *_: False)
    with tracker.session() as busy, database.connect("postgres") as watching:
        busy.execute("insert into products values (1, 'Bolt', 5)")
        thread = threading.Thread(target=run, args=(plan, tracker.project.owner))
        thread.start()
        # The session has requested and released its lock, so other sessions run in between.
        _wait(
            watching,
            "select exists (select from pg_locks where not granted and relation = 'products'::regclass)",
        )
        for number in range(2, 6):
            watching.execute("insert into products values (%s, 'Nut', 1)", [number])
        busy.commit()
        thread.join(30)
    assert not thread.is_alive()
    assert tracker.tracked()[0].state == "current"


def _wait(connection, condition):
    connection.execute("set statement_timeout = '30s'")
    connection.execute(f"do $$ begin while not ({condition}) loop perform pg_sleep(0.002); end loop; end $$")


def test_inspecting_a_table_locks_no_partition_of_the_log(tracker):
    """Writers lock the log first. The opposite order can deadlock."""
    tracker.execute("create table products (id int primary key)")
    with tracker.project.owner.transaction():
        tracker.plan("products")
        locked = tracker.execute(
            "select relation::regclass::text from pg_locks join pg_inherits on inhrelid = relation"
            " where pid = pg_backend_pid()"
        ).fetchall()
    assert locked == []


def test_tracking_functions_are_the_same_on_every_server_version(tracker):
    """A dump of one version is restored into another, and changes are still recorded."""
    tracker.execute("create table products (id int primary key, name text)")
    tracker.track("products")
    texts = tracker.project.owner.execute(
        "select prosrc from pg_proc where pronamespace = 'usersync'::regnamespace"
    ).fetchall()
    assert not [text for (text,) in texts if "uuidv7()" in text]
    tracker.execute("insert into products values (1, 'Bolt'), (2, 'Nut')")
    assert {each.version for each in tracker.events("id")} == {7}
