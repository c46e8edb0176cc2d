"""reconcile() of both clients: what it writes and reports, and how a run is stopped and resumed."""

from __future__ import annotations

import asyncio
import threading
import uuid

import psycopg
import pytest
from psycopg_pool import AsyncConnectionPool, ConnectionPool

from usersync import AsyncUserSync, UserSync
from usersync.errors import ArgumentValueError, ConnectionFailedError, RemovalLimitError
from usersync.models import Counts

pytestmark = pytest.mark.newest_server

NIL, LAST = uuid.UUID(int=0), uuid.UUID(int=2**128 - 1)


@pytest.fixture
def client(dsn_or_api, make_client, flavour):
    return make_client(flavour, "dsn", dsn_or_api)


def all_rows(project):
    return project.owner.execute(
        f"select (select jsonb_agg(users order by users::text) from {project.users} as users), "
        "(select jsonb_agg(runs order by runs::text) from usersync.sync_runs as runs), "
        "(select jsonb_agg(failures order by failures::text) from usersync.sync_failures as failures)"
    ).fetchone()


def runs(project) -> list[tuple]:
    return project.owner.execute(
        "select state, part, part_count, examined, missing, next_id "
        "from usersync.sync_runs order by started_at, part"
    ).fetchall()


def test_a_dry_run_lists_differences_and_writes_nothing(
    project, client, insert_without_triggers, delete_without_triggers
):
    gone, stale = (project.auth.sign_up_email(f"{name}@example.com") for name in ("gone", "stale"))
    delete_without_triggers(gone)
    phone, email = project.column("phone"), project.column("email")
    project.owner.execute(f"update {project.users} set {phone} = '1', {email} = 'x'")
    (missing,) = insert_without_triggers(1)
    before = all_rows(project)
    result = client.reconcile(dry_run=True)
    assert all_rows(project) == before
    assert result.dry_run
    assert (result.synced, result.run_id) == (0, None)
    found = {each.user_id: (each.difference, set(each.columns)) for each in result.differences}
    assert found == {
        gone: ("orphaned", set()),
        stale: ("stale", {project.columns["email"], project.columns["phone"]}),
        missing: ("missing", set()),
    }
    assert (result.counts.missing, result.counts.stale, result.counts.orphaned) == (1, 1, 1)


@pytest.mark.parametrize("limit", [0, 1, 3, 5])
@pytest.mark.parametrize("page_size", [1, 2, 5000])
def test_difference_limit_limits_the_list_of_differences(client, insert_without_triggers, limit, page_size):
    users = insert_without_triggers(4)
    result = client.reconcile(dry_run=True, difference_limit=limit, page_size=page_size)
    assert [each.user_id for each in result.differences] == users[:limit]
    assert result.counts.missing == 4


@pytest.mark.parametrize("page_size", [1, 2, 5000])
@pytest.mark.parametrize("workers", [1, 4])
def test_each_page_size_and_number_of_workers_gives_the_same_result(
    project, client, insert_without_triggers, page_size, workers
):
    users = insert_without_triggers(9)
    seen = []
    result = client.reconcile(page_size=page_size, workers=workers, on_progress=seen.append)
    assert (result.synced, result.errors, result.counts) == (9, 0, Counts(examined=9, missing=9))
    assert all(project.row(user) for user in users)
    assert [each.counts.examined for each in seen] == sorted(each.counts.examined for each in seen)
    assert (seen[-1].counts.examined, {each.total for each in seen}) == (9, {9})
    history = runs(project)
    assert [row[:3] for row in history] == [("finished", part, workers) for part in range(1, workers + 1)]
    assert sum(row[3] for row in history) == sum(row[4] for row in history) == 9
    assert {row[5] for row in history} == {None}
    assert project.client.status().last_run.run_id == result.run_id
    assert project.client.status().last_run.finished


@pytest.mark.parametrize("workers", [1, 4])
def test_a_second_run_writes_nothing(project, client, insert_without_triggers, workers):
    insert_without_triggers(5)
    client.reconcile()
    rows = f"select xmin, ctid, * from {project.users} order by ctid"
    before = project.owner.execute(rows).fetchall()
    again = client.reconcile(workers=workers)
    assert (again.counts, again.synced) == (Counts(examined=5), 0)
    assert project.owner.execute(rows).fetchall() == before


@pytest.mark.parametrize("workers", [1, 4, 32])
def test_two_empty_tables_are_in_sync(project, client, workers):
    seen = []
    result = client.reconcile(workers=workers, on_progress=seen.append)
    assert (result.synced, result.errors, result.counts) == (0, 0, Counts())
    assert len(seen) == 1  # without a difference, no work is left for more workers
    assert client.reconcile(dry_run=True).differences == ()
    assert project.client.status().in_step


@pytest.mark.parametrize("page_size", [1, 2])
@pytest.mark.parametrize("workers", [1, 4])
def test_the_smallest_and_the_largest_id_are_synced(project, client, page_size, workers):
    edges = [NIL, LAST, *(uuid.UUID(int=2**126 * part - offset) for part in (1, 2, 3) for offset in (0, 1))]
    with project.database.connect("supabase_admin") as superuser:
        superuser.execute("set session_replication_role = replica")
        superuser.execute("insert into auth.users (id) select unnest(%s::uuid[])", [edges])
    result = client.reconcile(page_size=page_size, workers=workers)
    assert result.counts == Counts(examined=8, missing=8)
    assert all(project.row(user) for user in edges)


@pytest.mark.parametrize(
    "options",
    [
        *({"page_size": 0}, {"page_size": 100_001}, {"workers": 0}, {"workers": 33}),
        {"difference_limit": -1},
    ],
)
def test_an_option_out_of_range_is_rejected_by_name(project, client, options):
    (name,) = options
    with pytest.raises(ArgumentValueError, match=name.replace("_", " ")):
        client.reconcile(**options)
    assert runs(project) == []


def test_several_workers_require_more_than_one_connection(project, make_client, flavour):
    for transport in ("connection", "autocommit"):
        client = make_client(flavour, transport, project.database.dsn())
        with pytest.raises(ArgumentValueError, match="pool"):
            client.reconcile(workers=2)


@pytest.mark.parametrize("size", [1, 2, 8])
def test_a_run_may_have_more_workers_than_pool_connections(project, insert_without_triggers, size):
    insert_without_triggers(9)
    options = {"min_size": 1, "max_size": size, "timeout": 5}
    with ConnectionPool(project.database.dsn(), **options, open=True) as pool:
        assert UserSync(pool).reconcile(workers=4, page_size=1).synced == 9

    async def main():
        async with AsyncConnectionPool(project.database.dsn(), **options, open=False) as pool:
            return await AsyncUserSync(pool).reconcile(workers=4, page_size=1)

    assert asyncio.run(main()).counts == Counts(examined=9)


class Stop(BaseException):
    """A BaseException like KeyboardInterrupt, but one that pytest does not handle itself."""


def stop_after(pages: int, error: type[BaseException]):
    lock, seen = threading.Lock(), []

    def on_progress(progress):
        with lock:
            seen.append(progress)
            if len(seen) >= pages:  # also stops workers that finish a page later
                raise error

    return on_progress


@pytest.mark.parametrize("workers", [1, 4])
@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError, Stop])
def test_a_stopped_run_leaves_whole_pages_and_can_be_resumed(
    project, insert_without_triggers, workers, error
):
    insert_without_triggers(20)
    with UserSync(project.database.dsn()) as client:
        with pytest.raises(error):
            client.reconcile(page_size=2, workers=workers, on_progress=stop_after(3, error))
        states = {row[0] for row in runs(project)}
        assert "interrupted" in states
        assert "running" not in states
        done = sum(row[3] for row in runs(project))
        assert 0 < done < 20
        assert project.client.status().missing == 20 - done
        assert not project.client.status().last_run.finished
        seen = []
        result = client.reconcile(resume=True, on_progress=seen.append)
        assert result.counts == Counts(examined=20, missing=20)
        assert seen[0].counts.examined > done
    assert {row[0] for row in runs(project)} == {"finished"}
    assert len({row[2] for row in runs(project)}) == 1
    assert project.client.status().in_step


@pytest.mark.parametrize("workers", [1, 4])
def test_a_cancelled_run_leaves_whole_pages_and_can_be_resumed(project, insert_without_triggers, workers):
    insert_without_triggers(20)

    async def main():
        async with AsyncUserSync(project.database.dsn()) as client:
            begun = asyncio.Event()
            call = asyncio.ensure_future(
                client.reconcile(page_size=1, workers=workers, on_progress=lambda _: begun.set())
            )
            await begun.wait()
            call.cancel()
            with pytest.raises(asyncio.CancelledError):
                await call
            assert "running" not in {row[0] for row in runs(project)}
            assert (await client.status()).missing > 0
            return await client.reconcile(resume=True)

    assert asyncio.run(main()).counts == Counts(examined=20, missing=20)
    assert project.client.status().in_step


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 4])
def test_a_run_whose_connection_was_lost_can_be_resumed(
    project, make_client, flavour, insert_without_triggers, workers
):
    insert_without_triggers(20)
    dsn = project.database.dsn() + "?application_name=worker"
    client = make_client(flavour, "dsn", dsn)
    ended = []

    def end_sessions(_):
        if not ended:
            with project.database.connect("supabase_admin") as superuser:
                ended.append(
                    superuser.execute(
                        "select pg_terminate_backend(pid, 5000) from pg_stat_activity "
                        "where application_name = 'worker' and datname = current_database()"
                    ).fetchall()
                )

    with pytest.raises(ConnectionFailedError):
        client.reconcile(page_size=1, workers=workers, on_progress=end_sessions)
    assert ended
    assert client.status().missing > 0
    assert not client.status().last_run.finished
    assert client.reconcile(resume=True).counts == Counts(examined=20, missing=20)
    assert project.client.status().in_step


def test_resume_without_an_interrupted_run_begins_a_new_one(project, client, insert_without_triggers):
    insert_without_triggers(2)
    assert client.reconcile(resume=True).counts == Counts(examined=2, missing=2)
    assert client.reconcile(resume=True).counts == Counts(examined=2)
    assert len(runs(project)) == 2


def test_orphans_stay_until_remove_orphans_is_called(project, client, delete_without_triggers):
    users = [project.auth.sign_up_email(f"u{number}@example.com") for number in range(12)]
    delete_without_triggers(*users[:11])
    assert client.reconcile(workers=4).counts == Counts(examined=12, orphaned=11)
    before = all_rows(project)
    with pytest.raises(RemovalLimitError, match="there are 11 rows") as caught:
        client.remove_orphans(limit=10)
    assert "usersync sync --dry-run" in caught.value.hint
    assert client.apply_deletions(limit=0).found == 0
    assert all_rows(project) == before
    removal = client.remove_orphans(limit=11)
    assert (removal.kind, removal.found, removal.removed, removal.failed) == ("orphaned", 11, 11, 0)
    assert project.row(users[0])["email"] is None
    assert project.row(users[11])["email"] == "u11@example.com"
    assert client.status().in_step


def test_soft_deletions_are_applied_by_apply_deletions(project, client):
    users = [project.auth.sign_up_email(f"u{number}@example.com") for number in range(2)]
    with project.database.connect("supabase_admin") as superuser:
        superuser.execute("set session_replication_role = replica")
        superuser.execute("update auth.users set deleted_at = now() where id = %s", [users[0]])
    assert client.reconcile().counts == Counts(examined=2, deleted_upstream=1)
    assert client.apply_deletions(limit=1).removed == 1
    assert project.row(users[0])["email"] is None
    assert project.row(users[1])["email"] == "u1@example.com"


def test_a_refused_row_is_an_error_and_the_other_users_are_synced(project, client, insert_without_triggers):
    insert_without_triggers(6)
    bad = "alter table {} add constraint no check ({} <> '3@example.com') not valid"
    project.owner.execute(bad.format(project.users, project.column("email")))
    result = client.reconcile(page_size=2)
    assert (result.synced, result.errors, result.counts.missing) == (5, 1, 6)
    (failure,) = client.failures()
    assert (failure.constraint, failure.outcome) == ("no", "degraded")


def test_a_client_answers_other_calls_during_its_run(project, insert_without_triggers):
    """The run has its own connection, so other calls of the same client do not wait for it."""
    users = insert_without_triggers(3)
    with UserSync(project.database.dsn()) as client:
        answered, inside, finish = [], threading.Event(), threading.Event()

        def hold(_):
            inside.set()
            assert finish.wait(110)

        reconciling = threading.Thread(target=client.reconcile, kwargs={"page_size": 1, "on_progress": hold})
        reconciling.start()
        try:
            assert inside.wait(90)
            answered.append(client.ensure_user_exists(users[-1]))
        finally:
            finish.set()
            reconciling.join()
    assert answered == [True]


def test_a_run_in_the_applications_transaction_is_committed_by_the_application(
    project, insert_without_triggers
):
    insert_without_triggers(2)
    with psycopg.connect(project.database.dsn()) as connection:
        connection.execute("select 1")
        assert UserSync(connection).reconcile().synced == 2
        assert project.client.status().missing == 2
        connection.commit()
    assert project.client.status().in_step
