"""Subscriptions to an audit table of the application, into which the application inserts rows itself."""

from __future__ import annotations

from types import SimpleNamespace
from uuid import UUID

import pytest
from working import Working, wait_for

from audit_settings import with_audit_log
from usersync import Handlers
from usersync.doctor import choose, examine
from usersync.errors import SettingsError
from usersync.events import subscriptions
from usersync.schema import installation
from usersync.testing.install import install
from usersync.transports.run import run

pytestmark = pytest.mark.newest_server

TABLE = """
    create table public.activity (
        key text primary key, verb text, thing text, thing_id text, at timestamptz default now(), more jsonb
    );
    insert into public.activity values ('first', 'a.b', 'thing', '1', '2020-01-01');
"""
SETTINGS = with_audit_log(
    {
        "audit": {
            "table": "public.activity",
            "columns": {
                "id": {"column": "key", "type": "text"},
                "action": "verb",
                "entity_type": "thing",
                "entity_id": "thing_id",
                "occurred_at": "at",
                "metadata": "more",
            },
        }
    }
)


@pytest.fixture
def working(database, postgres):
    postgres.execute(TABLE)
    install(database, SETTINGS)
    return Working(SimpleNamespace(owner=postgres, database=database))


def insert(connection, *keys, entity="1"):
    for each in keys:
        connection.execute("insert into public.activity values (%s, 'a.b', 'thing', %s)", [each, entity])


@pytest.mark.slow
def test_handlers_get_rows_of_the_application(working, database):
    """New rows, failed ones again, all of them again; and those of a transaction that is open in between."""
    handlers, seen, broken = Handlers(), [], {"c"}
    triggers = "select array_agg(tgname::text) from pg_trigger where tgrelid = 'public.activity'::regclass"
    assert working.owner.execute(triggers).fetchone() == (None,)

    @handlers.on("a.*", name="new", attempts=2)
    def handle(event):
        assert isinstance(event.id, UUID)
        if event.tie in broken:
            raise ValueError
        seen.append(event.tie)

    @handlers.on("a.b", name="copied", transactional=True)
    def copy(event, connection):
        connection.execute("insert into public.copied values (%s)", [event.tie])

    working.owner.execute("create table public.copied (key text primary key)")
    working.register(handlers)
    assert working.owner.execute(triggers).fetchone() == (["note_events"],)
    with working.worker(handlers), database.connect("postgres") as other, other.transaction():
        insert(other, "late")
        insert(working.owner, "a", "b")
        insert(working.owner, "c", "d", entity="2")
        wait_for(lambda: working.status("new").dead == 1, "the dead event")
        working.wait_done("new")
    with working.worker(handlers):
        wait_for(lambda: "late" in seen, "the event that was committed late")
        broken.clear()
        assert working.retry("new") == 1
        working.wait_done("new")
        working.wait_done("copied")
    assert seen == ["a", "b", "d", "late", "c"] or sorted(seen) == ["a", "b", "c", "d", "late"]
    assert [each for each in seen if each in {"a", "b", "late"}] == ["a", "b", "late"]
    copied = working.owner.execute("select array_agg(key order by key) from public.copied").fetchone()
    assert copied == (["a", "b", "c", "d", "late"],)
    del seen[:]
    assert run(subscriptions.replay("new", 1), working.owner) == 0
    with working.worker(handlers):
        working.wait_done("new")
    assert sorted(seen) == ["a", "b", "c", "d", "first", "late"]
    working.remove("new")
    working.remove("copied")
    assert "trigger note_events on public.activity" in {
        each.subject
        for each in run(installation.plan(SETTINGS), working.owner).changes
        if each.kind == "drop"
    }


def test_existing_rows_come_only_from_the_beginning(working):
    handlers, seen = Handlers(), []
    handlers.on("a.b", name="now")(lambda event: seen.append(("now", event.tie)))
    handlers.on("a.b", name="all")(lambda event: seen.append(("all", event.tie)))
    working.owner.execute("insert into public.activity select n, 'a.b' from generate_series(1, 3) as n")
    now, everything = (Handlers(), Handlers())
    now.on("a.b", name="now")(lambda event: seen.append(("now", event.tie)))
    everything.on("a.b", name="all")(lambda event: seen.append(("all", event.tie)))
    working.register(now)
    working.register(everything, from_beginning=True)
    insert(working.owner, "new")
    # Without a worker, this event gets no number.
    assert (working.status("now").lag, working.status("all").lag) == (1, 5)
    with working.owner.transaction(force_rollback=True):
        working.owner.execute(
            "insert into usersync.noted_events (event_id, occurred_at) "
            "select gen_random_uuid(), now() from generate_series(1, 10001)"
        )
        assert working.status("now").lag == 10_000
    with working.worker(handlers):
        working.wait_done("all")
        working.wait_done("now")
    assert sorted(seen) == [
        ("all", "1"),
        ("all", "2"),
        ("all", "3"),
        ("all", "first"),
        ("all", "new"),
        ("now", "new"),
    ]


def test_a_table_whose_rows_may_have_no_id_is_refused(working):
    working.owner.execute(
        "alter table public.activity drop constraint activity_pkey, alter key drop not null"
    )
    handlers = Handlers()
    handlers.on("a.b", name="x")(print)
    with pytest.raises(SettingsError, match="have no id, and the feed would omit them") as refused:
        working.register(handlers)
    assert 'alter column "key" set default gen_random_uuid();' in refused.value.hint


FOREIGN_PARTITION = """
    drop table public.activity;
    create table public.activity (
        key text not null, verb text, thing text, thing_id text, at timestamptz default now(), more jsonb
    ) partition by range (at);
    alter table public.activity owner to postgres;
    create foreign data wrapper elsewhere;
    create server elsewhere foreign data wrapper elsewhere;
    create foreign table public.activity_2020 partition of public.activity
        for values from ('2020-01-01') to ('2021-01-01') server elsewhere;
"""
NO_RIGHT = """
    alter table public.activity owner to supabase_admin;
    revoke all on public.activity from postgres, anon, authenticated, service_role;
    grant select, insert on public.activity to postgres;
"""


@pytest.mark.parametrize(
    ("sql", "problem", "fix"),
    [
        (FOREIGN_PARTITION, "has partitions that are foreign tables", "Detach these partitions"),
        (NO_RIGHT, "no right to create a trigger", 'grant trigger on table "public"."activity"'),
    ],
    ids=["foreign partition", "no right"],
)
def test_a_table_that_can_have_no_trigger_is_refused(working, superuser, sql, problem, fix):
    superuser.execute(sql)
    handlers = Handlers()
    handlers.on("a.b", name="x")(print)
    with pytest.raises(SettingsError, match=problem) as refused:
        working.register(handlers)
    assert fix in refused.value.hint
    assert working.owner.execute("select count(*) from usersync.subscriptions").fetchone() == (0,)


@pytest.mark.slow
def test_d025_reports_a_disabled_or_missing_trigger(working, superuser):
    handlers, seen = Handlers(), []
    handlers.on("a.b", name="new")(lambda event: seen.append(event.tie))
    working.register(handlers)

    def found():
        (check,) = run(examine(SETTINGS, choose(["D025"])), working.owner)
        return check.status, check.detail, check.fix

    assert found()[0] == "ok"
    working.owner.execute("alter table public.activity disable trigger note_events")
    status, detail, fix = found()
    assert (status, "note_events on public.activity is disabled" in detail) == ("problem", True)
    insert(working.owner, "while disabled")
    working.owner.execute("drop trigger note_events on public.activity")
    assert "note_events on public.activity is missing" in found()[1]
    assert fix == "usersync apply"
    run(installation.apply(SETTINGS), working.owner)
    assert found()[0] == "ok"
    insert(working.owner, "after the fix")
    with working.worker(handlers):
        wait_for(lambda: len(seen) == 2, "the events of both rows")
    assert sorted(seen) == ["after the fix", "while disabled"]
