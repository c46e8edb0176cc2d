"""Fixtures with a project that doctor checks, and a function that pastes the printed fixes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from usersync.doctor import choose, examine
from usersync.schema import installation
from usersync.sql.script import install_script
from usersync.transports.run import run

if TYPE_CHECKING:
    from collections.abc import Callable

    import psycopg

    from fixtures_project import Project
    from usersync.config.settings import Settings
    from usersync.models import Check


@dataclass
class CheckedProject:
    """A project, its checks, and their fixes, which run as printed."""

    project: Project
    #: The connection that runs the SQL of a fix: the owner's, or a superuser's if the fix requires one.
    fix_connection: psycopg.Connection
    settings: Settings

    def check(self, code: str) -> Check:
        (check,) = run(examine(self.settings, choose([code])), self.project.owner)
        return check

    def check_all(self) -> dict[str, Check]:
        return {check.code: check for check in run(examine(self.settings), self.project.owner)}

    def failing(self) -> dict[str, str]:
        """The detail of each check that is not ok, by code."""
        return {code: check.detail for code, check in self.check_all().items() if check.status != "ok"}

    def apply(self, check: Check) -> None:
        """Paste the fix."""
        sql = []
        for line in check.fix.splitlines():
            if line.startswith("usersync "):
                self._commands()[line]()
            else:
                sql.append(line)
        if any(not line.startswith("--") for line in sql):
            self.fix_connection.execute("\n".join(sql))

    def _commands(self) -> dict[str, Callable[[], object]]:
        client = self.project.client
        return {
            "usersync apply": lambda: run(installation.apply(self.settings), self.project.owner),
            "usersync sync": client.reconcile,
            "usersync sync --resume": lambda: client.reconcile(resume=True),
            "usersync sync --dry-run": lambda: client.reconcile(dry_run=True),
            "usersync failures": client.failures,
            "usersync retry": client.retry,
            'usersync sql | psql --set ON_ERROR_STOP=1 "$SUPABASE_DB_URL"': lambda: (
                self.fix_connection.execute("\n".join(install_script(self.settings)))
            ),
        }

    def is_fixed_by_pasting(self, code: str, status: str = "problem") -> Check:
        """Assert that the check fails and that pasting its fix makes it pass; return the failed check."""
        check = self.check(code)
        assert check.status == status, check
        self.apply(check)
        after = self.check(code)
        assert after.status == "ok", after
        return check


@pytest.fixture
def checked(project: Project) -> CheckedProject:
    return CheckedProject(project, project.owner, project.settings)


@pytest.fixture
def root(project: Project):
    """A superuser's connection, for changes that only Supabase itself can make."""
    with project.database.connect("supabase_admin") as connection:
        yield connection


@pytest.fixture
def checked_as_superuser(checked: CheckedProject, root: psycopg.Connection) -> CheckedProject:
    """The same project, with a superuser's connection for the fixes."""
    checked.fix_connection = root
    return checked


@pytest.fixture
def audit_enabled() -> bool:
    return True
