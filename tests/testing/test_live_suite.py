"""The live suite passes on a working project, fails on a broken one, and leaves no data behind."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from auth_stand_in import AuthServer
from postgrest_server import SERVICE_KEY, mint

# On a busy machine a run of the live suite takes a minute.
pytestmark = [pytest.mark.newest_server, pytest.mark.timeout(600), pytest.mark.slow]

ROOT = Path(__file__).parents[2]
#: Variables that it must not inherit: a project's settings, and PYTEST_ADDOPTS of this run.
_SETTINGS = re.compile(r"^(SUPABASE_|GOTRUE_|DATABASE_URL|USERSYNC_LIVE|PYTEST_)")


@pytest.fixture
def audit_enabled():
    return True


@pytest.fixture
def live_suite(tmp_path):
    """Run it as ``make live`` does, with these settings only. Return its output and whether it passed."""

    def run(**settings):
        env = {name: value for name, value in os.environ.items() if not _SETTINGS.match(name)}
        command = [sys.executable, "-m", "pytest", "tests/live", "-q", "-rs", "-n0", "-p", "no:cacheprovider"]
        # With a JUnit report, like CI.
        done = subprocess.run(
            [*command, f"--basetemp={tmp_path}", f"--junitxml={tmp_path}/report.xml"],
            cwd=ROOT,
            env=env | {"USERSYNC_LIVE": "1"} | settings,
            capture_output=True,
            text=True,
            check=False,
        )
        return done.stdout + done.stderr, done.returncode == 0

    return run


def counts(postgres):
    return postgres.execute(
        "select (select count(*) from auth.users), to_regclass('public.users'), to_regnamespace('usersync')"
    ).fetchone()


def test_it_passes_with_an_auth_server_and_a_database_only(live_suite, database, postgres):
    before = counts(postgres)
    with AuthServer(database, SERVICE_KEY) as server:
        output, passed = live_suite(
            GOTRUE_URL=server.url, SUPABASE_SERVICE_ROLE_KEY=SERVICE_KEY, SUPABASE_DB_URL=database.dsn()
        )
    assert passed, output
    assert "there is no Data API" in output
    assert int(re.search(r"(\d+) passed", output)[1]) >= 18
    assert counts(postgres) == before


def test_it_passes_with_a_data_api_and_usersync_installed(live_suite, project, gateway):
    existing = project.auth.sign_up_email("ada@example.com")
    with AuthServer(project.database, SERVICE_KEY, phone=False) as server:
        output, passed = live_suite(
            GOTRUE_URL=server.url,
            SUPABASE_URL=gateway.url,
            SUPABASE_SERVICE_ROLE_KEY=SERVICE_KEY,
            SUPABASE_ANON_KEY=mint(role="anon"),
            SUPABASE_DB_URL=project.database.dsn(),
        )
    assert passed, output
    assert "not offered here: POST /signup: 400 phone_provider_disabled" in output
    assert int(re.search(r"(\d+) passed", output)[1]) >= 26
    # The rows are the same as before.
    assert project.owner.execute("select array_agg(id) from auth.users").fetchone() == ([existing],)
    assert project.row(existing)["email"] == "ada@example.com"
    assert project.client.status().users == 1
    assert project.owner.execute(
        f"select count(*) from {project.settings.audit_table.quoted}"
    ).fetchone() == (0,)


def test_it_fails_if_users_get_no_row(live_suite, project):
    project.owner.execute("drop function usersync.handle_new_user() cascade")
    with AuthServer(project.database, SERVICE_KEY) as server:
        output, passed = live_suite(
            GOTRUE_URL=server.url,
            SUPABASE_SERVICE_ROLE_KEY=SERVICE_KEY,
            SUPABASE_DB_URL=project.database.dsn(),
        )
    assert not passed
    assert "test_a_new_user_has_a_row[link to sign up]" in output


def test_without_settings_it_lists_the_missing_ones(live_suite):
    output, passed = live_suite()
    assert passed
    assert "not set: SUPABASE_URL (the project's URL; or GOTRUE_URL" in output
    assert "SUPABASE_SECRET_KEY" in output
    assert "SUPABASE_DB_URL (the database, as postgres)" in output
