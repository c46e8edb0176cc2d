"""The doctor, and somebody who pastes what it says."""

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

    from fix_project import Project
    from usersync.config.settings import Settings
    from usersync.models import Check


@dataclass
class Clinic:
    """Examines a project, and applies the fixes that come out, as they are printed."""

    project: Project
    #: Who runs the SQL of a fix: the owner, unless only a superuser may.
    surgeon: psycopg.Connection
    settings: Settings

    def check(self, code: str) -> Check:
        (check,) = run(examine(self.settings, choose([code])), self.project.owner)
        return check

    def check_all(self) -> dict[str, Check]:
        return {check.code: check for check in run(examine(self.settings), self.project.owner)}

    def sick(self) -> dict[str, str]:
        """The checks that are not ok, and what they say."""
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
            self.surgeon.execute("\n".join(sql))

    def _commands(self) -> dict[str, Callable[[], object]]:
        client = self.project.client
        return {
            "usersync apply": lambda: run(installation.apply(self.settings), self.project.owner),
            "usersync sync": client.reconcile,
            "usersync sync --resume": lambda: client.reconcile(resume=True),
            "usersync sync --dry-run": lambda: client.reconcile(dry_run=True),
            "usersync failures": client.failures,
            "usersync retry": client.retry,
            'usersync sql | psql --set ON_ERROR_STOP=1 "$SUPABASE_DB_URL"': lambda: self.surgeon.execute(
                install_script(self.settings, transaction=True)
            ),
        }

    def cures(self, code: str, status: str = "problem") -> Check:
        """See the check fail, paste its fix, see it pass; return what it said."""
        check = self.check(code)
        assert check.status == status, check
        self.apply(check)
        after = self.check(code)
        assert after.status == "ok", after
        return check


@pytest.fixture
def clinic(project: Project) -> Clinic:
    return Clinic(project, project.owner, project.settings)


@pytest.fixture
def root(project: Project):
    """A superuser's connection, for what only the platform can break."""
    with project.database.connect("supabase_admin") as connection:
        yield connection


@pytest.fixture
def theatre(clinic: Clinic, root: psycopg.Connection) -> Clinic:
    """The clinic, with a superuser at the table."""
    clinic.surgeon = root
    return clinic


@pytest.fixture
def asks_for_log() -> bool:
    return True
