"""The statements of triggers and of sync pages use indexes and read few rows, whatever the size of the tables
and whatever the planner's statistics.

EXPLAIN does not show what a function runs. These tests use PostgreSQL's counts of the rows that a transaction
reads by sequential scans and through indexes.
"""

from __future__ import annotations

import hashlib
import uuid
from contextlib import contextmanager

import pytest
from psycopg.types.json import Jsonb

from audit_settings import with_audit_log
from fixtures_project import Project, clone_installed
from usersync import UserSync
from usersync.audit.tracking import operations as tracking
from usersync.audit.tracking.state import TrackOptions
from usersync.testing import GoTrue
from usersync.testing.install import install
from usersync.transports.run import run

USERS, EVENTS, OF_OTHERS = 12_000, 7_000, 2_000

#: When the tables are analyzed.
WHEN = ("never", "while they are empty", "when they are full")

TABLES = "auth.users, public.users, usersync.sync_failures, public.audit_logs"

#: Every fourth user has a sync failure. The first user has many events, and the others have one each.
FILL = """
    insert into auth.users (id, aud, role, email, phone, raw_user_meta_data, created_at)
    select md5('user' || n)::uuid, 'authenticated', 'authenticated', 'user' || n || '@example.com', '49' || n,
        jsonb_build_object('full_name', 'User ' || n), now()
    from generate_series({first}, {users}) as n;
    insert into usersync.sync_failures (user_id, outcome, sqlstate, message)
    select md5('user' || n)::uuid, 'degraded', '23505', 'x' from generate_series({first}, {users}, 4) as n;
    insert into public.audit_logs (id, occurred_at, action, outcome, actor_type, user_id, source)
    select gen_random_uuid(), now(), 'a.b', 'succeeded', 'user',
        md5('user' || case when n <= {events} then 1 else n - {events} end)::uuid, 'app'
    from generate_series(1, {events} + {others}) as n
"""

READ = """
    select schemaname || '.' || relname, seq_tup_read, coalesce(idx_tup_fetch, 0)
    from pg_stat_xact_all_tables
    where seq_tup_read + coalesce(idx_tup_fetch, 0) > 0 and schemaname not like 'pg_toast%'
"""


LAST = uuid.UUID(int=2**128 - 1)


def user(number):
    return uuid.UUID(bytes=hashlib.md5(f"user{number}".encode()).digest())  # noqa: S324 - as in FILL


@pytest.fixture(params=WHEN)
def analyzed(request):
    return request.param


@pytest.fixture
def policy():
    return "anonymize"


@pytest.fixture
def full(cluster, analyzed, policy):
    """A project with many users. A superuser's session runs all statements."""
    settings = with_audit_log({"on_delete": policy})

    def build(database):
        install(database, settings)
        with database.connect("supabase_admin") as superuser:
            if analyzed == "while they are empty":
                superuser.execute(f"analyze {TABLES}")
            superuser.execute(FILL.format(first=1, users=USERS, events=EVENTS, others=OF_OTHERS))
            if analyzed == "when they are full":
                superuser.execute(f"analyze {TABLES}")

    label = f"full_{WHEN.index(analyzed)}_{policy}"
    database = cluster.clone(cluster.template(label, build=build))
    with (
        database.connect("supabase_admin") as superuser,
        GoTrue(superuser) as auth,
        UserSync(superuser) as client,
    ):
        yield Project(database, settings, {}, auth, superuser, client)
    cluster.drop(database)


@contextmanager
def reading(project, *, at_most):
    """The block reads at most this number of rows, all through indexes, and is rolled back."""
    connection = project.owner
    with connection.transaction(force_rollback=True):
        before = counted(connection)
        yield
        after = counted(connection)
    by_scan, by_index = (
        {name: counts[way] - before.get(name, (0, 0))[way] for name, counts in after.items()}
        for way in (0, 1)
    )
    assert not any(by_scan.values()), by_scan
    assert sum(by_index.values()) <= at_most, by_index


def counted(connection):
    """Rows that the transaction has read of each table: by sequential scans, and through indexes."""
    rows = connection.execute(READ).fetchall()
    return {name: read for name, *read in rows if not name.startswith("pg_catalog.")}


def with_a_trigger(project):
    """Create an application's INSERT trigger on the users table: each row is read once more."""
    project.owner.execute(
        "create function public.see() returns trigger language plpgsql as $$ begin return new; end $$;"
        "create trigger see before insert on public.users for each row execute function public.see()"
    )


def with_a_constraint(project):
    """Add a constraint that the new user's row violates."""
    project.owner.execute(
        "alter table public.users add constraint no check (email <> 'new@example.com') not valid"
    )


def sign_up(project):
    project.auth.sign_up_email("new@example.com")


def record(project, *events):
    answer = project.owner.execute("select public.record_audit_events(%s)", [Jsonb(list(events))]).fetchone()
    assert answer[0]["rejected"] == 0


TRIGGERS = {
    "a sign-up": sign_up,
    "a sign-up with a trigger": lambda project: (with_a_trigger(project), sign_up(project)),
    "a sign-up that is refused": lambda project: (with_a_constraint(project), sign_up(project)),
    "a sign-in": lambda project: project.auth.sign_in(user(7)),
    "a changed e-mail": lambda project: project.auth.change_email(user(7), "new@example.com"),
    "a soft delete": lambda project: project.auth.soft_delete(user(7)),
    "a hard delete": lambda project: project.auth.hard_delete(user(7)),
    "ensure": lambda project: project.client.ensure_user_exists(user(7)),
    "ensure of an unknown user": lambda project: project.client.ensure_user_exists(uuid.uuid4()),
    "an event": lambda project: record(
        project, {"id": str(uuid.uuid4()), "action": "a.b", "actor_id": str(user(7)), "occurred_at": "now"}
    ),
    "an event without a time": lambda project: record(project, {"id": str(uuid.uuid4()), "action": "a.b"}),
    "an event of an unknown user": lambda project: record(
        project,
        {"id": str(uuid.uuid4()), "action": "a.b", "user_id": str(uuid.uuid4()), "occurred_at": "now"},
    ),
}


@pytest.mark.slow
@pytest.mark.newest_server
@pytest.mark.parametrize("what", TRIGGERS)
def test_statements_of_triggers_and_calls_read_few_rows(full, what):
    with reading(full, at_most=100):
        TRIGGERS[what](full)


@pytest.mark.slow
@pytest.mark.newest_server
@pytest.mark.parametrize("policy", ["delete"])
@pytest.mark.parametrize("number", [1, 7])
def test_a_deletion_reads_only_the_events_of_the_user_up_to_a_limit(full, number):
    """The first user has more events than the limit, so the deletion is a sync failure."""
    with reading(full, at_most=5_200):
        full.auth.hard_delete(user(number))
        assert full.client.user_exists(user(number)) == (number == 1)


@pytest.mark.newest_server
def test_a_change_of_a_tracked_table_reads_a_few_rows(full):
    full.owner.execute("create table public.products (id integer primary key, name text)")
    full.owner.execute("insert into public.products select n, n from generate_series(1, 10000) as n")
    run(tracking.track(full.settings, "public.products", TrackOptions(), lambda *_: False), full.owner)
    full.owner.execute("select set_config('usersync.actor_id', %s, false)", [str(user(7))])
    with reading(full, at_most=20):
        full.owner.execute("update public.products set name = 'x' where id = 1")
    full.owner.execute("alter table public.products drop constraint products_pkey")
    with pytest.raises(AssertionError, match="products"), reading(full, at_most=20):
        full.owner.execute("update public.products set name = 'x' where id = 1")


#: What a page finds, and how often it may read each of its rows.
PAGES = {
    "nothing": ("select", 16),
    "all rows are missing": ("delete from public.users; delete from usersync.sync_failures", 16),
    "all rows are stale": ("update public.users set email = 'x'", 20),
    "all users are deleted": ("delete from auth.users", 20),
}


@pytest.mark.slow
@pytest.mark.newest_server
@pytest.mark.parametrize("dry_run", [True, False])
@pytest.mark.parametrize("what", PAGES)
def test_a_page_reads_only_its_own_rows(full, what, dry_run):
    change, times = PAGES[what]
    with full.owner.transaction(force_rollback=True):
        full.owner.execute("set local session_replication_role = replica")
        full.owner.execute(change)
        full.owner.execute("set local session_replication_role = default")
        with reading(full, at_most=50 * times):
            full.owner.execute(
                "select usersync.reconcile_page(%s, %s, 50, %s)",
                [user(2), LAST, dry_run],
            )


@pytest.mark.newest_server
@pytest.mark.parametrize("analyzed", ["never"])
def test_one_pass_reads_each_row_at_most_twice(full):
    connection = full.owner
    with connection.transaction(force_rollback=True):
        connection.execute("truncate usersync.sync_failures")
        before = counted(connection)
        assert connection.execute("select in_step from usersync.compare_tables()").fetchone() == (True,)
        after = counted(connection)
    for table in ("auth.users", "public.users"):
        assert sum(after[table]) - sum(before.get(table, (0, 0))) <= 2 * USERS


def a_page(project):
    project.owner.execute("select usersync.reconcile_page(%s, %s, 600, true)", [uuid.UUID(int=0), LAST])


#: The statement, the numbers of users before and after, and the largest number of rows that it may read.
WARM = {name: (do, 8, 3_000, 120) for name, do in TRIGGERS.items()} | {"a page": (a_page, 500, 8_000, 4_000)}


@pytest.mark.newest_server
@pytest.mark.parametrize("what", WARM)
def test_a_plan_made_for_small_tables_reads_few_rows_of_large_ones(cluster, what):
    """A session keeps its plans, and the auth server keeps its sessions for long."""
    do, first, then, at_most = WARM[what]
    settings = with_audit_log({})
    database = clone_installed(cluster, settings)
    with (
        database.connect("supabase_admin") as superuser,
        database.connect("supabase_admin") as session,
        GoTrue(session) as auth,
        UserSync(session) as client,
    ):
        superuser.execute(FILL.format(first=1, users=first, events=1, others=7))
        warm = Project(database, settings, {}, auth, session, client)
        for _ in range(7):
            with session.transaction(force_rollback=True):
                do(warm)
        superuser.execute(FILL.format(first=first + 1, users=then, events=1, others=1_000))
        with reading(warm, at_most=at_most):
            do(warm)
    cluster.drop(database)
