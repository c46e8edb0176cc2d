"""Which users get a row (skip, creates_rows), and which rows belong to users (users_where)."""

from __future__ import annotations

import pytest

from audit_settings import with_audit_log
from usersync import UserSync
from usersync.config.settings import parse_settings
from usersync.testing.install import install


@pytest.mark.slow
@pytest.mark.settings(skip=["anonymous", "unconfirmed"])
def test_skipped_users_get_a_row_once_they_are_confirmed_or_permanent(project, sync_failures):
    auth = project.auth
    waiting = auth.sign_up_email("ada@example.com", autoconfirm=False)
    anonymous = auth.sign_up_anonymous()
    invited = auth.invite("bob@example.com")
    assert [project.row(each) for each in (waiting, anonymous, invited)] == [None] * 3
    confirmed = [
        auth.sign_up_email("eve@example.com"),
        auth.sign_up_oauth("mia@example.com"),
        auth.sign_up_phone("4915112345678"),
        auth.sign_up_web3(),
    ]
    assert all(project.row(each) for each in confirmed)
    assert sync_failures() == {}
    status = project.client.status()
    assert (status.skipped, status.missing, status.in_step) == (3, 0, True)
    assert not project.client.ensure_user_exists(waiting)
    assert not project.client.ensure_user_exists(waiting, create=True)
    counts = project.client.reconcile().counts
    assert (counts.differing, project.row(waiting)) == (0, None)
    assert project.client.reconcile(dry_run=True).differences == ()

    auth.confirm(waiting)
    auth.make_permanent(anonymous, "zoe@example.com", autoconfirm=True)
    assert project.row(waiting)["email"] == "ada@example.com"
    assert project.row(anonymous)["email"] == "zoe@example.com"
    assert project.client.status().skipped == 1
    assert sync_failures() == {}


@pytest.mark.settings(columns={"email": {"from": "email", "owner": "app"}})
def test_a_user_refused_without_an_email_gets_a_row_once_it_is_set(project, sync_failures, sql):
    """The e-mail is the only mapped column and is app-owned, so no mirrored column changes."""
    sql("alter table {users} alter column email set not null")
    users = project.auth.sign_up_anonymous(), project.auth.sign_up_phone("4915112345678")
    assert set(sync_failures()) == set(users)
    project.auth.make_permanent(users[0], "ada@example.com", autoconfirm=True)
    project.auth.change_email(users[1], "bob@example.com")
    assert [project.row(each)["email"] for each in users] == ["ada@example.com", "bob@example.com"]
    assert sync_failures() == {}


@pytest.mark.slow
@pytest.mark.settings(skip=["anonymous"])
def test_a_skipped_user_is_not_a_failure_if_the_users_table_is_broken(project, sync_failures, broken):
    for how in ("renamed", "locked", "trigger_raises"):
        with broken(how):
            anonymous = project.auth.sign_up_anonymous()
            failing = project.auth.sign_up_email(f"{how}@example.com")
            project.auth.update_user_metadata(anonymous, full_name="Ada")
        assert failing in sync_failures()
        assert anonymous not in sync_failures()
    project.client.reconcile()
    assert sync_failures() == {}
    assert project.client.status().skipped == 3


@pytest.mark.settings(skip=["anonymous"])
def test_an_existing_row_of_a_skipped_user_is_kept_in_sync(project, sql):
    user = project.auth.sign_up_anonymous()
    sql("insert into {users} ({key}) values (%s)", user)
    project.auth.update_user_metadata(user, full_name="Ada")
    assert project.row(user)["full_name"] == "Ada"
    assert project.client.status().in_step
    assert project.client.status().skipped == 0
    sql("update {users} set {full_name} = 'x'")
    assert project.client.status().stale == 1
    project.client.reconcile()
    assert project.row(user)["full_name"] == "Ada"


def test_an_event_of_a_skipped_user_is_stored_with_the_reason(database, postgres, auth):
    install(database, with_audit_log({"skip": ["anonymous"]}))
    user = auth.sign_up_anonymous()
    answer = postgres.execute(
        "select public.record_audit_events(jsonb_build_array(jsonb_build_object("
        "'id', gen_random_uuid(), 'action', 'a.b', 'actor_id', %s::text)))",
        [user],
    ).fetchone()[0]
    assert answer["stored"] == 1
    stored = postgres.execute(
        "select user_id, actor_id, metadata ->> 'user_sync_error' from public.audit_logs"
    ).fetchone()
    assert stored == (None, str(user), "skipped")


@pytest.mark.slow
@pytest.mark.settings(creates_rows=False)
def test_with_creates_rows_false_rows_are_synced_and_created_only_on_request(project, sql, sync_failures):
    first = project.auth.sign_up_email("ada@example.com")
    second = project.auth.sign_up_email("bob@example.com")
    assert not project.client.ensure_user_exists(first)
    assert project.client.reconcile().counts.differing == 0
    assert sql("select 1 from {users}") == []
    assert sync_failures() == {}
    status = project.client.status()
    assert (status.skipped, status.in_step) == (2, True)

    sql("insert into {users} ({key}) values (%s)", first)
    project.auth.change_email(first, "ada@new.example")
    assert project.row(first)["email"] == "ada@new.example"
    project.auth.change_email(second, "bob@new.example")
    assert project.row(second) is None
    assert project.client.ensure_user_exists(second, create=True)
    assert project.row(second)["email"] == "bob@new.example"
    assert project.client.status().in_step
    assert [each.difference for each in project.client.reconcile(dry_run=True).differences] == []
    third = project.auth.sign_up_email("eve@example.com")
    assert project.row(third) is None
    assert not project.client.ensure_user_exists(third)
    assert project.client.sync_auth_user(third, create=True)
    fourth = project.auth.sign_up_email("zoe@example.com")
    (found,) = project.client.reconcile(dry_run=True, create_missing=True).differences
    assert (found.user_id, found.difference) == (fourth, "missing")
    assert project.client.reconcile(create_missing=True).counts.missing == 1
    assert project.row(fourth)["email"] == "zoe@example.com"
    assert sync_failures() == {}


TEAMS = """
    create table public.accounts (
        id uuid primary key default gen_random_uuid(), is_personal boolean not null default false,
        kind text, name text, email text
    );
    insert into public.accounts (name, kind) values ('Team 1', 'team'), ('Team 2', 'team');
"""
WHERE = {
    "users_table": "public.accounts",
    "users_where": {"is_personal": True, "kind": "person"},
    "columns": {"name": "user_metadata.name", "email": "email"},
    "on_delete": "delete",
}


def test_rows_outside_users_where_are_never_compared_counted_or_changed(database, postgres, auth):
    postgres.execute(TEAMS)
    teams = postgres.execute("select a::text from public.accounts as a order by name").fetchall()
    install(database, parse_settings(WHERE))
    user = auth.sign_up_email("ada@example.com", data={"name": "Ada"})
    with UserSync(database.dsn()) as client:
        status = client.status()
        assert (status.users, status.orphaned, status.in_step) == (1, 0, True)
        postgres.execute("delete from public.accounts where id = %s", [user])
        counts = client.reconcile().counts
        assert (counts.missing, counts.orphaned, counts.stale) == (1, 0, 0)
        row = postgres.execute("select is_personal, kind, name from public.accounts where id = %s", [user])
        assert row.fetchone() == (True, "person", "Ada")
        assert client.reconcile(dry_run=True).differences == ()
        auth.update_user_metadata(user, name="Lady Ada")
        auth.hard_delete(user)
        assert client.failures() == []
    assert postgres.execute("select a::text from public.accounts as a order by name").fetchall() == teams


def test_a_users_row_outside_users_where_is_a_failure_and_stays_unchanged(database, postgres, auth):
    postgres.execute(TEAMS)
    install(database, parse_settings(WHERE))
    user = auth.sign_up_email("ada@example.com", data={"name": "Ada"})
    postgres.execute("update public.accounts set is_personal = false, name = 'Team' where id = %s", [user])
    with UserSync(database.dsn()) as client:
        client.reconcile()
        auth.update_user_metadata(user, name="Lady Ada")
        (failure,) = client.failures()
        assert (failure.user_id, failure.outcome, failure.sqlstate) == (user, "failed", "US002")
        assert "users_where leaves out" in failure.message
        auth.hard_delete(user)
    assert postgres.execute("select name from public.accounts where id = %s", [user]).fetchone() == ("Team",)


def test_a_degraded_row_has_the_constants_of_users_where(database, postgres, auth):
    postgres.execute(TEAMS + "alter table public.accounts add constraint short check (length(name) < 7)")
    install(database, parse_settings(WHERE))
    user = auth.sign_up_email("ada@example.com", data={"name": "Augusta Ada"})
    row = postgres.execute("select is_personal, kind, name from public.accounts where id = %s", [user])
    assert row.fetchone() == (True, "person", None)
    with UserSync(database.dsn()) as client:
        assert [each.outcome for each in client.failures()] == ["degraded"]


def test_a_table_created_by_usersync_has_the_columns_of_users_where(database, postgres, auth):
    install(database, parse_settings({"users_where": {"kind": "person"}}))
    user = auth.sign_up_email("ada@example.com")
    assert postgres.execute("select id, kind from public.users").fetchone() == (user, "person")
