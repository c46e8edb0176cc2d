"""plan, apply and rollback, as the role `postgres`, which is not a superuser and does not own auth.users."""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from audit_settings import with_audit_log
from usersync.errors import (
    MigrationChangedError,
    NotInstalledError,
    SettingsError,
    UsersyncError,
    VersionMismatchError,
)
from usersync.schema import installation
from usersync.sql.render import render_bundle
from usersync.transports.run import run
from usersync.version import __version__

TRIGGERS = ["on_auth_user_created", "on_auth_user_deleted", "on_auth_user_updated"]


def triggers(connection) -> dict[str, tuple[str, int]]:
    rows = connection.execute(
        "select tgname, tgenabled, tgtype from pg_trigger where tgrelid = 'auth.users'::regclass "
        "and tgname like 'on_auth_user%' order by 1"
    )
    return {name: (enabled, kind) for name, enabled, kind in rows.fetchall()}


def test_plan_writes_nothing_and_lists_the_changes_of_apply(installer, catalog, settings):
    before = catalog()
    planned = installer.plan(settings)
    assert catalog() == before
    assert planned.errors == ()
    reported = []
    applied = run(installation.apply(settings, reported.append), installer.connection)
    assert applied.changes == tuple(reported) == planned.changes
    assert catalog() != before


def test_applying_again_changes_nothing(project):
    assert run(installation.plan(project.settings), project.owner).changes == ()
    assert run(installation.apply(project.settings), project.owner).changes == ()


@pytest.mark.slow
@pytest.mark.newest_server
def test_apply_and_rollback_notify_postgrest_after_the_commit(installer, database, settings):
    """No function or trigger sends notifications, because a full queue would fail a sign-up."""
    with database.connect() as listener:
        listener.execute("listen pgrst")

        def notifications():
            listener.execute("select 1")
            return [each.payload for each in listener.notifies(timeout=0)]

        run(installation.apply(settings), installer.connection)
        assert notifications() == ["reload schema"]
        run(installation.apply(settings), installer.connection)
        assert notifications() == []
        run(installation.rollback(settings), installer.connection)
        assert notifications() == ["reload schema"]
    bundle = render_bundle(settings)
    assert not any("notify" in each.text.lower() for each in bundle.functions)


def test_rollback_restores_the_previous_state(installer, catalog, settings):
    if settings.users_table.schema != "public":
        installer.connection.execute('create schema "we""ird; schema"')
    before = catalog()
    installer.apply(settings)
    installer.rollback(settings, drop_users_table=True, drop_audit_log=True)
    assert catalog() == before
    with pytest.raises(NotInstalledError):
        installer.rollback(settings)


@pytest.mark.newest_server
def test_rollback_keeps_the_users_table_without_the_option(project):
    user = project.auth.sign_up_email("ada@example.com")
    rolled_back = run(installation.rollback(project.settings), project.owner)
    assert rolled_back.changes[-1].kind == "keep"
    assert project.row(user)["email"] == "ada@example.com"
    assert project.owner.execute("select to_regnamespace('usersync')").fetchone() == (None,)
    assert project.auth.sign_up_email("bob@example.com")
    assert run(installation.plan(project.settings), project.owner).errors == ()


@pytest.mark.newest_server
def test_a_users_table_of_the_application_cannot_be_dropped(installer):
    installer.connection.execute("create table public.users (id uuid primary key, email text)")
    settings = with_audit_log({"columns": {"email": "email"}})
    installer.apply(settings)
    with pytest.raises(SettingsError, match="was not created by usersync"):
        installer.rollback(settings, drop_users_table=True, drop_audit_log=True)
    installer.rollback(settings)
    assert installer.connection.execute("select count(*) from public.users").fetchone() == (0,)


@pytest.mark.slow
@pytest.mark.newest_server
@pytest.mark.parametrize("left", ["schema", "tables"])
def test_a_partial_installation_can_be_removed_or_completed(installer, catalog, left):
    before = catalog()
    bundle = render_bundle(with_audit_log())
    installer.connection.execute(bundle.bootstrap)
    if left == "tables":
        installer.connection.execute(bundle.migrations[0].up)
    installer.rollback(with_audit_log())
    assert catalog() == before
    installer.connection.execute(bundle.bootstrap)
    installer.apply(with_audit_log())
    assert installer.subjects(with_audit_log()) == []


@pytest.mark.slow
@pytest.mark.newest_server
def test_twenty_concurrent_calls_of_apply_install_once(database, installer, settings):
    changes = []

    def install(_):
        with database.connect("postgres") as connection:
            return run(installation.apply(settings), connection).changes

    with ThreadPoolExecutor(20) as threads:
        changes = list(threads.map(install, range(20)))
    # One call creates the tables and functions. The same call or another creates the triggers.
    subjects = [change.subject for each in changes for change in each]
    assert len(subjects) == len(set(subjects))
    assert {f"trigger {name}" for name in TRIGGERS} <= set(subjects)
    assert installer.plan(settings).changes == ()
    versions = installer.connection.execute("select count(*) from usersync.schema_version").fetchone()[0]
    assert versions == len(render_bundle(settings).migrations)


@pytest.mark.slow
@pytest.mark.newest_server
def test_concurrent_apply_and_rollback_leave_a_state_that_apply_completes(database, installer):
    def work(number):
        with database.connect("postgres") as connection:
            try:
                run(
                    (installation.rollback if number % 2 else installation.apply)(with_audit_log()),
                    connection,
                )
            except NotInstalledError:
                return

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(work, range(8)))
    installer.apply(with_audit_log())
    assert installer.plan(with_audit_log()).changes == ()
    assert sorted(triggers(installer.connection)) == TRIGGERS


@pytest.mark.newest_server
def test_plan_and_apply_raise_if_a_migration_was_edited(installed):
    installed.connection.execute("update usersync.schema_version set checksum = 'other'")
    for attempt in (installed.plan, installed.apply):
        with pytest.raises(MigrationChangedError, match=r"migration 1 \(core\)") as caught:
            attempt(with_audit_log())
        assert caught.value.hint


@pytest.mark.newest_server
@pytest.mark.parametrize(
    "newer",
    [
        "insert into usersync.schema_version (version, name, checksum) values (9999, 'later', 'x')",
        """update usersync.settings set settings = settings || '{"library_version": "99.0.0"}'""",
        """update usersync.settings set settings = settings || '{"library_version": "99.0.0rc1"}'""",
    ],
)
def test_plan_and_apply_raise_if_the_schema_is_newer(installer, catalog, newer):
    installer.apply(with_audit_log())
    installer.connection.execute(newer)
    before = catalog()
    for attempt in (installer.plan, installer.apply):
        with pytest.raises(VersionMismatchError, match=re.escape(__version__)) as caught:
            attempt(with_audit_log())
        assert "Upgrade usersync" in caught.value.hint
    assert catalog() == before


@pytest.mark.newest_server
def test_an_older_release_is_upgraded(installed):
    installed.connection.execute(
        """update usersync.settings set settings = settings || '{"library_version": "0.0.9"}'"""
    )
    assert installed.subjects(with_audit_log()) == ["alter settings"]
    installed.apply(with_audit_log())
    assert installed.subjects(with_audit_log()) == []


def test_an_edited_function_is_detected_and_replaced(project):
    project.owner.execute(
        "create or replace function usersync.handle_new_user() returns trigger language plpgsql as "
        "'begin return null; end'"
    )
    (change,) = [
        each
        for each in run(installation.plan(project.settings), project.owner).changes
        if each.kind == "replace"
    ]
    assert (change.subject, change.reason) == (
        "function usersync.handle_new_user()",
        "it was edited in the database",
    )
    run(installation.apply(project.settings), project.owner)
    assert run(installation.plan(project.settings), project.owner).changes == ()
    assert project.row(project.auth.sign_up_email("ada@example.com")) is not None


@pytest.mark.newest_server
@pytest.mark.parametrize("change", ["security invoker", "set search_path = public", "volatile"])
def test_an_altered_function_is_detected_and_replaced(installed, change):
    name = "usersync.user_exists(uuid)" if change == "volatile" else "public.ensure_user_exists(uuid)"
    installed.connection.execute(f"alter function {name} {change}")
    assert f"replace function {name}" in installed.subjects(with_audit_log())
    installed.apply(with_audit_log())
    assert installed.subjects(with_audit_log()) == []


HANDLED = "on auth.users for each row execute function usersync.handle_updated_user()"
CREATE = "create or replace trigger on_auth_user_updated"
DAMAGES = (
    "drop trigger on_auth_user_updated on auth.users",
    "alter table auth.users disable trigger on_auth_user_updated",
    "alter table auth.users enable replica trigger on_auth_user_updated",
    f"{CREATE} after update of email {HANDLED}",
    f"{CREATE} after update {HANDLED.replace('execute', 'when (new.email is not null) execute')}",
    f"{CREATE} after update {HANDLED.replace('updated', 'new')}",
    f"{CREATE} before update {HANDLED}",
)


@pytest.mark.slow
def test_a_missing_disabled_or_changed_trigger_is_repaired(project, superuser_of):
    for damage in DAMAGES:
        superuser_of(project).execute(damage)
        (change,) = run(installation.apply(project.settings), project.owner).changes
        assert change.subject == "trigger on_auth_user_updated", damage
        assert triggers(project.owner)["on_auth_user_updated"] == ("O", 17), damage
        assert run(installation.plan(project.settings), project.owner).changes == (), damage


@pytest.fixture
def superuser_of():
    opened = []

    def connect(project):
        opened.append(project.database.connect("supabase_admin"))
        return opened[-1]

    yield connect
    for each in opened:
        each.close()


@pytest.mark.newest_server
def test_a_dropped_table_of_usersync_is_created_again(project):
    project.owner.execute("drop table usersync.sync_failures")
    created, *later = run(installation.apply(project.settings), project.owner).changes
    assert (created.subject, created.reason) == ("migration 0001 core", "missing: usersync.sync_failures")
    # Columns that later migrations added are added again.
    assert "migration 0006 deletions" in [each.subject for each in later]
    assert all(each.subject.startswith("migration ") for each in later)
    assert {each.reason for each in later} == {"tables that it alters are missing"}
    assert run(installation.plan(project.settings), project.owner).changes == ()
    assert project.client.failures() == []
    granted = "select has_table_privilege('anon', 'usersync.sync_failures', 'select')"
    assert project.owner.execute(granted).fetchone() == (False,)


@pytest.mark.newest_server
def test_migrations_that_run_again_keep_the_kind_of_a_failure(project):
    project.owner.execute(
        "insert into usersync.sync_failures (user_id, kind, outcome, sqlstate, message) "
        "values (gen_random_uuid(), 'event', 'failed', '23503', 'made up')"
    )
    project.owner.execute("drop table usersync.adopted")
    run(installation.apply(project.settings), project.owner)
    assert project.owner.execute("select kind from usersync.sync_failures").fetchall() == [("event",)]


@pytest.mark.newest_server
@pytest.mark.parametrize(
    ("grant", "named"),
    [
        (
            "grant execute on function public.ensure_user_exists(uuid) to anon",
            "function public.ensure_user_exists(uuid)",
        ),
        (
            "grant execute on function usersync.user_exists(uuid) to public",
            "function usersync.user_exists(uuid)",
        ),
        ("grant usage on schema usersync to authenticated", "schema usersync"),
        ("grant select on usersync.sync_failures to anon", "table usersync.sync_failures"),
    ],
)
def test_a_granted_privilege_is_detected_and_revoked(installed, grant, named):
    installed.connection.execute(grant)
    (change,) = installed.plan(with_audit_log()).changes
    assert (change.subject, change.reason) == ("privileges", f"other roles have rights: {named}")
    installed.apply(with_audit_log())
    assert installed.subjects(with_audit_log()) == []


@pytest.mark.newest_server
def test_changed_settings_replace_the_affected_functions(installed):
    settings = replace(with_audit_log(), lock_timeout_ms=100)
    subjects = installed.subjects(settings)
    assert any(each.startswith("replace function usersync.sync_users(") for each in subjects)
    assert not any("trigger on_" in each or "handle_deleted" in each for each in subjects)
    installed.apply(settings)
    assert installed.subjects(settings) == []
    assert installed.subjects(with_audit_log()) == subjects


@pytest.mark.newest_server
def test_obsolete_functions_of_usersync_are_dropped_and_others_are_not(installer, superuser):
    installer.apply(with_audit_log())
    installer.connection.execute(
        "create function usersync.old() returns void language sql as ''; "
        "comment on function usersync.old() is 'usersync: from an older release'"
    )
    superuser.execute(
        "create schema stranger authorization authenticated; set role authenticated; "
        "create function stranger.\"x(); drop table public.users; --\"() returns void language sql as '';"
        "comment on function stranger.\"x(); drop table public.users; --\"() is 'usersync: mine'; reset role"
    )
    superuser.execute(
        "create function public.strange() returns void language sql as ''; "
        "comment on function public.strange() is 'usersync: mine too'; "
        "alter function public.strange() owner to authenticated"
    )
    assert installer.subjects(with_audit_log()) == ["drop function usersync.old()", "alter privileges"]
    installer.apply(with_audit_log())
    assert installer.subjects(with_audit_log()) == []
    installer.rollback(with_audit_log())
    assert superuser.execute(
        "select count(*) from pg_proc where pronamespace = 'stranger'::regnamespace"
    ).fetchone() == (1,)


@pytest.mark.newest_server
def test_apply_raises_inside_a_transaction(database, catalog):
    before = catalog()
    with database.connect("postgres", autocommit=False) as connection:
        connection.execute("select 1")
        with pytest.raises(UsersyncError, match="transaction of its own"):
            run(installation.apply(with_audit_log()), connection)
        assert connection.execute("select 2").fetchone() == (2,)
    assert catalog() == before


def test_rollback_keeps_a_function_of_the_application_with_a_comment_like_ours(project):
    owner = project.owner
    owner.execute("""
        create table public.orders (id int);
        create function public.handle_orders() returns trigger language plpgsql as 'begin return new; end';
        comment on function public.handle_orders() is 'usersync: makes sure the buyer exists';
        create trigger t after insert on public.orders for each row execute function public.handle_orders()
    """)
    run(installation.rollback(project.settings), owner)
    assert owner.execute("select count(*) from pg_trigger where tgname = 't'").fetchone() == (1,)


def test_rollback_changes_nothing_if_an_object_depends_on_usersync(project):
    project.owner.execute("create view public.watching as select * from usersync.sync_failures")
    with pytest.raises(UsersyncError, match="depend"):
        run(installation.rollback(project.settings), project.owner)
    assert project.client.user_exists(project.auth.sign_up_email())
