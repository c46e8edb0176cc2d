from __future__ import annotations

import signal
from uuid import UUID, uuid4

import pytest
from terminal import Terminal

from usersync.cli.progress import PlainProgress
from usersync.core.reconcile import Progress
from usersync.models import Counts
from waiting import until, wait_for_locks

pytestmark = pytest.mark.newest_server

#: Users without rows, as after a restore.
MANY = 2_000


@pytest.fixture
def dsn(project, monkeypatch):
    monkeypatch.setenv("SUPABASE_DB_URL", project.database.dsn())
    return project.database.dsn()


@pytest.fixture
def insert_users_without_triggers(project, superuser_of):
    """A function that inserts users with triggers disabled."""

    def make(number: int) -> None:
        superuser_of(project).execute(
            f"""
            begin;
            set local session_replication_role = replica;
            insert into auth.users (id, email, created_at, raw_user_meta_data)
            select gen_random_uuid(), 'user' || n || '@example.com', now(), '{{}}'
            from generate_series(1, {number}) as n;
            commit;
            """
        )

    return make


@pytest.fixture
def superuser_of():
    connections = []

    def connect(project):
        connections.append(project.database.connect("supabase_admin"))
        return connections[-1]

    yield connect
    for connection in connections:
        connection.close()


def test_sync_syncs_all_users(usersync, dsn, project, insert_users_without_triggers):
    insert_users_without_triggers(3)
    done = usersync("sync")
    assert done.code == 0
    assert "3 users examined" in done.out
    assert "Syncing 127.0.0.1" in done.err
    data = usersync("sync", "--json").json
    assert (data["examined"], data["missing"], data["synced"], data["errors"]) == (3, 0, 0, 0)
    assert project.client.status().in_step


def test_several_workers_sync_all_users(usersync, dsn, insert_users_without_triggers):
    insert_users_without_triggers(50)
    data = usersync("sync", "--workers", 3, "--page-size", 7, "--json").json
    assert (data["examined"], data["synced"]) == (50, 50)


def test_a_dry_run_reports_differences_and_writes_nothing(
    usersync, dsn, project, insert_users_without_triggers
):
    insert_users_without_triggers(30)
    done = usersync("sync", "--dry-run")
    assert done.code == 1
    assert done.out.count("  missing") == 21  # the count, and the first twenty rows
    assert "and 10 more" in done.out
    data = usersync("sync", "--dry-run", "--json").json
    assert (data["dry_run"], data["missing"], len(data["differences"])) == (True, 30, 30)
    assert set(data["differences"][0]) == {"user_id", "difference", "columns"}
    assert project.client.status().missing == 30
    assert usersync("sync").code == 0
    assert usersync("sync", "--dry-run").code == 0


def test_sync_with_user_syncs_only_that_user(usersync, dsn, project, insert_users_without_triggers):
    insert_users_without_triggers(2)
    first, second = (row[0] for row in project.owner.execute("select id from auth.users order by id"))
    compared = usersync("sync", "--dry-run", "--user", first, "--user", first, "--json")
    assert (compared.code, compared.json["missing"]) == (1, 1)
    done = usersync("sync", "--user", first)
    assert (done.code, f"{first}  in sync" in done.out) == (0, True)
    assert project.row(second) is None
    unknown = uuid4()
    data = usersync("sync", "--user", second, "--user", unknown, "--json")
    assert data.code == 1
    assert data.json["users"] == [
        {"user_id": str(second), "outcome": "in sync"},
        {"user_id": str(unknown), "outcome": "unknown"},
    ]
    assert usersync("sync", "--user", first, "--workers", 2).code == 2


@pytest.mark.parametrize("command", ["sync", "retry"])
def test_an_unknown_user_is_reported(usersync, dsn, project, command):
    done = usersync(command, "--user", uuid4())
    assert done.code == 1
    assert "unknown" in done.out
    assert "Check the id and the project" in " ".join(done.out.split())


def test_resume_without_a_stopped_run_starts_a_new_one(usersync, dsn, project):
    done = usersync("sync", "--resume")
    assert done.code == 0
    assert "starts a new one" in done.err


def test_a_user_who_cannot_be_synced_is_reported(usersync, dsn, project, insert_users_without_triggers):
    insert_users_without_triggers(1)
    project.owner.execute(f"alter table {project.users} add column team text not null")
    (user,) = project.owner.execute("select id from auth.users").fetchone()
    done = usersync("sync", "--user", user)
    assert done.code == 1
    assert "sync failure" in done.out
    assert usersync("sync").code == 1


@pytest.fixture
def orphans(usersync, dsn, project, insert_users_without_triggers, superuser_of):
    """Twenty rows without an auth user."""
    insert_users_without_triggers(20)
    assert usersync("sync").code == 0
    superuser_of(project).execute("set session_replication_role = replica; delete from auth.users")
    key = project.settings.key
    return [user for (user,) in project.owner.execute(f'select "{key}" from {project.users} order by 1')]


def anonymized_rows(project) -> int:
    deleted_at = project.column("deleted_at")
    where = f"{deleted_at} is not null"
    return project.owner.execute(f"select count(*) from {project.users} where {where}").fetchone()[0]


def test_sync_keeps_orphans_and_names_the_command_that_removes_them(usersync, orphans, project):
    done = usersync("sync")
    assert done.code == 0
    assert "usersync sync --remove-orphans" in done.out
    assert usersync("sync", "--json").json["orphaned"] == len(orphans)
    dry = usersync("sync", "--dry-run")
    assert (dry.code, str(orphans[0]) in dry.out) == (1, True)
    assert usersync("status").code == 1
    assert anonymized_rows(project) == 0


def test_orphans_are_listed_and_counted_before_they_are_removed(usersync, orphans, project):
    dry = usersync("sync", "--remove-orphans", "--dry-run")
    assert dry.code == 1
    assert "20 rows whose user does not exist" in dry.out
    assert all(str(each) in dry.out for each in orphans)
    assert "on_delete = anonymize" in dry.out
    listed = usersync("sync", "--remove-orphans", "--dry-run", "--json").json
    assert (listed["found"], listed["policy"]) == (20, "anonymize")
    assert listed["users"] == [str(each) for each in orphans]
    assert anonymized_rows(project) == 0


def test_orphans_are_removed_only_with_a_confirmation_and_a_limit(usersync, orphans, project):
    # There is no terminal, and --yes requires --max.
    assert usersync("sync", "--remove-orphans").code == 2
    alone = usersync("sync", "--remove-orphans", "--yes")
    assert (alone.code, "--max N" in alone.err) == (2, True)
    few = usersync("sync", "--remove-orphans", "--yes", "--max", 19)
    assert few.code == 1
    assert "error US403: there are 20 rows" in few.err
    assert anonymized_rows(project) == 0
    done = usersync("sync", "--remove-orphans", "--yes", "--max", 20)
    assert done.code == 0
    assert "on_delete was applied to 20 rows" in done.out
    assert anonymized_rows(project) == 20
    assert usersync("status").code == 0
    assert len(orphans) == 20


def test_soft_deletions_are_applied_by_apply_deletions_only(usersync, dsn, project, superuser_of):
    user = project.auth.sign_up_email("ada@example.com")
    superuser_of(project).execute(
        "set session_replication_role = replica; update auth.users set deleted_at = now()"
    )
    status = usersync("status")
    assert (status.code, "usersync sync --apply-deletions" in status.out) == (1, True)
    assert usersync("status", "--json").json["deleted_upstream"] == 1
    why = usersync("why", user)
    assert (why.code, "--apply-deletions" in why.out) == (1, True)
    assert usersync("sync").code == 0
    assert anonymized_rows(project) == 0
    done = usersync("sync", "--apply-deletions", "--yes", "--max", 1, "--json")
    assert (done.code, done.json["removed"], done.json["kind"]) == (0, 1, "deleted_upstream")
    assert anonymized_rows(project) == 1
    assert usersync("status").code == 0


@pytest.mark.parametrize(
    "arguments",
    [
        *(["--remove-orphans", "--apply-deletions"], ["--yes"], ["--max", "5"]),
        ["--remove-orphans", "--user", "00000000-0000-0000-0000-000000000001"],
        *(["--remove-orphans", "--workers", "2"], ["--remove-orphans", "--resume"]),
        ["--apply-deletions", "--from-api", "--yes", "--max", "5"],
    ],
)
def test_options_that_do_not_go_together_are_refused(usersync, dsn, arguments):
    assert usersync("sync", *arguments).code == 2


#: A user in the third page of a part. The parts are equal ranges of ids.
IN_THIRD_PAGE = "select from auth.users where id >= %s order by id limit 1 offset 50 for update"


def interrupted(spawn, project, *options, workers=1):
    """Start a run, and press Ctrl-C when each worker waits in its third page. Returns the output."""
    wait_for_locks(project.owner)
    waiting = (
        "select count(*) from pg_stat_activity "
        "where datname = current_database() and wait_event_type = 'Lock'"
    )
    with project.database.connect("supabase_admin") as other:
        with other.transaction():
            for part in range(workers):
                other.execute(IN_THIRD_PAGE, [UUID(int=part * 2**128 // workers)])
            process = spawn("sync", "--page-size", 20, "--workers", workers, *options)
            until(
                lambda: project.owner.execute(waiting).fetchone()[0] == workers or process.poll() is not None
            )
            process.send_signal(signal.SIGINT)
        # Several workers finish their page, for which they need the locks.
        out, err = process.communicate(timeout=90)
    assert process.returncode == 130, (out, err)
    return out, err


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 3])
@pytest.mark.usefixtures("dsn")
def test_ctrl_c_leaves_whole_pages_and_resume_finishes(
    spawn, usersync, project, insert_users_without_triggers, workers
):
    insert_users_without_triggers(MANY)
    _, err = interrupted(spawn, project, workers=workers)
    assert "usersync sync --resume" in err
    assert "Traceback" not in err
    states = {row[0] for row in project.owner.execute("select state from usersync.sync_runs")}
    assert "interrupted" in states
    assert "running" not in states
    done = project.owner.execute("select sum(examined) from usersync.sync_runs").fetchone()[0]
    assert project.owner.execute(f"select count(*) from {project.users}").fetchone()[0] == done < MANY
    assert "usersync sync --resume" in usersync("status").out

    resumed = usersync("sync", "--resume", "--json")
    assert (resumed.code, resumed.json["examined"]) == (0, MANY)
    assert project.client.status().in_step


@pytest.mark.slow
def test_ctrl_c_is_reported_as_json(spawn, dsn, project, insert_users_without_triggers):
    insert_users_without_triggers(MANY)
    out, err = interrupted(spawn, project, "--json")
    assert '"resume": "usersync sync --resume"' in out
    assert err == ""


@pytest.mark.slow
def test_ctrl_c_during_a_dry_run_reports_that_nothing_was_written(
    dsn, project, insert_users_without_triggers
):
    insert_users_without_triggers(60_000)
    with Terminal("sync", "--dry-run", "--page-size", "10") as terminal:
        terminal.wait_for("users ")
        terminal.process.send_signal(signal.SIGINT)
        assert terminal.end() == 130
        assert "Nothing was written" in terminal.text


@pytest.mark.slow
def test_on_a_terminal_a_progress_bar_shows_rate_and_remaining_time(dsn, insert_users_without_triggers):
    insert_users_without_triggers(5000)
    with Terminal("sync", "--page-size", "50") as terminal:
        terminal.wait_for("/5,000 users")
        terminal.wait_for("/s")
        assert terminal.end() == 0
        assert "5,000 users examined" in terminal.text


def test_without_a_terminal_progress_is_printed_every_few_seconds():
    told: list[str] = []
    now = [100.0]
    show = PlainProgress(told.append, every=5, clock=lambda: now[0])
    for seconds, examined in ((1, 1000), (3, 3000), (6, 6000), (7, 7000), (12, 12_000)):
        now[0] = 100.0 + seconds
        show(Progress(Counts(examined=examined), total=20_000))
    assert told == [
        "6,000 of 20,000 users (30%), 1,000/s, 14 s left",
        "12,000 of 20,000 users (60%), 1,000/s, 8.0 s left",
    ]


def test_the_progress_of_an_empty_table_does_not_divide_by_zero():
    told: list[str] = []
    show = PlainProgress(told.append, every=0, clock=lambda: 1.0)
    show(Progress(Counts(), total=0))
    assert told == ["0 of 0 users"]
