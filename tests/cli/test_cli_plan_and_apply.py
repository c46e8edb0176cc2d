from __future__ import annotations

import re

import pytest
from psycopg.conninfo import make_conninfo
from terminal import Terminal

from usersync.core.installed import settings_in_database
from usersync.transports.run import run

pytestmark = pytest.mark.newest_server


@pytest.fixture
def dsn(database, monkeypatch):
    monkeypatch.setenv("SUPABASE_DB_URL", database.dsn())
    return database.dsn()


def target(database) -> str:
    return f"{database.host}:{database.port}/{database.name}"


def test_plan_shows_what_apply_would_change(usersync, dsn, database, postgres):
    done = usersync("plan")
    assert done.code == 0
    assert target(database) in done.out
    assert "+ schema usersync" in done.out
    assert "+ trigger on_auth_user_created" in done.out
    assert "usersync apply" in done.out.splitlines()[-1]
    assert all(len(line) <= 80 for line in done.out.splitlines())
    assert run(settings_in_database(), postgres) is None


@pytest.mark.parametrize("output", [(), ("--json",)], ids=["text", "json"])
def test_each_command_names_the_project_that_it_changes(usersync, database, output):
    """Behind a pooler, staging and production have the same host, port and database name."""
    staging = make_conninfo(database.dsn(), options="-c a.project=staging")
    for command in (("plan",), ("apply", "--yes", "--no-trial"), ("sync",), ("rollback", "--yes")):
        done = usersync(*command, "--dsn", staging, *output)
        assert done.code == 0, done
        named = done.json["database"] if output else " ".join((done.out + done.err).split())
        assert f"staging@{target(database)}" in named


@pytest.mark.slow
def test_plans_exit_code_says_whether_changes_are_pending(usersync, dsn, postgres):
    assert usersync("plan", "--exit-code").code == 2
    usersync("apply", "--yes", "--no-trial")
    assert usersync("plan", "--exit-code").code == 0
    postgres.execute("alter table public.users drop column full_name")
    assert usersync("plan", "--exit-code").code == 1


def test_plan_counts_functions_and_names_them_on_request(usersync, dsn):
    assert "sync_existing_auth_users" not in usersync("plan").out
    assert "sync_existing_auth_users" in usersync("plan", "--verbose").out


def test_plan_with_warnings_only_refers_to_them(usersync, dsn, postgres):
    usersync("apply", "--yes", "--no-trial")
    postgres.execute(
        "create function public.other() returns trigger language plpgsql as 'begin return new; end';"
        "create trigger other after insert on auth.users for each row execute function public.other()"
    )
    done = usersync("plan")
    assert done.code == 0
    assert "Everything" not in done.out
    assert done.out.splitlines()[-1] == "Nothing to change. See the warning above."


def test_plan_keeps_a_third_party_trigger_and_its_name(usersync, dsn, postgres):
    postgres.execute(
        "create function public.recipe() returns trigger language plpgsql as 'begin return new; end';"
        "create trigger on_auth_user_created after insert on auth.users "
        "for each row execute function public.recipe()"
    )
    done = usersync("plan")
    assert done.code == 0
    assert "the trigger on_auth_user_created on auth.users runs public.recipe()" in done.out
    assert "+ trigger on_auth_user_zz_created" in done.out


def test_plan_prints_json(usersync, dsn, database):
    data = usersync("plan", "--json").json
    assert data["database"] == target(database)
    assert (data["state"], data["findings"]) == ("changes", [])
    assert data["settings"] == {"source": "defaults", "differing": [], "differences": []}
    assert set(data["changes"][0]) == {"kind", "subject", "reason"}
    with_sql = usersync("plan", "--json", "--sql").json
    assert all(change["sql"] for change in with_sql["changes"])


def test_the_sql_that_plan_prints_installs_everything(usersync, dsn, postgres):
    script = usersync("plan", "--sql").out
    postgres.execute(script.encode())
    assert usersync("plan", "--json").json["state"] == "up to date"


def test_an_obstacle_stops_plan_and_apply(usersync, dsn, postgres):
    postgres.execute("create function public.ensure_user_exists() returns int language sql return 1")
    postgres.execute("create table public.users (id uuid primary key)")
    for arguments in (["plan"], ["apply", "--yes"]):
        done = usersync(*arguments)
        assert done.code == 1
        assert "✗ the function public.ensure_user_exists() is not usersync's" in done.out
        assert "rename to" in done.out
        assert usersync(*arguments, "--json").json["state"] == "blocked"
    assert run(settings_in_database(), postgres) is None


@pytest.mark.slow
def test_apply_installs_and_syncs_existing_users(usersync, dsn, auth, database):
    auth.sign_up_email("ada@example.com")
    done = usersync("apply", "--yes")
    assert done.code == 0, done.err
    assert done.out.index(target(database)) < done.out.index("Done:")
    assert "1 user examined" in done.out
    assert usersync("status").code == 0
    again = usersync("apply", "--yes", "--json").json
    assert (again["state"], again["changes"], again["sync"]["missing"]) == ("up to date", [], 0)


def test_apply_with_no_sync_syncs_no_user(usersync, dsn, auth):
    auth.sign_up_email("ada@example.com")
    assert usersync("apply", "--yes", "--no-trial", "--no-sync", "--json").json["sync"] is None
    status = usersync("status", "--json")
    assert (status.code, status.json["missing"], status.json["in_step"]) == (1, 1, False)


@pytest.mark.slow
def test_apply_reports_users_that_could_not_be_synced(usersync, dsn, auth, postgres):
    auth.sign_up_email("ada@example.com")
    assert usersync("apply", "--yes", "--no-trial", "--no-sync").code == 0
    postgres.execute("alter table public.users add column team text not null")
    done = usersync("apply", "--yes", "--no-trial")
    assert done.code == 1
    assert "usersync failures" in done.out


@pytest.mark.parametrize("command", ["apply", "rollback"])
def test_without_a_terminal_yes_is_required(usersync, dsn, postgres, command):
    for arguments in ([], ["--json"]):
        done = usersync(command, *arguments)
        assert done.code == 2
        assert "--yes" in done.out + done.err
    assert run(settings_in_database(), postgres) is None


@pytest.mark.slow
def test_apply_asks_on_a_terminal(dsn, database, postgres):
    with Terminal("apply") as terminal:
        terminal.wait_for("[y/N]")
        assert target(database) in terminal.text
        terminal.type("n\n")
        assert terminal.end() == 1
        assert "Nothing was changed." in terminal.text
    assert run(settings_in_database(), postgres) is None
    with Terminal("apply") as terminal:
        terminal.wait_for("[y/N]")
        terminal.type("y\n")
        assert terminal.end() == 0
    assert run(settings_in_database(), postgres) is not None


@pytest.mark.slow
@pytest.mark.parametrize(("key", "code"), [("\x04", 1), ("\x03", 130)])
def test_aborting_the_question_changes_nothing(dsn, postgres, key, code):
    with Terminal("apply") as terminal:
        terminal.wait_for("[y/N]")
        if key == "\x03":
            ended = terminal.interrupt()
        else:
            terminal.type(key)
            ended = terminal.end()
        assert ended == code
        assert "Traceback" not in terminal.text
    assert run(settings_in_database(), postgres) is None


@pytest.mark.slow
def test_settings_that_differ_from_the_applied_ones_are_reported(usersync, dsn, directory):
    assert usersync("apply", "--yes", "--no-trial").code == 0
    (directory / "usersync.toml").write_text('on_delete = "keep"\nlock_timeout_ms = 100')
    names = ["on_delete", "on_soft_delete", "lock_timeout_ms"]
    plan = usersync("plan")
    said = " ".join(plan.out.split())
    assert "usersync was applied to this database with other settings than in usersync.toml" in said
    assert 'on_delete was "anonymize", and is "keep" in usersync.toml' in said
    assert "and is 100 in usersync.toml" in said
    assert "Settings  usersync.toml" in plan.out
    assert usersync("plan", "--json").json["settings"]["differing"] == names
    sync = usersync("sync")
    assert sync.code == 0
    assert f"warning: {', '.join(names)}: usersync.toml differs" in " ".join(sync.err.split())
    assert usersync("apply", "--yes", "--no-trial").code == 0
    assert "warning" not in usersync("sync").err


def test_settings_are_also_read_from_pyproject(usersync, dsn, directory):
    (directory / "pyproject.toml").write_text('[tool.usersync]\non_delete = "keep"')
    assert usersync("plan", "--json").json["settings"]["source"] == "pyproject.toml"
    (directory / "other.toml").write_text('on_delete = "soft"')
    assert usersync("plan", "--config", "other.toml", "--json").json["settings"]["source"] == "other.toml"


@pytest.mark.slow
def test_rollback_removes_usersync_and_keeps_the_users(usersync, dsn, auth, postgres):
    auth.sign_up_email("ada@example.com")
    usersync("apply", "--yes", "--no-trial")
    done = usersync("rollback", "--yes")
    assert done.code == 0
    assert "table public.users stays" in done.out
    assert run(settings_in_database(), postgres) is None
    assert postgres.execute("select count(*) from public.users").fetchone() == (1,)
    again = usersync("rollback", "--yes", "--json")
    assert (again.code, again.json["error"]["code"]) == (1, "US301")


@pytest.mark.slow
def test_rollback_prints_the_same_counts_as_apply(usersync, dsn, postgres):
    counts = []
    for command in ("apply", "rollback"):
        done = usersync(command, "--yes", *(["--no-trial"] if command == "apply" else []))
        said = " ".join(done.out.split())
        counts.append(re.search(r"Done:.*?(\d+ functions, \d+ triggers), \d+ other changes", said)[1])
    assert counts[0] == counts[1]


@pytest.mark.slow
def test_rollback_drops_the_users_table_only_on_request(usersync, dsn, postgres):
    usersync("apply", "--yes", "--no-trial")
    data = usersync("rollback", "--yes", "--drop-users-table", "--drop-audit-log", "--json").json
    assert data["changes"][-1]["subject"] == "table public.users"
    assert postgres.execute("select to_regclass('public.users')").fetchone() == (None,)


def test_rollback_uses_the_applied_settings(usersync, dsn, directory, postgres):
    (directory / "usersync.toml").write_text('users_table = "app.members"')
    usersync("apply", "--yes", "--no-trial")
    (directory / "usersync.toml").unlink()
    assert usersync("rollback", "--yes", "--drop-users-table", "--drop-audit-log").code == 0
    assert postgres.execute("select to_regclass('app.members')").fetchone() == (None,)


@pytest.mark.slow
def test_colours_are_printed_only_on_a_terminal(usersync, dsn):
    assert "\x1b" not in usersync("plan").out
    with Terminal("plan") as terminal:
        assert terminal.end() == 0
        assert "\x1b[32m+" in terminal.seen
    with Terminal("plan", NO_COLOR="1") as terminal:
        assert terminal.end() == 0
        assert "\x1b" not in terminal.seen


@pytest.fixture
def people(auth, superuser):
    """Forty users: fifteen soft-deleted with rows, five without a row, twenty in sync."""
    users = auth.import_users(40)
    superuser.execute("set session_replication_role = replica")
    superuser.execute(
        "create table public.users (id uuid primary key, email text, deleted_at timestamptz);"
        "alter table public.users owner to postgres;"
        "insert into public.users select id, email from auth.users"
    )
    superuser.execute(
        "update auth.users set deleted_at = now(), email = 'hash-' || id where id = any(%s)", [users[:15]]
    )
    superuser.execute("delete from public.users where id = any(%s)", [users[35:]])
    return users


def test_apply_and_status_agree_with_plan(usersync, dsn, people, postgres, directory):
    """Rows of users that were soft-deleted long ago stay unchanged and cause no error."""
    columns = 'email = "email"\ndeleted_at = "deleted_at"\n'
    (directory / "usersync.toml").write_text(f"[columns]\n{columns}", "utf-8")
    said = " ".join(usersync("plan").out.split())
    assert (
        "the first run would try to create 5 rows; 15 rows whose user is soft-deleted stay as they are"
        in said
    )
    done = usersync("apply", "--yes", "--no-trial", "--json")
    assert done.code == 0
    assert (done.json["sync"]["missing"], done.json["sync"]["synced"]) == (5, 5)
    assert (done.json["sync"]["deleted_upstream"], done.json["sync"]["errors"]) == (15, 0)
    whole = "deleted_at is null and email like 'user-%'"
    count = f"select count(*), count(*) filter (where {whole}) from public.users"
    assert postgres.execute(count).fetchone() == (40, 40)
    status = usersync("status")
    assert status.code == 1
    assert "usersync sync --apply-deletions" in status.out
    found = usersync("status", "--json").json
    assert (found["missing"], found["stale"], found["orphaned"], found["deleted_upstream"]) == (0, 0, 0, 15)
    assert usersync("sync").code == 0
    assert postgres.execute(count).fetchone() == (40, 40)
    assert usersync("sync", "--apply-deletions", "--yes", "--max", 15).code == 0
    assert postgres.execute(count).fetchone() == (40, 25)
    assert usersync("status").code == 0
    assert len(people) == 40


@pytest.mark.slow
@pytest.mark.parametrize("options", [["--no-sync"], []])
def test_with_a_copy_of_auth_users_the_next_step_names_from_api(usersync, dsn, directory, options):
    (directory / "usersync.toml").write_text('source_table = "usersync.auth_users"\n', "utf-8")
    done = usersync("apply", "--yes", *options)
    assert done.code == 0
    assert done.out.splitlines()[-1] == "Next:  usersync sync --from-api"
