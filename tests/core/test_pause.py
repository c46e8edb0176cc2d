"""While usersync is paused, the triggers only note changed users as failures. Resuming syncs the users."""

from __future__ import annotations

import asyncio
import threading
import time

import psycopg
import pytest

from usersync import AsyncUserSync, UserSync
from usersync.core import pausing
from usersync.errors import PausedError
from usersync.testing import GoTrue
from usersync.transports.run import run
from waiting import until, wait_for_locks

#: Not an aim but a hang detector: the locks here are released only afterwards.
HANG_S = 60


@pytest.fixture
def paused(project):
    project.client.pause(by="ada")
    return project


def test_a_pause_writes_no_row_and_resume_syncs_all_changes(project, sync_failures):
    auth = project.auth
    changing, leaving, soft, emptied = (
        auth.sign_up_email(f"{name}@example.com", data={"full_name": name.title()})
        for name in ("changing", "leaving", "soft", "emptied")
    )
    before = project.owner.execute(f"select ctid, xmin, u::text from {project.users} as u").fetchall()
    project.client.pause(by="ada")
    new = auth.sign_up_email("new@example.com")
    auth.change_email(changing, "changed@example.com")
    auth.hard_delete(leaving)
    auth.soft_delete(soft)
    short = auth.sign_up_email("short@example.com")
    auth.hard_delete(short)
    (imported,) = auth.import_users(1)
    assert project.owner.execute(f"select ctid, xmin, u::text from {project.users} as u").fetchall() == before
    noted = {user: (each.kind, each.outcome) for user, each in sync_failures().items()}
    assert noted == {
        new: ("row", "failed"),
        imported: ("row", "failed"),
        changing: ("row", "degraded"),
        leaving: ("removal", "failed"),
        soft: ("removal", "failed"),
        short: ("removal", "failed"),
    }
    assert {each.sqlstate for each in sync_failures().values()} == {"US004"}
    done = project.client.resume()
    assert (done.pause.by, done.complete, done.retried.errors, done.sync.errors) == ("ada", True, 0, 0)
    assert done.retried.counts.examined == 6
    assert sync_failures() == {}
    assert project.client.status().in_step
    assert project.row(new)["email"] == "new@example.com"
    assert project.row(changing)["email"] == "changed@example.com"
    assert project.row(emptied)["email"] == "emptied@example.com"
    for gone in (leaving, soft):
        assert (project.row(gone)["email"], bool(project.row(gone)["deleted_at"])) == (None, True)
    after = auth.sign_up_email("after@example.com")
    assert project.row(after)["email"] == "after@example.com"


def test_status_shows_who_paused_and_when(paused):
    status = paused.client.status()
    assert status.paused.by == "ada"
    again = paused.client.pause(by="grace")
    assert again == status.paused
    paused.client.resume()
    assert paused.client.status().paused is None
    assert paused.client.resume().pause is None


def test_a_pause_refuses_runs_but_not_calls_for_one_user(paused):
    client, user = paused.client, paused.auth.sign_up_email("ada@example.com")
    for refused in (client.reconcile, client.retry):
        with pytest.raises(PausedError, match=r"usersync is paused since .* by ada"):
            refused()
    with pytest.raises(psycopg.DatabaseError, match="paused") as raised:
        paused.owner.execute("select public.sync_existing_auth_users()")
    assert raised.value.sqlstate == "US305"
    assert client.reconcile(dry_run=True).counts.missing == 1
    assert client.ensure_user_exists(user)
    assert client.sync_auth_user(user)


def test_a_pause_stops_a_current_run_at_its_next_page(project, insert_without_triggers):
    insert_without_triggers(6)
    pages = []

    def pause_after_the_first(progress):
        pages.append(progress)
        if len(pages) == 1:
            project.client.pause()

    with UserSync(project.database.dsn()) as other, pytest.raises(PausedError):
        other.reconcile(page_size=2, on_progress=pause_after_the_first)
    assert project.client.status().missing == 4
    project.client.resume()
    assert project.client.status().in_step


def test_a_sign_up_while_paused_does_not_wait_for_the_users_table(paused, sync_failures):
    with paused.database.connect("supabase_admin") as other, other.transaction():
        other.execute(f"lock table {paused.users} in access exclusive mode")
        began = time.monotonic()
        user = paused.auth.sign_up_email("ada@example.com")
        assert time.monotonic() - began < HANG_S
    assert sync_failures()[user].sqlstate == "US004"


@pytest.mark.parametrize(
    "breakage",
    [
        "drop table usersync.pause",
        "drop function usersync.is_paused()",
        "drop function usersync.record_paused_users(uuid[], text, boolean)",
        "alter table usersync.sync_failures rename to gone",
        "drop table usersync.pause; create view usersync.pause as select 1 / 0 as paused_at",
    ],
)
def test_no_sign_up_fails_if_objects_of_the_pause_are_broken(paused, breakage):
    auth = paused.auth
    changing, leaving = (auth.sign_up_email(f"{name}@example.com") for name in ("changing", "leaving"))
    paused.owner.execute(breakage)
    auth.sign_up_email("new@example.com")
    auth.change_email(changing, "changed@example.com")
    auth.hard_delete(leaving)


@pytest.mark.slow
@pytest.mark.parametrize("table", ["usersync.pause", "usersync.sync_failures"])
def test_no_sign_up_fails_or_waits_long_if_a_table_of_the_pause_is_locked(paused, table):
    auth, user = paused.auth, paused.auth.sign_up_email("changing@example.com")
    with paused.database.connect("supabase_admin") as other, other.transaction():
        other.execute(f"lock table {table} in access exclusive mode")
        began = time.monotonic()
        auth.sign_up_email("new@example.com")
        auth.change_email(user, "changed@example.com")
        auth.hard_delete(user)
        assert time.monotonic() - began < HANG_S


def test_resume_waits_for_a_transaction_that_began_during_the_pause(paused, sync_failures):
    wait_for_locks(paused.owner)
    resumed = []
    with paused.database.connect("supabase_auth_admin") as auth_server:
        with auth_server.transaction():
            auth_server.execute(
                "insert into auth.users (id, email) values (gen_random_uuid(), 'a@example.com')"
            )

            def resume():
                with UserSync(paused.database.dsn()) as other:
                    resumed.append(other.resume())

            thread = threading.Thread(target=resume)
            thread.start()
            waits = (
                "select count(*) from pg_locks where not granted and relation = 'usersync.pause'::regclass"
            )
            until(lambda: paused.owner.execute(waits).fetchone()[0])
            # Sign-ups continue while resume waits, and are synced.
            meanwhile = paused.auth.sign_up_email("meanwhile@example.com")
            assert paused.row(meanwhile)
        thread.join()
    assert resumed[0].complete
    assert sync_failures() == {}
    assert paused.client.status().in_step


def test_resume_reports_a_longer_transaction_and_the_next_resume_syncs_it(paused, sync_failures, monkeypatch):
    with paused.database.connect("supabase_auth_admin") as auth_server, auth_server.transaction():
        auth_server.execute("insert into auth.users (id, email) values (gen_random_uuid(), 'a@example.com')")
        paused.owner.execute("alter function public.usersync(text, jsonb) set lock_timeout = '100ms'")
        ended = run(pausing.end_pause(), paused.owner)
        assert ended.pause.by == "ada"
        assert ended.pending.sqlstate == "55P03"
    assert [each.sqlstate for each in sync_failures().values()] == ["US004"]
    assert paused.client.status().failed == 1
    assert paused.client.resume().complete
    assert sync_failures() == {}


@pytest.mark.newest_server
def test_concurrent_sign_ups_succeed_during_repeated_pauses(project):
    stop, errors = threading.Event(), []

    def sign_up(number):
        try:
            with GoTrue(project.database.dsn("supabase_auth_admin")) as auth:
                n = 0
                while not stop.is_set():
                    n += 1
                    user = auth.sign_up_email(f"{number}-{n}@example.com")
                    if n % 3 == 0:
                        auth.change_email(user, f"{number}-{n}-changed@example.com")
                    if n % 5 == 0:
                        auth.hard_delete(user)
        except Exception as error:  # noqa: BLE001 - asserted below
            errors.append(error)

    threads = [threading.Thread(target=sign_up, args=[number]) for number in range(3)]
    for thread in threads:
        thread.start()
    for _ in range(8):
        project.client.pause()
        project.client.resume()
    stop.set()
    for thread in threads:
        thread.join()
    assert errors == []
    project.client.resume()
    status = project.client.status()
    assert status.in_step, status


@pytest.mark.settings(audit={"enabled": True})
def test_pause_and_resume_are_in_the_audit_log_with_their_actors(paused):
    paused.client.resume(by="grace")
    acts = paused.owner.execute(
        "select action, actor_id, metadata ->> 'paused_by' from public.audit_logs order by occurred_at"
    ).fetchall()
    assert acts == [("usersync.paused", "ada", None), ("usersync.resumed", "grace", "ada")]


@pytest.mark.settings(skip=["anonymous"])
def test_a_skipped_user_is_not_noted_during_a_pause(paused, sync_failures):
    paused.auth.sign_up_anonymous()
    assert sync_failures() == {}


def test_no_orphaned_row_is_removed_during_a_pause(project, delete_without_triggers):
    delete_without_triggers(project.auth.sign_up_email("ada@example.com"))
    project.client.pause()
    with pytest.raises(PausedError):
        project.client.remove_orphans(limit=1)
    assert project.client.status().orphaned == 1


async def _pause_and_resume(dsn):
    async with AsyncUserSync(dsn) as client:
        pause = await client.pause(by="ada")
        return pause, await client.resume()


@pytest.mark.newest_server
def test_pause_and_resume_from_asyncio(project):
    pause, done = asyncio.run(_pause_and_resume(project.database.dsn()))
    assert done.pause == pause


def test_open_sessions_notice_each_pause_and_resume(project, sync_failures):
    """The statements of a sign-up are planned once in a session; see usersync.has_pause."""
    for number in range(3):
        project.auth.sign_up_email(f"before-{number}@example.com")
        project.client.pause()
        user = project.auth.sign_up_email(f"during-{number}@example.com")
        assert sync_failures()[user].sqlstate == "US004"
        project.client.resume()
    after = project.auth.sign_up_email("after@example.com")
    assert project.row(after)
