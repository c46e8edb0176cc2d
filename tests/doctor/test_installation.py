"""D001 to D003: the connection, the installation, the migrations."""

from __future__ import annotations

import dataclasses

import pytest

from audit_settings import with_audit_log
from usersync.doctor import choose, examine
from usersync.schema import installation
from usersync.schema.findings import find
from usersync.schema.inspection import inspect
from usersync.sql.render import render_bundle
from usersync.transports.run import run


@pytest.mark.newest_server
def test_d001_names_the_role_and_both_versions(checked):
    detail = checked.check("D001").detail
    assert "role postgres" in detail
    assert "PostgreSQL" in detail


@pytest.mark.newest_server
def test_d001_warns_about_an_installation_of_an_older_release(checked):
    checked.project.owner.execute(
        """update usersync.settings set settings = settings || '{"library_version": "0.0.1"}'"""
    )
    check = checked.is_fixed_by_pasting("D001", "warning")
    assert "usersync 0.0.1" in check.detail


@pytest.mark.newest_server
def test_d001_reports_an_installation_of_a_newer_release(checked):
    checked.project.owner.execute(
        """update usersync.settings set settings = settings || '{"library_version": "999.0.0"}'"""
    )
    found = checked.check_all()
    assert found["D001"].status == found["D003"].status == "problem"
    assert found["D001"].fix == "Upgrade usersync on this machine to 999.0.0 or newer."
    assert found["D006"].status == "skipped"


#: Checks that require no usersync in the database: the pooler, the clock, the spool, writes.
WITHOUT_INSTALLATION = ("D023", "D031", "D032", "D036")


@pytest.mark.newest_server
def test_d001_reports_a_database_without_auth_users(superuser):
    """Without the auth server's table there is one problem, and the other checks are skipped."""
    settings = dataclasses.replace(
        with_audit_log(), source_table=dataclasses.replace(with_audit_log().source_table, name="people")
    )
    first, *others = run(examine(settings), superuser)
    assert (first.code, first.status) == ("D001", "problem")
    assert "auth.people" in first.detail
    assert {check.status for check in others if check.code not in WITHOUT_INSTALLATION} == {"skipped"}


@pytest.mark.newest_server
def test_d001_reports_an_old_postgresql(checked):
    """The tests have no such server, so the check gets another version number."""

    inspection = run(inspect(render_bundle(checked.settings)), checked.project.owner)
    catalog = {**inspection.catalog, "server_version": 140011}
    found = find(checked.settings, dataclasses.replace(inspection, catalog=catalog))
    (finding,) = [each for each in found if each.code == "D001"]
    assert "PostgreSQL 14 is too old" in finding.message


@pytest.mark.newest_server
@pytest.mark.parametrize("role", ["service_role", "authenticated", "supabase_auth_admin"])
def test_d001_reports_a_role_without_privileges(checked, role):
    with checked.project.database.connect(role) as connection:
        found = run(examine(checked.settings), connection)
    assert found[0].status == "problem"
    assert f"the role {role} cannot inspect the database" in found[0].detail
    assert "permission denied" in found[0].detail
    assert "postgresql://postgres:" in found[0].fix
    assert {check.status for check in found[1:]} == {"skipped"}


@pytest.mark.newest_server
def test_d001_is_reported_even_if_not_selected(checked):
    with checked.project.database.connect("service_role") as connection:
        found = run(examine(checked.settings, choose(["D017"])), connection)
    assert [check.code for check in found] == ["D001", "D017"]


def test_d002_reports_that_usersync_is_not_installed(checked, root):
    root.execute("drop schema usersync cascade; alter table auth.users disable trigger user")
    root.execute("drop function public.ensure_user_exists, public.user_sync_status")
    root.execute("drop function public.sync_existing_auth_users")
    found = checked.check_all()
    assert found["D002"].status == "problem"
    for code in ("D003", "D004", "D006", "D007", "D008", "D009", "D012", "D017", "D018", "D019", "D020"):
        assert found[code].status == "skipped", found[code]
        assert "not installed" in found[code].detail
    checked.is_fixed_by_pasting("D002")
    checked.project.client.reconcile()
    assert checked.failing() == {}


HAND_WRITTEN = """
    create function public.handle_new_user() returns trigger language plpgsql security definer as $$
    begin insert into public.users (id) values (new.id); return new; end $$;
    create trigger on_auth_user_created after insert on auth.users
        for each row execute function public.handle_new_user();
"""


@pytest.mark.newest_server
def test_d002_reports_a_hand_written_trigger_that_blocks_the_installation(database, postgres):
    postgres.execute(HAND_WRITTEN)
    check = run(examine(with_audit_log(), choose(["D002"])), postgres)[0]
    assert "public.handle_new_user" in check.detail
    assert check.fix == "usersync apply --adopt"
    run(installation.apply(with_audit_log(), adopt=True), postgres)
    assert run(examine(with_audit_log(), choose(["D002"])), postgres)[0].status == "ok"


@pytest.mark.newest_server
def test_d002_proposes_no_drop_of_a_trigger_that_cannot_be_restored(database, postgres):
    """The pasted fix drops nothing. A drop would remove the function and a trigger of another table."""
    postgres.execute(
        HAND_WRITTEN.replace("create trigger", "create constraint trigger").replace(
            "for each row", "deferrable initially deferred for each row"
        )
    )
    postgres.execute(
        "create table public.people (id uuid); create trigger welcome after insert on public.people "
        "for each row execute function public.handle_new_user()"
    )
    check = run(examine(with_audit_log(), choose(["D002"])), postgres)[0]
    assert "also drops other triggers that run it: welcome on public.people" in check.fix
    *sql, last = [line for line in check.fix.splitlines() if not line.startswith("--")]
    assert last == "usersync apply"
    postgres.execute("\n".join(sql))
    welcome = "select count(*) from pg_trigger where tgname = 'welcome'"
    assert postgres.execute(welcome).fetchone() == (1,)
    (drop,) = [line for line in check.fix.splitlines() if "cascade;" in line]
    postgres.execute(drop.partition(": ")[2])
    run(installation.apply(with_audit_log()), postgres)
    assert run(examine(with_audit_log(), choose(["D002"])), postgres)[0].status == "ok"


@pytest.mark.newest_server
def test_d005_lists_a_hand_written_trigger_with_the_name_of_usersyncs(database, postgres):
    postgres.execute(HAND_WRITTEN)
    detail = run(examine(with_audit_log(), choose(["D005"])), postgres)[0].detail
    assert "on_auth_user_created (public.handle_new_user)" in detail


def test_d003_reports_a_migration_that_was_not_applied(checked):
    checked.project.owner.execute("delete from usersync.schema_version")
    check = checked.is_fixed_by_pasting("D003")
    assert "0001" in check.detail


@pytest.mark.newest_server
def test_d003_reports_a_changed_migration(checked):
    was = checked.project.owner.execute(
        "select checksum from usersync.schema_version where version = 1"
    ).fetchone()[0]
    checked.project.owner.execute("update usersync.schema_version set checksum = 'other' where version = 1")
    check = checked.check("D003")
    assert check.status == "problem"
    assert check.fix == "Install this release of usersync again."
    checked.project.owner.execute("update usersync.schema_version set checksum = %s where version = 1", [was])
    assert checked.check("D003").status == "ok"


def test_d003_reports_a_dropped_table(checked):
    checked.project.owner.execute("drop table usersync.sync_failures, usersync.sync_runs cascade")
    found = checked.check_all()
    # Each check that reads the table reports it. The others are not affected.
    assert found["D018"].status == found["D019"].status == "problem"
    assert "42P01" in found["D018"].detail
    assert found["D018"].fix == "usersync doctor --only D003,D006"
    assert found["D004"].status == "ok"
    check = checked.is_fixed_by_pasting("D003")
    assert "sync_failures" in check.detail
    assert checked.failing() == {}
