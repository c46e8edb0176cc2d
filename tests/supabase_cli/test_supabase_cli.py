"""The migration from ``usersync sql --supabase`` works with the real Supabase CLI."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from contextlib import contextmanager
from uuid import UUID

import psycopg
import pytest

from audit_settings import with_audit_log
from hooks_skips import skip_without
from usersync import AuditLog, UserSync
from usersync.config.settings import Settings
from usersync.testing import GoTrue
from usersync.testing.install import install

pytestmark = pytest.mark.slow


@pytest.fixture
def pushed(supabase, supabase_migrations, cluster, regime):
    """A database in which the Supabase CLI installed usersync, from the folder of ``supabase``."""
    shutil.copytree(supabase_migrations, supabase.folder, dirs_exist_ok=True)
    # The migration's name contains the time, so each worker process has its own file.
    (migration,) = (supabase_migrations / "supabase/migrations").iterdir()
    template = cluster.template(
        f"pushed_{regime}_{migration.stem}",
        regime=regime,
        build=lambda draft: supabase("db", "push", at=draft),
    )
    database = cluster.clone(template)
    yield database
    cluster.drop(database)


@contextmanager
def clone_with(cluster, settings):
    """Another database, in which usersync was installed by its own command."""
    database = cluster.clone(cluster.template("supabase_old", regime="old"))
    install(database, settings)
    yield database
    cluster.drop(database)


@pytest.fixture
def applied(cluster):
    with clone_with(cluster, Settings()) as database:
        yield database


@pytest.mark.newest_server
def test_a_pushed_migration_installs_usersync_completely(supabase, pushed):
    planned = json.loads(supabase.usersync("plan", "--dsn", pushed.dsn(), "--json"))
    assert planned["state"] == "up to date"
    with GoTrue(pushed.dsn("supabase_auth_admin")) as auth, pushed.connect() as postgres:
        user_id = auth.sign_up_email("ada@example.com")
        assert postgres.execute("select id from public.users").fetchall() == [(user_id,)]


@pytest.mark.newest_server
def test_the_migration_history_matches_the_folder(supabase, pushed):
    (file,) = (supabase.folder / "supabase/migrations").iterdir()
    version = file.name.partition("_")[0]
    (line,) = (line for line in supabase("migration", "list", at=pushed).splitlines() if version in line)
    assert line.count(version) == 2, "in the folder and in the database"
    # A push would be refused if the history had a migration that the folder lacks.
    assert supabase("db", "push", "--dry-run", at=pushed).count(version) == 0


@pytest.mark.newest_server
def test_usersync_does_not_write_to_the_migration_history(supabase, applied):
    supabase.usersync("sql", "--supabase")
    with applied.connect("supabase_admin") as superuser, pytest.raises(psycopg.errors.UndefinedTable):
        superuser.execute("select from supabase_migrations.schema_migrations")
    # A push over usersync's own installation changes nothing.
    supabase("db", "push", at=applied)
    planned = json.loads(supabase.usersync("plan", "--dsn", applied.dsn(), "--json"))
    assert planned["state"] == "up to date"


@pytest.mark.newest_server
def test_the_migration_and_apply_install_the_same_schema(supabase, pushed, applied, cluster):
    # The migration history is a schema of the CLI.
    schemas = ("--schema", "public", "--schema", "usersync", "--schema", "auth")
    assert (
        supabase(
            "db", "diff", "--from", supabase.url(pushed), "--to", supabase.url(applied), *schemas
        ).strip()
        == ""
    )
    bare = cluster.clone(cluster.template("supabase_old", regime="old"))
    try:
        other = supabase("db", "diff", "--from", supabase.url(bare), "--to", supabase.url(applied), *schemas)
        assert "public" in other
        assert "record_audit_events" in other
    finally:
        cluster.drop(bare)


@pytest.mark.newest_server
def test_a_declarative_schema_with_the_same_sql_proposes_to_drop_nothing(supabase, database, cluster):
    """What `supabase db diff` compares: the migrations, and supabase/schemas, in two databases.

    The command itself creates these databases with Docker.
    """
    (supabase.folder / "usersync.toml").write_text("audit = { enabled = true }")
    supabase.usersync("sql", "--supabase")
    supabase("db", "push", at=database)
    file = supabase.folder / "supabase/schemas/zz_usersync.sql"
    file.parent.mkdir(exist_ok=True)
    supabase.usersync("sql", "--output", str(file))
    declared = cluster.clone(cluster.template("supabase_old", regime="old"))
    schemas = ("--schema", "public", "--schema", "usersync", "--schema", "auth")

    def proposed():
        return supabase(
            "db", "diff", "--from", supabase.url(database), "--to", supabase.url(declared), *schemas
        ).lower()

    try:
        with declared.connect() as postgres:
            postgres.execute("create table public.orders (id int primary key)")
            without = proposed()
            assert "drop" in without
            assert "usersync" in without
            postgres.execute(file.read_text())
        found = proposed()
    finally:
        cluster.drop(declared)
    assert "create table" in found
    assert "orders" in found
    assert [word for word in ("usersync", "audit_logs", "drop") if word in found] == []


@pytest.mark.parametrize("regime", ["old", "new"])
@pytest.mark.newest_server
def test_supabases_advisors_report_no_problem(supabase, pushed):
    said = supabase.advice(pushed)
    # A copy of a database has no statistics of its own.
    assert [each for each in said if each["name"] != "unused_index"] == []
    with pushed.connect("supabase_admin") as superuser:
        superuser.execute("create table public.open (id int primary key); grant all on public.open to anon")
    assert "rls_disabled_in_public" in {each["name"] for each in supabase.advice(pushed)}


@pytest.fixture
def with_log(cluster):
    """A database with an audit log. Without it, the linter reports functions that name its table."""
    with clone_with(cluster, with_audit_log()) as database:
        yield database


@pytest.mark.newest_server
def test_supabases_advisors_report_nothing_of_a_new_installation(supabase, with_log):
    assert supabase.advice(with_log) == []
    with with_log.connect("supabase_admin") as superuser:
        superuser.execute("create index unused on public.audit_logs (db_role)")
    assert {each["name"] for each in supabase.advice(with_log)} == {"unused_index"}


def test_supabases_linter_reports_no_problem_in_usersyncs_functions(supabase, with_log):
    """Requires plpgsql_check, which not every PostgreSQL has."""
    with with_log.connect("supabase_admin") as superuser:
        if not superuser.execute(
            "select true from pg_available_extensions where name = 'plpgsql_check'"
        ).fetchone():
            skip_without("plpgsql_check")
        superuser.execute("create extension plpgsql_check")
        server = superuser.info.server_version
        superuser.execute(
            "create function public.f() returns int language plpgsql as 'begin return nothing; end'"
        )
    linted = json.loads(supabase("db", "lint", "--level", "warning", at=with_log))
    said = [(each["function"], issue["message"]) for each in linted for issue in each["issues"]]
    assert said.pop(0)[0] == "public.f"
    # It also checks the branch for newer servers, on servers without this function.
    newer = [("usersync.is_valid_input", "function pg_input_is_valid(text, text) does not exist")]
    assert said == (newer if server < 160000 else [])


DESCRIPTION = """
    select signature, checksum, fingerprint, installed_at::text from usersync.functions
    union all select version::text, name, checksum, applied_at::text from usersync.schema_version
    union all select installation::text, settings::text, '', applied_at::text from usersync.settings
    order by 1
"""


@pytest.fixture
def restored(cluster):
    """Another project: usersync with its log, without users."""
    with clone_with(cluster, with_audit_log()) as database:
        yield database


@pytest.mark.newest_server
def test_a_dump_of_the_data_is_loaded_into_another_installation(supabase, server, database, restored, auth):
    """What `supabase db dump --data-only` runs; the other installation keeps its own description."""
    programs = {name: server.bin_dir / name for name in ("pg_dump", "psql")}
    for name, program in programs.items():
        if not program.exists():
            skip_without(name, f"none in {server.bin_dir}")
    install(database, with_audit_log())
    users = [auth.sign_up_email(f"ada-{number}@example.com") for number in range(3)]
    with AuditLog(database.dsn()) as log:
        events = [log.record("order.paid", user_id=str(user)) for user in users]
        assert log.flush(30)
    script = supabase("db", "dump", "--data-only", "--dry-run", at=database)
    with restored.connect() as postgres:
        described = postgres.execute(DESCRIPTION).fetchall()
    path = {"PATH": f"{server.bin_dir}:{os.environ['PATH']}"}
    dump = subprocess.run(
        ["bash", "-c", script[script.index("#!") :]],
        capture_output=True, text=True, check=True, env=path,
    ).stdout  # fmt: skip
    superuser = restored.dsn("supabase_admin")
    done = subprocess.run(
        [programs["psql"], superuser, "--quiet", "--set=ON_ERROR_STOP=1", "--single-transaction"],
        input=dump, capture_output=True, text=True, check=False, env=path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    with restored.connect() as postgres:
        assert postgres.execute(DESCRIPTION).fetchall() == described
        loaded = postgres.execute("select id, user_id from public.audit_logs order by id").fetchall()
        assert loaded == sorted(zip(map(UUID, events), users, strict=True))
        assert postgres.execute("select id from public.users order by id").fetchall() == [
            (user,) for user in sorted(users)
        ]
    with UserSync(restored.dsn()) as client:
        assert client.status().in_step
