"""usersync.manage: the operations of the command, called from Python."""

from __future__ import annotations

import pytest

from audit_settings import with_audit_log
from usersync import UserSync, manage
from usersync.errors import ConflictError, NotAcceptedError, NotInstalledError, SettingsError

pytestmark = [pytest.mark.newest_server, pytest.mark.usefixtures("few_rounds")]

HANDWRITTEN = """
    create table public.users (id uuid primary key, email text, invited boolean not null default false);
    create function public.handle_new_user() returns trigger language plpgsql security definer as
    'begin insert into public.users (id, email, invited) values (new.id, new.email, true); return new; end';
    create trigger on_auth_user_created after insert on auth.users
        for each row execute function public.handle_new_user();
"""
SETTINGS = {"columns": {"email": "email"}}


@pytest.mark.slow
def test_plan_apply_doctor_and_rollback(database, auth):
    dsn = database.dsn()
    user_id = auth.sign_up_email("ada@example.com")
    assert "table public.users" in [change.subject for change in manage.plan(dsn, with_audit_log()).changes]
    with pytest.raises(NotInstalledError):
        manage.rollback(dsn)
    assert {each.status for each in manage.doctor(dsn, only=["D002"])} == {"problem"}
    done = manage.apply(dsn, with_audit_log())
    assert done.changes
    assert (done.differences, done.sync.synced) == ((), 1)
    with UserSync(dsn) as sync:
        assert sync.user_exists(user_id)
    # Without settings, doctor uses those that were applied.
    checks = manage.doctor(dsn, canary=True)
    assert len(checks) > 30
    assert [each.code for each in checks if each.status == "problem"] == []
    again = manage.apply(dsn, with_audit_log(), sync=False)
    assert (again.changes, again.sync) == ((), None)
    kept = {change.subject for change in manage.rollback(dsn).changes if change.kind == "keep"}
    assert "table public.users" in kept
    with database.connect() as owner:
        owner.execute("create schema usersync")
    with pytest.raises(ConflictError, match="schema usersync"):
        manage.apply(dsn, with_audit_log())


@pytest.mark.slow
def test_apply_with_differences_raises_unless_they_are_accepted(database):
    with database.connect() as owner:
        owner.execute(HANDWRITTEN)
    dsn, settings = database.dsn(), with_audit_log(SETTINGS)
    with pytest.raises(NotAcceptedError, match="the previous email today") as raised:
        manage.apply(dsn, settings, adopt=True)
    assert raised.value.code == "US306"
    assert raised.value.differences[0] in str(raised.value)
    with database.connect() as owner:
        assert owner.execute("select to_regnamespace('usersync')").fetchone() == (None,)
    done = manage.apply(dsn, settings, adopt=True, accept_changes=True)
    assert done.differences == raised.value.differences


def test_settings_and_connection_string_are_found_in_the_environment(database, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SettingsError, match="no connection string"):
        manage.plan()
    monkeypatch.setenv("SUPABASE_DB_URL", database.dsn())
    (tmp_path / "usersync.toml").write_text('users_table = "public.members"\n')
    assert "table public.members" in [change.subject for change in manage.plan().changes]
    assert '"public"."members"' in manage.sql()[0]
    assert manage.apply(trial=False).changes
    assert manage.plan().changes == ()
