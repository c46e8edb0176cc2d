from __future__ import annotations

import json
import signal

import pytest
from terminal import Terminal

from usersync.client import UserSync
from usersync.errors import ConnectionFailedError

pytestmark = pytest.mark.newest_server


@pytest.fixture
def dsn(project, monkeypatch):
    monkeypatch.setenv("SUPABASE_DB_URL", project.database.dsn())
    return project.database.dsn()


def break_table(project):
    project.owner.execute(f"alter table {project.users} add column team text not null")


def repair_table(project):
    project.owner.execute(f"alter table {project.users} drop column team")


def test_status_of_a_project_in_sync(usersync, dsn, project):
    project.auth.sign_up_email()
    done = usersync("status")
    assert (done.code, done.err) == (0, "")
    assert done.out.splitlines()[0].endswith("in sync")
    assert all(len(line) <= 80 for line in done.out.splitlines())


def test_status_prints_json(usersync, dsn, project):
    project.auth.sign_up_email()
    data = usersync("status", "--json").json
    assert list(data) == [
        "database", "in_step", "read_only", "paused", "auth_users", "users", "missing", "stale", "orphaned",
        "deleted_upstream", "skipped", "degraded", "failed",
        "removal_failed",
        "event_failed",
        "oldest_missing_at", "oldest_failure_at", "lag_seconds", "by_sqlstate", "last_run", "observed_at",
    ]  # fmt: skip
    assert (data["auth_users"], data["users"], data["in_step"], data["last_run"]) == (1, 1, True, None)


def test_status_of_a_project_with_missing_and_stale_rows(usersync, dsn, project):
    break_table(project)
    project.auth.sign_up_email()
    done = usersync("status")
    assert done.code == 1
    assert done.out.splitlines()[0].endswith("out of sync")
    assert "usersync failures" in done.out
    assert "usersync retry" in done.out
    assert "usersync sync" not in done.out
    data = usersync("status", "--json").json
    assert (data["missing"], data["failed"]) == (1, 1)
    assert data["lag_seconds"] >= 0


def test_status_names_the_command_that_resumes_an_unfinished_run(usersync, dsn, project):
    project.owner.execute(
        "insert into usersync.sync_runs "
        "(run_id, part, part_count, state, next_id, last_id, page_size, examined) "
        "values (gen_random_uuid(), 1, 1, 'interrupted', '00000000-0000-0000-0000-000000000000', "
        "'ffffffff-ffff-ffff-ffff-ffffffffffff', 100, 1234567)"
    )
    out = usersync("status").out
    assert "usersync sync --resume" in out
    assert "1,234,567 users examined" in out
    assert all(len(line) <= 80 for line in out.splitlines())


def test_watch_redraws_on_a_terminal_until_ctrl_c(dsn, project):
    with Terminal("status", "--watch", "0.1") as terminal:
        terminal.wait_for("in sync")
        project.auth.sign_up_email()
        terminal.wait_for("1  users who can sign in")
        terminal.process.send_signal(signal.SIGINT)
        assert terminal.end() == 0
        assert "Traceback" not in terminal.text
        assert "\x1b[1A" in terminal.seen  # the cursor moves up, so that the status is redrawn in place


def test_watch_without_a_terminal_prints_each_status(spawn, dsn):
    process = spawn("status", "--watch", "0.1")
    seen = ""
    while seen.count("auth server") < 2:
        seen += process.stdout.readline()
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=90)
    assert (process.returncode, err) == (0, "")
    assert "\x1b" not in seen


def test_watch_with_json_prints_one_document_per_line(spawn, dsn, project):
    process = spawn("status", "--watch", "0.1", "--json")
    assert json.loads(process.stdout.readline())["in_step"] is True
    break_table(project)
    project.auth.sign_up_email()
    while json.loads(process.stdout.readline())["in_step"]:
        pass
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=90)
    assert process.returncode == 1


@pytest.mark.slow
def test_watch_continues_after_a_lost_connection(spawn, dsn, project):
    process = spawn("status", "--watch", "0.1")
    process.stdout.readline()
    with project.database.connect("supabase_admin") as superuser:
        superuser.execute(
            "select pg_terminate_backend(pid) from pg_stat_activity "
            "where application_name = 'usersync' and datname = current_database()"
        )
    project.auth.sign_up_email()
    while "          1  users who can sign in" not in process.stdout.readline():
        pass
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=90)
    assert process.returncode == 0


def test_watch_shows_that_the_database_is_unavailable(usersync, dsn, monkeypatch):
    answers = iter([ConnectionFailedError("it is gone", hint="wait"), KeyboardInterrupt()])
    healthy = UserSync.status

    def status(client):
        monkeypatch.setattr(UserSync, "status", fail)
        return healthy(client)

    def fail(_):
        raise next(answers)

    monkeypatch.setattr(UserSync, "status", status)
    done = usersync("status", "--watch", "0.1")
    assert done.code == 3
    assert "in sync" in done.out
    assert "error US201: it is gone" in done.out


def test_watch_ends_when_its_pipe_is_closed(spawn, dsn):
    process = spawn("status", "--watch", "0.1")
    process.stdout.readline()
    process.stdout.close()
    assert process.stderr.read() == ""
    assert process.wait(90) == 141


def test_failures_lists_users_and_reasons(usersync, dsn, project):
    assert usersync("failures").code == 0
    break_table(project)
    ada, grace = project.auth.sign_up_email(), project.auth.sign_up_email()
    done = usersync("failures")
    assert done.code == 1
    assert f"{ada}  failed    23502 not_null_violation" in done.out
    assert "column team" in done.out
    assert "usersync retry" in done.out
    assert all(len(line) <= 80 for line in done.out.splitlines())
    assert str(ada) not in usersync("failures", "--user", grace).out
    assert "more" in usersync("failures", "--limit", 1).out


def test_failures_prints_json(usersync, dsn, project):
    break_table(project)
    ada = project.auth.sign_up_email()
    done = usersync("failures", "--json")
    (failure,) = done.json["failures"]
    assert (done.code, done.json["more"]) == (1, False)
    assert (failure["user_id"], failure["sqlstate"], failure["column"]) == (str(ada), "23502", "team")
    assert failure["sqlstate_name"] == "not_null_violation"
    assert failure["first_failed_at"][10] == "T"


def test_control_characters_in_reasons_are_escaped_on_a_terminal(usersync, dsn, project):
    project.owner.execute(f"""
        create function public.shout() returns trigger language plpgsql as $$
        begin raise exception 'no %', new.{project.column("full_name")}; end $$;
        create trigger shout before insert on {project.users} for each row execute function public.shout()
    """)
    project.auth.sign_up_email(data={"full_name": "\x1b[2J\u202eevil\r\nroot"})
    done = usersync("failures")
    assert done.code == 1
    assert "evil root" in done.out
    assert not set("\x1b\u202e\r") & set(done.out)
    assert "raised in" in done.out


def test_a_closed_pipe_ends_failures_quietly(spawn, dsn, project):
    break_table(project)
    for _ in range(3):
        project.auth.sign_up_email()
    process = spawn("failures")
    process.stdout.close()
    assert process.stderr.read() == ""
    assert process.wait(90) == 141


def test_retry_syncs_failed_users(usersync, dsn, project):
    assert "nothing to retry" in usersync("retry").out
    break_table(project)
    ada, _ = project.auth.sign_up_email(), project.auth.sign_up_email()
    still = usersync("retry", "--json")
    assert (still.code, still.json["retried"], still.json["failed"]) == (1, 2, 2)
    repair_table(project)
    one = usersync("retry", "--user", ada)
    assert (one.code, "1 user in sync now" in one.out) == (0, True)
    rest = usersync("retry", "--json")
    assert (rest.code, rest.json["retried"], rest.json["synced"]) == (0, 1, 1)
    assert usersync("failures").code == 0
