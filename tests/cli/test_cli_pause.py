"""``usersync pause`` and ``resume``, and the output of every other command during a pause."""

from __future__ import annotations

import pytest

from postgrest_server import SECRET_KEY
from usersync.config.settings import Settings

pytestmark = pytest.mark.newest_server


@pytest.fixture
def settings():
    """The default settings, as of a command without a settings file, with any names."""
    return Settings()


@pytest.fixture
def paused(project, usersync, monkeypatch):
    monkeypatch.setenv("SUPABASE_DB_URL", project.database.dsn())
    assert usersync("pause").code == 0
    return project


def flat(done):
    return " ".join((done.out + done.err).split())


def test_pause_explains_its_effect_and_keeps_an_earlier_pause(paused, usersync):
    again = usersync("pause")
    assert again.code == 0
    assert "was paused already since" in again.out
    assert "@" in again.out
    assert "usersync resume" in again.out
    assert usersync("pause", "--json").json["is_new"] is False


def test_every_command_reports_the_pause(paused, usersync, delete_without_triggers):
    paused.client.resume()
    delete_without_triggers(paused.auth.sign_up_email("orphaned@example.com"))
    usersync("pause")
    paused.auth.sign_up_email("ada@example.com")
    by = paused.client.status().paused.by
    status = usersync("status")
    assert status.code == 1
    assert f"by {by}" in flat(status)
    assert "usersync resume" in status.out
    assert usersync("status", "--json").json["paused"]["by"] == by
    plan = usersync("plan")
    assert plan.code == 0
    assert f"by {by}" in flat(plan)
    doctor = usersync("doctor", "--json").json
    checks = {check["code"]: check for check in doctor["checks"]}
    assert {code for code, check in checks.items() if check["status"] == "problem"} == {
        "D004",
        "D017",
        "D018",
    }
    for code in ("D004", "D017", "D018"):
        assert checks[code]["fix"].startswith("usersync resume")
    assert by in checks["D004"]["detail"]
    assert "usersync_paused 1.0" in usersync("metrics").out
    for command in (["sync"], ["retry"], ["sync", "--remove-orphans", "--yes", "--max", "1"]):
        refused = usersync(*command)
        assert refused.code == 1
        assert "US305" in refused.err
        assert f"by {by}" in flat(refused)
        assert "usersync resume" in flat(refused)
    assert usersync("sync", "--dry-run").code == 1
    failures = flat(usersync("failures"))
    assert "Not tried: usersync is paused" in failures
    assert "To end the pause and sync: usersync resume" in failures


def test_doctor_separates_deleted_users_with_a_row_from_users_without_one(paused, usersync):
    paused.client.resume()
    gone = paused.auth.sign_up_email("gone@example.com")
    usersync("pause")
    paused.auth.hard_delete(gone)
    (cause,) = doctor_causes(usersync)
    assert cause.startswith("1 user (1 whose row is to be removed or emptied): SQLSTATE US004")
    paused.auth.sign_up_email("new@example.com")
    (cause,) = doctor_causes(usersync)
    assert cause.startswith(
        "2 users (1 without a row, 1 whose row is to be removed or emptied): SQLSTATE US004"
    )


def doctor_causes(usersync):
    (check,) = usersync("doctor", "--only", "D018", "--json").json["checks"]
    return check["detail"].splitlines()[1:]


def test_resume_syncs_the_recorded_users(paused, usersync):
    user = paused.auth.sign_up_email("ada@example.com")
    # A sync failure that the pause did not cause stays.
    paused.owner.execute(
        "insert into usersync.sync_failures (user_id, outcome, sqlstate, message, next_try_at) "
        "values (gen_random_uuid(), 'failed', '23505', 'made up', now() + interval '1 day')"
    )
    done = usersync("resume")
    paused.owner.execute("delete from usersync.sync_failures")
    assert "1 user recorded during the pause, 1 in sync now" in flat(done)
    assert paused.row(user)
    again = usersync("resume", "--json").json
    assert (again["pause"], again["noted"], again["complete"]) == (None, 0, True)
    assert usersync("doctor").code == 0


def test_resume_names_sessions_that_still_run(paused, usersync):
    paused.owner.execute("alter function public.usersync(text, jsonb) set lock_timeout = '100ms'")
    with paused.database.connect("supabase_auth_admin") as auth_server, auth_server.transaction():
        auth_server.execute("insert into auth.users (id, email) values (gen_random_uuid(), 'a@example.com')")
        pid = auth_server.info.backend_pid
        done = usersync("resume")
        assert done.code == 1
        assert f"pid {pid}, user supabase_auth_admin" in flat(done)
        assert "When it has ended: usersync resume" in flat(done)
    assert usersync("resume").code == 0
    assert paused.client.status().in_step


@pytest.mark.slow
def test_apply_during_a_pause_changes_the_schema_and_syncs_no_user(paused, usersync):
    paused.auth.sign_up_email("ada@example.com")
    paused.owner.execute("drop function public.ensure_user_exists(uuid)")
    done = usersync("apply", "--yes")
    assert done.code == 0, done.err
    assert "Next: usersync resume" in flat(done)
    status = paused.client.status()
    assert (status.missing, bool(status.paused)) == (1, True)


@pytest.mark.slow
def test_the_canary_ignores_the_pause(paused, usersync):
    done = usersync("doctor", "--canary", "--only", "D033,D034")
    assert done.code == 0, done.out
    assert paused.client.status().paused


@pytest.mark.slow
def test_rollback_warns_that_changes_during_the_pause_are_not_synced(paused, usersync):
    paused.auth.sign_up_email("ada@example.com")
    done = usersync("rollback", "--yes")
    assert done.code == 0
    assert "later changes are not synced" in flat(done)
    assert usersync("apply", "--yes", "--no-trial").code == 0
    assert paused.client.status().in_step


def test_the_pause_is_reported_over_the_data_api(paused, usersync, gateway, monkeypatch):
    monkeypatch.delenv("SUPABASE_DB_URL")
    monkeypatch.setenv("SUPABASE_URL", gateway.url)
    monkeypatch.setenv("SUPABASE_SECRET_KEY", SECRET_KEY)
    paused.auth.sign_up_email("ada@example.com")
    assert "US305" in usersync("sync").err
    assert usersync("pause").code == 0
    done = usersync("resume", "--json")
    assert (done.code, done.json["noted"]) == (0, 1)
