"""What the tests of the promises share: looking into the failures table, breaking a table, and watching
it.
"""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from fixtures_project import NAMES
from usersync import UserSync
from usersync.config.settings import Settings, parse_settings
from usersync.testing import GoTrue, broken_users_table
from usersync.testing.install import install

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

    import psycopg

    from fixtures_project import Project
    from usersync.testing import SupabaseDatabase

#: Columns of the users table that scripts name in braces.
_NAMES = ("email", "phone", "full_name", "deleted_at", "banned_until")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "settings(**values): install usersync with these settings")


@pytest.fixture
def settings(names: str, request: pytest.FixtureRequest) -> Settings:
    """What usersync is installed with: the usual, and what the test's mark says."""
    mark = request.node.get_closest_marker("settings")
    return parse_settings(NAMES[names][0] | (mark.kwargs if mark else {}))


@pytest.fixture
def sql(project: Project) -> Callable[..., list[tuple[Any, ...]]]:
    """Run SQL as the owner; ``{users}`` is the users table, ``{key}``, ``{email}`` and so on its columns,
    ``{key_type}`` the type of its key.
    """

    def run(text: str, *params: Any, connection: Any = project.owner) -> list[tuple[Any, ...]]:
        cursor = connection.execute(named(project, text), params or None)
        return cursor.fetchall() if cursor.description else []

    return run


@pytest.fixture
def installed(
    database: SupabaseDatabase, postgres: psycopg.Connection[Any]
) -> Iterator[Callable[..., tuple[GoTrue, UserSync]]]:
    """Run SQL, install usersync with settings, and return the auth server and a client."""
    with ExitStack() as opened:

        def install_with(before: str = "", **settings: Any) -> tuple[GoTrue, UserSync]:
            if before:
                postgres.execute(before)
            install(database, parse_settings(settings))
            auth = opened.enter_context(GoTrue(database.dsn("supabase_auth_admin")))
            return auth, opened.enter_context(UserSync(database.dsn()))

        yield install_with


def named(project: Project, text: str) -> str:
    """Put this project's names into SQL."""
    key = '"' + project.settings.key + '"'
    text = text.replace("{users}", project.users).replace("{key}", key)
    text = text.replace("{key_type}", project.settings.key_type.sql)
    for name in _NAMES:
        text = text.replace("{" + name + "}", project.column(name))
    return text


@pytest.fixture
def superuser_of(project: Project) -> Iterator[Any]:
    """A superuser's connection to the database of ``project``."""
    with project.database.connect("supabase_admin") as connection:
        yield connection


@pytest.fixture
def unmirrored(superuser_of: Any) -> Callable[..., None]:
    """Run SQL on auth.users with triggers off, as a restore and a replica do."""

    def run(text: str, *params: Any) -> None:
        superuser_of.execute("set session_replication_role = replica")
        superuser_of.execute(text, params or None)
        superuser_of.execute("set session_replication_role = default")

    return run


@pytest.fixture
def broken(project: Project) -> Callable[[str], AbstractContextManager[None]]:
    """Break the users table in one of the ways of ``usersync.testing``, while a block runs."""

    @contextmanager
    def broken(how: str) -> Iterator[None]:
        options = {"table": project.settings.users_table, "column": project.columns["email"]}
        with broken_users_table(project.database.dsn(), how, **options):
            yield

    return broken


@pytest.fixture
def sync_failures(project: Project) -> Iterator[Callable[[], dict[Any, Any]]]:
    """Read the failures table, by user. No test leaves an address in it, whatever it did."""

    def read() -> dict[Any, Any]:
        return {failure.user_id: failure for failure in project.client.failures()}

    yield read
    table = "to_regclass('usersync.sync_failures') is not null"
    if project.owner.execute(f"select {table}").fetchone()[0]:
        lines = project.owner.execute("select f::text from usersync.sync_failures as f").fetchall()
        assert not [line for (line,) in lines if "@" in line]


@pytest.fixture
def healed(project: Project, sync_failures: Any) -> Callable[[], None]:
    """Reconcile what was repaired, and see that nothing is left of it."""

    def heal() -> None:
        project.client.reconcile()
        # A deletion that failed is tried again by retry, and by no run.
        assert {each.kind for each in sync_failures().values()} <= {"removal"}
        if sync_failures():
            project.client.retry()
        assert sync_failures() == {}
        assert project.client.status().in_step

    return heal


@pytest.fixture
def log(server: Any) -> Callable[[], str]:
    """What the server's log has gained since the test began, by this test and its neighbours."""
    start = server.log_path.stat().st_size

    def read() -> str:
        with server.log_path.open("rb") as file:
            file.seek(start)
            return file.read().decode(errors="replace")

    return read
